"""Operators that choose among the elements of a tensor, or put some in the place of others.

It must not know how a plan avoids moving them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from sepcore.formats.torch_export.call import INT64, AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.arithmetic import as_value, operand_or_number
from sepcore.formats.torch_export.ops.lengths import Length, as_scalar, axis_length, scaled_length, vector
from sepcore.formats.torch_export.ops.row import Row, Rows

_FARTHEST = (1 << 63) - 1


def _sliced(call: AtenCall, x: Value, axis: int, start: Length, end: Length, step: int = 1) -> str:
    if isinstance(start, int) and isinstance(end, int):
        return call.emit("slice", x, axes=(axis,), starts=(start,), ends=(end,), steps=(step,))
    return call.emit("slice", x, vector(call, (start,)), vector(call, (end,)), axes=(axis,), steps=(step,))


def _slice(call: AtenCall) -> Value:
    x = call.operand("self")
    axis, step = call.axis("dim", x.rank, 0), call.integer("step", 1)
    if step < 1:
        raise call.error("argument 'step'", "a positive integer", str(step))
    return _sliced(call, x, axis, call.length("start", 0), call.length("end", _FARTHEST), step)


def _narrow(call: AtenCall) -> Value:
    x, start, length = call.operand("self"), call.integer("start"), call.integer("length")
    axis = call.axis("dim", x.rank)
    end = start + length
    return _sliced(call, x, axis, start, end if end or start >= 0 else _FARTHEST)


def _at(call: AtenCall, x: Value, axis: int, index: int) -> str:
    """The slice of length one at ``index``."""
    return _sliced(call, x, axis, index, _FARTHEST if index == -1 else index + 1)


def _select(call: AtenCall) -> Value:
    x, index = call.operand("self"), call.length("index")
    axis = call.axis("dim", x.rank)
    if isinstance(index, Operand):
        return call.emit("gather", x, index, axis=axis)
    return call.emit("squeeze", _at(call, x, axis, index), axes=(axis,))


def _parts(call: AtenCall, x: Operand, axis: int, sizes: Sequence[int]) -> Sequence[Value]:
    if any(size < 1 for size in sizes):
        raise UnsupportedError(f"parts without elements, {tuple(sizes)}")
    return call.emit_many("split", x, outputs=len(sizes), axis=axis, sizes=tuple(sizes))


def _even_parts(call: AtenCall, x: Operand, axis: int, size: Length) -> Sequence[Value]:
    """Parts of ``size``; the last may be smaller."""
    length, count = x.shape[axis], call.output_count
    if isinstance(length, str) or not isinstance(size, int):
        ends = [scaled_length(call, size, "mul", position) for position in range(1, count + 1)]
        return [_sliced(call, x, axis, start, end) for start, end in zip((0, *ends), ends)]
    if size < 1 or -(-length // size) != count:
        raise call.error("outputs", f"as many as parts of {size} of an axis of {length}", str(count))
    return _parts(call, x, axis, [min(size, length - i * size) for i in range(count)])


def _split(call: AtenCall) -> Sequence[Value]:
    x = call.operand("self")
    return _even_parts(call, x, call.axis("dim", x.rank, 0), call.length("split_size"))


def _split_with_sizes(argument: str) -> Row:
    def row(call: AtenCall) -> Sequence[Value]:
        x, sizes = call.operand("self"), call.lengths(argument)
        axis = call.axis("dim", x.rank, 0)
        numbers = tuple(size for size in sizes if isinstance(size, int))
        if len(numbers) == len(sizes):
            return _parts(call, x, axis, numbers)
        ends: list[Value] = list(
            accumulate((as_scalar(call, size) for size in sizes), lambda a, b: call.emit("add", a, b))
        )
        return [_sliced(call, x, axis, start, end) for start, end in zip((0, *ends), ends)]

    return row


def _chunk(call: AtenCall) -> Sequence[Value]:
    x, chunks = call.operand("self"), call.integer("chunks")
    axis = call.axis("dim", x.rank, 0)
    if chunks < 1:
        raise call.error("argument 'chunks'", "a positive integer", str(chunks))
    length = axis_length(call, x, axis)
    more = (
        length + chunks - 1 if isinstance(length, int) else call.emit("add", length, call.constant(chunks - 1, INT64))
    )
    return _even_parts(call, x, axis, scaled_length(call, more, "floor_div", chunks))


def _unbind(call: AtenCall) -> Sequence[Value]:
    x = call.operand("self")
    axis = call.axis("dim", x.rank, 0)
    return [
        call.emit("squeeze", part, axes=(axis,)) for part in _parts(call, x, axis, (1,) * max(call.output_count, 1))
    ]


def _index_select(call: AtenCall) -> Value:
    x = call.operand("self")
    return call.emit("gather", x, call.operand("index"), axis=call.axis("dim", x.rank))


def _embedding(call: AtenCall) -> Value:
    return call.emit("gather", call.operand("weight"), call.operand("indices"), axis=0)


def _index(call: AtenCall) -> Value:
    """Indices for one axis, or for two neighbours of which the first varies along rows and the second along columns."""
    x, indices = call.operand("self"), call.operands("indices")
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if any(index.dtype.kind not in "iu" for _, index in given) or len(indices) > x.rank:
        raise UnsupportedError("indices that are truth values")
    if len(given) == 1:
        ((axis, index),) = given
        return call.emit("gather", x, index, axis=axis)
    if len(given) == 2:
        (first, rows), (second, columns) = given
        if second == first + 1 and rows.rank == 2 and rows.shape[1] == 1 and columns.rank == 1:
            chosen = call.emit("gather", x, call.emit("squeeze", rows, axes=(1,)), axis=first)
            return call.emit("gather", chosen, columns, axis=second)
    raise UnsupportedError("indices for several axes")


def _flip(call: AtenCall) -> Value:
    x = call.operand("self")
    axes = call.axes("dims", x.rank)
    count = len(axes)
    starts, ends = (_FARTHEST,) * count, (-_FARTHEST,) * count
    return call.emit("slice", x, axes=axes, starts=starts, ends=ends, steps=(-1,) * count)


def _roll(call: AtenCall) -> Value:
    x, shifts = call.operand("self"), call.integers("shifts")
    axes = call.axes("dims", x.rank) if call.given("dims") else ()
    if len(axes) != len(shifts):
        raise UnsupportedError("shifts that are not one per axis")
    made: Value = x
    for axis, given in zip(axes, shifts):
        length = x.shape[axis]
        shift = given % max(length, 1) if isinstance(length, int) else given
        if shift:
            end = _sliced(call, made, axis, -shift, _FARTHEST)
            made = call.emit("concat", end, _sliced(call, made, axis, 0, -shift), axis=axis)
    return made if made is not x else call.emit("identity", x)


# Putting elements in the place of others


def _replaced(call: AtenCall, base: Operand, content: Value, axis: int, start: int, end: int) -> str:
    """``base`` with ``content`` in the place of the elements ``start`` to ``end`` of an axis."""
    length = base.shape[axis]
    if isinstance(length, int):
        start, end, _ = slice(start, end).indices(length)
    before = (_sliced(call, base, axis, 0, start),) if start else ()
    after = (_sliced(call, base, axis, end, _FARTHEST),) if end not in (length, _FARTHEST) else ()
    return call.emit("concat", *before, content, *after, axis=axis)


def slice_replaced(call: AtenCall, base: Operand, content: Value) -> str:
    """``base`` with the slice that the arguments name made ``content``."""
    axis = call.axis("dim", base.rank, 0)
    if call.integer("step", 1) != 1:
        raise UnsupportedError("a write to every so many elements")
    return _replaced(call, base, content, axis, call.integer("start", 0), call.integer("end", _FARTHEST))


def element_replaced(call: AtenCall, base: Operand, content: Value) -> str:
    """``base`` with the element of an axis that the arguments name made ``content``."""
    axis, index = call.axis("dim", base.rank), call.integer("index")
    end = index + 1 if index != -1 else _FARTHEST
    return _replaced(call, base, call.emit("unsqueeze", content, axes=(axis,)), axis, index, end)


def _slice_scatter(call: AtenCall) -> Value:
    return slice_replaced(call, call.operand("self"), call.cast(call.operand("src"), call.output.dtype))


def _select_scatter(call: AtenCall) -> Value:
    return element_replaced(call, call.operand("self"), call.cast(call.operand("src"), call.output.dtype))


def _copy(call: AtenCall) -> Value:
    source = call.cast(call.operand("src"), call.output.dtype)
    return call.emit("expand", source, call.emit("shape", call.operand("self")))


def _fill(call: AtenCall) -> Value:
    content = as_value(call, operand_or_number(call, "value"), call.output.dtype)
    return call.emit("expand", content, call.emit("shape", call.operand("self")))


def _zero(call: AtenCall) -> Value:
    content = call.constant(0, call.output.dtype)
    return call.emit("expand", content, call.emit("shape", call.operand("self")))


OPERATORS: Rows = {
    "aten.slice.Tensor": _slice,
    "aten.narrow.default": _narrow,
    "aten.select.int": _select,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split_with_sizes("split_sizes"),
    "aten.split.sizes": _split_with_sizes("split_size"),
    "aten.chunk.default": _chunk,
    "aten.unbind.int": _unbind,
    "aten.index_select.default": _index_select,
    "aten.embedding.default": _embedding,
    "aten.index.Tensor": _index,
    "aten.flip.default": _flip,
    "aten.roll.default": _roll,
    "aten.slice_scatter.default": _slice_scatter,
    "aten.select_scatter.default": _select_scatter,
    "aten.copy.default": _copy,
    "aten.fill.Scalar": _fill,
    "aten.fill.Tensor": _fill,
    "aten.zero.default": _zero,
}
