"""Planning rules for users' operators: behind a kernel's store, over any tensor, or as a range kernel."""

from __future__ import annotations

from math import prod

from sepcore.ir.graph import Node
from sepcore.ir.ops import custom
from sepcore.kernels.custom import rows
from sepcore.plan.drafts import Buffer
from sepcore.plan.lowering import Lowering
from sepcore.plan.rules_arithmetic import unary_step


def operator(p: Lowering, node: Node) -> None:
    """An operator of the user's."""
    name = node.op.removeprefix(custom.PREFIX)
    registered, user = custom.find(node.op), rows.user(name)
    if registered is None or user is None:
        raise p.fail(f"expected {custom.advice(node.op)}, found none of that name")
    attributes = tuple(node.attrs[attribute] for attribute in registered.operator.attributes)
    if not registered.elementwise:
        _range(p, node, user, attributes)
    elif not p.call_behind(node.inputs[0], rows.epilogue(user, attributes, p.isa.name)):
        unary_step(p, node, rows.elementwise(user, attributes, p.isa.name))


def _range(p: Lowering, node: Node, user: rows.UserFunction, attributes: tuple[rows.Attribute, ...]) -> None:
    shapes = [p.shape(name) for name in (node.output, *node.inputs)]
    for shape in shapes if user.axis is not None else ():
        if not 1 <= len(shape) <= rows.AXES:
            raise p.fail(f"expected arrays of 1 to {rows.AXES} axes, found shape {shape}")
    if user.axis is not None and not 0 <= user.axis < len(shapes[0]):
        raise p.fail(f"axis: expected one of an output of shape {shapes[0]}, found {user.axis}")
    inputs = [_plain(p, name) for name in node.inputs]
    out = p.new_plain(node.output)
    units = prod(shapes[0]) if user.axis is None else shapes[0][user.axis]
    blocks = p.split(units, 1 if user.axis is not None else _LEAST_ELEMENTS)
    given = [(prod(shape),) if user.axis is None else shape for shape in shapes]
    lengths = {rows.LENGTHS + i: length for i, length in enumerate(length for shape in given for length in shape)}
    kernel = rows.range_kernel(user, attributes, tuple(map(len, given)), p.isa.name)
    p.step(
        kernel,
        blocks,
        {rows.UNITS: units, rows.BLOCKS: blocks, **lengths},
        x=inputs[0],
        out=(out.buffer, 0),
        extra=inputs[1] if len(inputs) > 1 else None,
        more=dict(zip(rows.INPUTS[2:], inputs[2:])),
    )


_LEAST_ELEMENTS = 256
"""Elements that are worth a thread's while."""


def _plain(p: Lowering, name: str) -> tuple[Buffer, int]:
    """Where a value, or a constant, lies in C order."""
    if name in p.tensors:
        return p.as_plain(name).buffer, 0
    return p.view(name).buffer, 0
