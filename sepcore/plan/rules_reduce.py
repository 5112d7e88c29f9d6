"""Planning rules for reductions over axes and for softmax."""

from __future__ import annotations

from math import prod

from sepcore.ir.graph import Node
from sepcore.kernels import step as words
from sepcore.kernels.reduce import rows as reduce_rows
from sepcore.kernels.reduce import softmax as softmax_rows
from sepcore.plan import rules_elementwise
from sepcore.plan.lowering import Lowering, float_bits
from sepcore.plan.rules_shape import new_tensor
from sepcore.plan.strided import Axis, copy, merged
from sepcore.plan.tensors import FLOAT, Map, View, contiguous, map_shape

_KINDS = {"reduce_mean": "sum", "reduce_sum": "sum", "reduce_max": "maximum", "reduce_min": "minimum"}
_DENSE = (FLOAT, FLOAT)


def reduce(p: Lowering, node: Node) -> None:
    """Mean, sum, maximum or minimum over any axes."""
    name, axes = node.inputs[0], node.attrs["axes"]
    x = p.tensors.get(name)
    if node.op == "reduce_mean" and axes == (2, 3) and isinstance(x, Map):
        rules_elementwise.global_average_pool(p, node)
        return
    view = p.view(name)
    kept = [axis for axis in range(len(view.shape)) if axis not in axes]
    out = _reduced_map(p, node, view, kept) or new_tensor(p, node.output, name)
    target = out.permuted(kept) if node.attrs["keepdims"] else out
    if _reduce(p, node, view.permuted(kept), view.permuted(axes), target):
        return
    # With what is reduced behind what is kept, both run on.
    made = contiguous(p.memory(FLOAT * prod(view.shape)), tuple(view.shape[axis] for axis in (*kept, *axes)))
    copy(p, view.permuted([*kept, *axes]), made)
    parts = made.permuted(range(len(kept))), made.permuted(range(len(kept), len(view.shape)))
    if not _reduce(p, node, *parts, target):
        raise p.fail(f"axes {axes} of {view.shape}: no kernel reduces them")


def _reduced_map(p: Lowering, node: Node, view: View, kept: list[int]) -> View | None:
    """Memory for the result as a map, where it can be one and its channels are next to each other in ``view``."""
    shape = p.shape(node.output)
    if map_shape(shape) is None or shape[1] == 1:
        return None
    channels = 1 if node.attrs["keepdims"] else kept[1]
    return p.new_map(node.output).view(shape) if view.strides[channels] == FLOAT else None


def _reduce(p: Lowering, node: Node, kept: View, reduced: View, out: View) -> bool:
    """A step, if a kernel walks these strides. ``kept`` and ``reduced`` are x without the other's axes."""
    outer, inner = merged([kept, out]), [axis[:2] for axis in merged([reduced])]
    columns = next((axis for axis in outer if axis[1:] == _DENSE and axis[0] > 1), None)
    if columns is not None and len(outer) <= reduce_rows.KEPT_AXES and len(inner) <= reduce_rows.REDUCED_AXES:
        outer.remove(columns)
        _reduce_step(p, node, "across", [*_filled(outer, reduce_rows.KEPT_AXES - 1, 2), columns], inner, kept, out)
        return True
    if inner and (inner[-1][1] != FLOAT or len(inner) > reduce_rows.REDUCED_AXES):
        return False
    if len(outer) > reduce_rows.KEPT_AXES:
        return False
    p.scratch(FLOAT * p.isa.lanes)
    _reduce_step(p, node, "along", _filled(outer, reduce_rows.KEPT_AXES, 2), inner, kept, out)
    return True


def _reduce_step(
    p: Lowering, node: Node, direction: str, kept: list[Axis], reduced: list[Axis], x: View, out: View
) -> None:
    r = reduce_rows
    reduced = _filled(reduced, r.REDUCED_AXES, 1)
    count = prod(axis[0] for axis in reduced)
    scale = 1.0 / count if node.op == "reduce_mean" else 1.0
    units = prod(axis[0] for axis in kept) // (p.isa.lanes if direction == "across" else 1)
    blocks = p.split(units, max(1, 4096 // count))
    shape = {r.BLOCKS: blocks, words.PARAMETERS: float_bits(scale, 0.0)}
    for i, (length, x_stride, out_stride) in enumerate(kept):
        shape |= {r.KEPT + i: length, r.X_KEPT + i: x_stride, r.OUT_KEPT + i: out_stride}
    for i, (length, x_stride) in enumerate(reduced):
        shape |= {r.REDUCED + i: length, r.X_REDUCED + i: x_stride}
    kernel = r.row(_KINDS[node.op], direction, p.isa.name)
    p.step(kernel, blocks, shape, x=(x.buffer, x.offset), out=(out.buffer, out.offset))


def _filled(axes: list[Axis], count: int, operands: int) -> list[Axis]:
    """As many axes as a kernel walks, the first of length one."""
    return [(1, *[0] * operands)] * (count - len(axes)) + axes


def softmax(p: Lowering, node: Node) -> None:
    """softmax and log_softmax along any axis."""
    name, axis, r = node.inputs[0], node.attrs["axis"], softmax_rows
    if isinstance(p.tensors.get(name), Map):
        x, out = p.view(name), new_tensor(p, node.output, name)
    else:
        x, out = p.as_plain(name).view(), p.new_plain(node.output).view()
    rest = [other for other in range(len(x.shape)) if other != axis]
    outer = merged([x.permuted(rest), out.permuted(rest)])
    strides = (x.strides[axis], out.strides[axis])
    along = strides == _DENSE and x.shape[axis] > 1
    columns = None if along else next((other for other in outer if other[1:] == _DENSE), None)
    if columns is not None:
        outer.remove(columns)
    if along:
        p.scratch(FLOAT * p.isa.lanes)
    units = prod(other[0] for other in outer) * (columns[0] // p.isa.lanes + 1 if columns else 1)
    blocks = p.split(units, max(1, 1024 // x.shape[axis]))
    shape = {
        r.LENGTH: x.shape[axis],
        r.X_STRIDE: strides[0],
        r.OUT_STRIDE: strides[1],
        r.COLUMNS: columns[0] if columns else 1,
        r.BLOCKS: blocks,
    }
    for i, (length, x_stride, out_stride) in enumerate(_filled(outer, r.OUTER_AXES, 2)):
        shape |= {r.OUTER + i: length, r.X_OUTER + i: x_stride, r.OUT_OUTER + i: out_stride}
    kernel = r.row(node.op, "along" if along else "across", p.isa.name)
    p.step(kernel, blocks, shape, x=(x.buffer, x.offset), out=(out.buffer, out.offset))
