"""Why operators that have no row are refused.

It must not decide anything: what has a row is translated.
"""

from __future__ import annotations

from sepcore.formats.onnx.model import DEFAULT_DOMAIN, OnnxNode

_QUANTISED = frozenset(("ConvInteger", "MatMulInteger", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"))
_CONTROL_FLOW = frozenset(("If", "Loop", "Scan", "SequenceMap"))


def refusal(node: OnnxNode) -> str:
    """The reason why there is no row for ``node``."""
    if node.op in _QUANTISED or node.op.startswith("QLinear") or node.op.endswith("QuantizeLinear"):
        return "a quantised operator: int8 arrives with quantisation; export the float model"
    if node.domain != DEFAULT_DOMAIN:
        return (
            f"an operator of the domain {node.domain!r}, which is neither ONNX's nor defined in the file; @sepcore.op("
            f'"{node.domain}::{node.op}") registers a function for it'
        )
    if node.op in _CONTROL_FLOW:
        return "control flow: sepcore runs graphs without branches and loops"
    return "no operator of sepcore's graph expresses it"
