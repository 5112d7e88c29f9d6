"""Why operators that have no row are refused, and which nodes compute nothing.

It must not decide anything else: what has a row is translated.
"""

from __future__ import annotations

_ASSERTIONS = ("aten._assert", "aten.sym_constrain_range", "aten._functional_assert", "aten._functional_sym_constrain")

_REASONS = (
    ("quantized_decomposed.", "a quantised operator: int8 arrives with quantisation; export the float model"),
    ("torchao.", "a quantised operator: int8 arrives with quantisation; export the float model"),
    ("aten.quantize", "a quantised operator: int8 arrives with quantisation; export the float model"),
    ("aten.fake_quantize", "a quantised operator: int8 arrives with quantisation; export the float model"),
    ("higher_order.", "control flow, or another region with rules of its own; try run_decompositions() before saving"),
    ("aten.rand", "random numbers"),
    ("aten.bernoulli", "random numbers"),
    ("aten.native_dropout", "training mode; export the module after model.eval()"),
)


def is_assertion(target: str) -> bool:
    """Whether a node only checks something when it runs."""
    return target.startswith(_ASSERTIONS)


def refusal(target: str) -> str:
    """The reason why there is no row for an operator."""
    for prefix, reason in _REASONS:
        if target.startswith(prefix):
            return reason
    if not target.startswith(("aten.", "_operator.", "torch.", "math.")):
        library, _, name = target.partition(".")
        advice = f'@sepcore.op("{library}::{name}") registers a function for it'
        return f"an operator of {library!r}, which is none of PyTorch's own; {advice}"
    return "no operator of sepcore's graph expresses it"
