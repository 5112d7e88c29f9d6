"""Operators of other domains that users have registered.

It must not know any of them.
"""

from __future__ import annotations

from sepcore.formats.onnx.model import OnnxNode
from sepcore.formats.onnx.ops.row import Row
from sepcore.formats.onnx.step import Operand, Step
from sepcore.ir.ops import custom
from sepcore.ir.ops.attributes import INT


def users_row(node: OnnxNode) -> Row | None:
    """The row of the user's operator that ``node`` calls, if one of that name is registered."""
    user = custom.named(f"{node.domain}::{node.op}")
    if user is None:
        return None
    operator = user.operator

    def translate(step: Step) -> Operand:
        operands = [step.floating(position) for position in range(len(operator.inputs))]
        attributes = {
            name: (step.integer if attribute.kind is INT.kind else step.number)(name, attribute.default)
            for name, attribute in operator.attributes.items()
        }
        return step.emit(operator.name, *operands, **attributes)

    return Row(node.op, translate, len(operator.inputs), len(operator.inputs))
