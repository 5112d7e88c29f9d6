"""Recognises hardsigmoid and hardswish in their spellings.

It must not take other piecewise linear functions for them.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph, Node
from sepcore.ir.ops import operator_of
from sepcore.ir.ops.activation import HARDSIGMOID_ALPHA, HARDSIGMOID_BETA
from sepcore.passes.expression import affine, close, products
from sepcore.passes.rewrite import Rewrite, replaced


def fuse_hardswish(graph: Graph) -> Graph:
    """Turn clip((x + 3) / 6, 0, 1) into ``hardsigmoid`` and x times that into ``hardswish``.

    Source: Howard et al., Searching for MobileNetV3, 2019, section 5.2.
    """
    return replaced(replaced(graph, _match_hardsigmoid), _match_hardswish)


def _match_hardsigmoid(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op not in ("mul", "div", "clamp", "hardsigmoid"):
        return None
    outer = affine(rewrite, node.output)
    x = _hardsigmoid_argument(rewrite, outer.value, outer.scale)
    if x is None or outer.offset:
        return None
    return node.with_(op="hardsigmoid", inputs=(x,), attrs={"alpha": HARDSIGMOID_ALPHA, "beta": HARDSIGMOID_BETA})


def _match_hardswish(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op not in ("mul", "div"):
        return None
    for factor, x, gate in products(rewrite, node):
        if _hardsigmoid_argument(rewrite, gate, factor) == x:
            return node.with_(op="hardswish", inputs=(x,), attrs={})
    return None


def _hardsigmoid_argument(rewrite: Rewrite, name: str, scale: float) -> str | None:
    """x, where scale * ``name`` is the hardsigmoid of x."""
    node = rewrite.producer(name, "hardsigmoid", "clamp")
    if node is None:
        return None
    row = operator_of(node)
    if node.op == "hardsigmoid":
        alpha, beta, top, x = row.attribute(node, "alpha"), row.attribute(node, "beta"), 1.0, node.inputs[0]
    else:
        inner = affine(rewrite, node.inputs[0])
        top, x = row.attribute(node, "hi"), inner.value
        if row.attribute(node, "lo") != 0:
            return None
        alpha, beta = inner.scale * scale, inner.offset * scale
    fits = close(top * scale, 1.0) and close(alpha, HARDSIGMOID_ALPHA) and close(beta, HARDSIGMOID_BETA)
    return x if fits else None
