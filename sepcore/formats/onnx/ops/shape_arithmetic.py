"""Constants, casts, and operators that carry shapes through a graph.

It must not know what the shapes are used for.
"""

from __future__ import annotations

from functools import reduce
from math import prod

import numpy as np

from sepcore.formats.onnx.ops.activation import plain
from sepcore.formats.onnx.ops.row import Row
from sepcore.formats.onnx.step import Operand, Step, UnsupportedError
from sepcore.formats.onnx.tensors import UnreadableTypeError, element_type
from sepcore.ir.graph import Array

_MOST_SLICES = 64
_MOST_CLASSES = 1 << 20


def _constant(step: Step) -> Operand:
    """One attribute of several holds the value."""
    if len(step.node.attributes) != 1:
        raise step.error("attributes", "one value", str(list(step.node.attributes)))
    (name,) = step.node.attributes
    if name == "value":
        return step.constant(step.tensor(name))
    if name in ("value_float", "value_floats"):
        given = step.number(name, finite=False) if name == "value_float" else step.numbers(name)
        return step.constant(given, np.float32)
    if name in ("value_int", "value_ints"):
        return step.constant(step.integer(name) if name == "value_int" else step.integers(name), np.int64)
    raise UnsupportedError(f"a constant given as {name!r}")


def _cast(step: Step) -> Operand:
    step.ignore("saturate", "round_mode")
    try:
        row = element_type(step.path, f"node {step.node.title}, attribute 'to'", step.integer("to"))
    except UnreadableTypeError as error:
        raise UnsupportedError(str(error)) from None
    return step.cast(step.input(0), row.dtype)


def _cast_like(step: Step) -> Operand:
    step.ignore("saturate", "round_mode")
    return step.cast(step.input(0), step.input(1).dtype)


def _shape(step: Step) -> Operand:
    """The lengths of the axes ``start`` to ``end``, both clipped (since opset 15); all where they are not given."""
    x = step.input(0)
    kept = range(x.rank)[slice(step.integer("start", 0), step.integer("end", x.rank))]
    lengths = x.shape[kept.start : kept.stop] if kept else ()
    numbers = [length for length in lengths if length is not None]
    if len(numbers) == len(lengths):
        return step.constant(numbers, np.int64)
    shape = step.emit("shape", x)
    if len(kept) == x.rank:
        return shape
    return step.emit("slice", shape, axes=(0,), starts=(kept.start,), ends=(kept.stop,), steps=(1,))


def _size(step: Step) -> Operand:
    x = step.input(0)
    shape = step.emit("shape", x)
    lengths = [step.emit("gather", shape, step.constant(axis, np.int64), axis=0) for axis in range(x.rank)]
    return reduce(lambda a, b: step.emit("mul", a, b), lengths, step.constant(1, np.int64))


def _gather(step: Step) -> Operand:
    """Of activations, constant indices along one axis are slices; of anything else, it stays what it is."""
    x, indices = step.inputs()
    axis = step.axis(step.integer("axis", 0), x.rank)
    if x.rank == 0 or indices.dtype.kind not in "iu":
        raise step.error("inputs", "an axis to take from, and integers", f"{x.rank} axes and {indices.dtype}")
    few = indices.content is not None and indices.rank < 2 and 1 <= indices.content.size <= _MOST_SLICES
    if not few or not x.floating or x.content is not None:
        return step.emit("gather", x, indices, axis=axis)
    found = [int(index) for index in step.content(1, "the indices").reshape(-1)]
    length = x.shape[axis]
    if length is not None and not all(-length <= index < length for index in found):
        raise step.error("the indices", f"-{length} ... {length - 1}", str(found))
    parts = [_slice(step, x, axis, index) for index in found]
    if indices.rank == 0:
        return step.emit("squeeze", parts[0], axes=(axis,))
    return step.emit("concat", *parts, axis=axis) if len(parts) > 1 else parts[0]


def _gather_nd(step: Step) -> Operand:
    """Constant indices of as many first axes as their last axis is long: axis by axis, where they form a grid.

    So the exporter writes PyTorch's ``x[rows, columns]``, of which adaptive pooling of uneven windows is made.
    """
    x, indices = step.input(0), step.content(1, "the indices")
    if step.integer("batch_dims", 0):
        raise UnsupportedError("indices that differ from image to image")
    count = indices.shape[-1] if indices.ndim else 0
    if indices.dtype.kind not in "iu" or not 1 <= count <= x.rank:
        raise step.error("input 1", f"1 ... {x.rank} integers each", f"{indices.dtype}{list(indices.shape)}")
    if not indices.size:
        raise UnsupportedError("no elements are taken")
    indices = indices.astype(np.int64)
    return _from_grid(step, x, indices) or _from_row(step, x, indices)


