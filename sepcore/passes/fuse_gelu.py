"""Recognises GELU, exact and approximated by tanh, in their spellings.

It must not take the sigmoid approximation for either.
"""

from __future__ import annotations

import math

from sepcore.ir.graph import Graph, Node
from sepcore.passes.expression import affine, close, is_polynomial, products
from sepcore.passes.rewrite import Rewrite, replaced

_TANH_SCALE = math.sqrt(2 / math.pi)
_ARGUMENTS = {
    "erf": ("none", (0.0, math.sqrt(0.5))),
    "tanh": ("tanh", (0.0, _TANH_SCALE, 0.0, _TANH_SCALE * 0.044715)),
}
"""Function -> how ``gelu`` calls this form, and the polynomial in x that the function is of."""


def fuse_gelu(graph: Graph) -> Graph:
    """Turn x * 0.5 * (1 + erf(x / sqrt(2))) and its tanh form into ``gelu``. Source: Hendrycks and Gimpel, 2016."""
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op not in ("mul", "div"):
        return None
    for factor, x, gate in products(rewrite, node):
        value, scale, offset = affine(rewrite, gate)
        function = rewrite.producer(value, *_ARGUMENTS)
        if function is None or not (close(factor * scale, 0.5) and close(factor * offset, 0.5)):
            continue
        approximate, argument = _ARGUMENTS[function.op]
        if is_polynomial(rewrite, function.inputs[0], x, argument):
            return node.with_(op="gelu", inputs=(x,), attrs={"approximate": approximate})
    return None