def _from_grid(step: Step, x: Operand, indices: Array) -> Operand | None:
    """Axis by axis, where the indices of each axis vary along axes of their own, in order; else None."""
    parts: list[Array] = []
    end, last = 0, indices.ndim - 1
    for axis in range(indices.shape[-1]):
        numbers = indices[..., axis]
        start, end = end, last if axis == indices.shape[-1] - 1 else max(end, _varies_up_to(numbers))
        own = numbers[tuple(slice(None) if start <= other < end else slice(0, 1) for other in range(last))]
        if (numbers != own).any():
            return None
        parts.append(own.reshape(own.shape[start:end]))
    axis = 0
    for part in parts:
        x = step.emit("gather", x, step.constant(part), axis=axis)
        axis += part.ndim
    return x


def _varies_up_to(numbers: Array) -> int:
    """How many axes there are up to the last along which ``numbers`` differ."""
    varying = [axis for axis in range(numbers.ndim) if (numbers != numbers.take([0], axis)).any()]
    return varying[-1] + 1 if varying else 0


def _from_row(step: Step, x: Operand, indices: Array) -> Operand:
    """From all that the indexed axes hold, in one row."""
    count = indices.shape[-1]
    lengths = [length for length in x.shape[:count] if length is not None]
    if len(lengths) < count:
        raise UnsupportedError("indices of several axes that form no grid, some of an open length")
    if prod(lengths) > np.iinfo(np.int64).max:
        raise UnsupportedError(f"axes of {lengths}, too many elements to count")
    if (indices < -np.array(lengths)).any() or (indices >= lengths).any():
        raise step.error("the indices", f"those of axes of {lengths}", f"{indices.min()} ... {indices.max()}")
    places = np.ravel_multi_index(tuple(np.moveaxis(indices % lengths, -1, 0)), tuple(lengths))
    row = step.emit("flatten", x, start_axis=0, end_axis=count - 1)
    return step.emit("gather", row, step.constant(places, np.int64), axis=0)


def _slice(step: Step, x: Operand, axis: int, index: int) -> Operand:
    end = index + 1 if index != -1 else np.iinfo(np.int64).max
    return step.emit("slice", x, axes=(axis,), starts=(index,), ends=(int(end),), steps=(1,))


def _constant_of_shape(step: Step) -> Operand:
    value = step.tensor("value", np.zeros(1, np.float32))
    if value.size != 1:
        raise step.error("attribute 'value'", "one element", str(value.size))
    shape = step.input(0)
    if shape.rank != 1 or shape.dtype.kind not in "iu":
        raise step.error("input 0", "integers along one axis", f"{shape.dtype} with {shape.rank} axes")
    number = value.reshape(()).item()
    return step.emit(
        "constant_of_shape", shape, value=number if value.dtype.kind == "f" else int(number), dtype=value.dtype
    )


def _one_hot(step: Step) -> Operand:
    """``on`` where the new axis counts what the index says, from the end where that is negative, else ``off``."""
    indices, values = step.input(0), step.input(2)
    depth = int(step.constant_number(1, "the depth"))
    if depth < 1 or depth > _MOST_CLASSES or values.shape != (2,):
        raise step.error("the depth and the values", f"1 ... {_MOST_CLASSES} and two", f"{depth} and {values.shape}")
    axis = step.axis(step.integer("axis", -1), indices.rank + 1)
    numbers = step.constant(np.arange(depth).reshape(-1, *(1,) * (indices.rank - axis)), np.int64)
    index = step.emit("unsqueeze", step.cast(indices, np.int64), axes=(axis,))
    below = step.emit("less", index, step.constant(0, np.int64))
    index = step.emit("where", below, step.emit("add", index, step.constant(depth, np.int64)), index)
    off, on = (_slice(step, values, 0, position) for position in range(2))
    return step.emit("where", step.emit("equal", index, numbers), on, off)


OPERATORS = (
    Row("Constant", _constant, 0, 0),
    Row("Cast", _cast, 1, 1),
    Row("CastLike", _cast_like, 2, 2),
    Row("Shape", _shape, 1, 1),
    Row("Size", _size, 1, 1),
    Row("Gather", _gather, 2, 2),
    Row("GatherND", _gather_nd, 2, 2),
    Row("OneHot", _one_hot, 3, 3),
    Row("ConstantOfShape", _constant_of_shape, 1, 1),
    Row("Range", plain("range"), 3, 3),
)
