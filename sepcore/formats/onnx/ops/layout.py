"""Operators that rename, move or repeat elements.

It must not know how a plan avoids moving them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sepcore.formats.onnx.elements import elements_of
from sepcore.formats.onnx.ops.row import MANY, Row
from sepcore.formats.onnx.step import Operand, Step, UnsupportedError

_MOST_REPEATS = 1 << 10
_FARTHEST = 1 << 62


def _alias(step: Step) -> Operand:
    return step.input(0)


def _dropout(step: Step) -> Operand:
    """Nothing when a network is run; the ratio does not matter then."""
    step.ignore("seed", "ratio")
    if step.has(2) and step.content(2, "training_mode").any():
        raise UnsupportedError("training mode; export the model after model.eval()")
    return step.input(0)


def reshaped(step: Step, x: Operand, target: Sequence[int]) -> Operand:
    """``x`` as ``target``, where -1 is the rest and 0 keeps the length that ``x`` has there."""
    if any(length == 0 and axis >= x.rank for axis, length in enumerate(target)):
        raise step.error("the shape", f"0 only for the {x.rank} axes of the input", str(tuple(target)))
    lengths = [x.shape[axis] if length == 0 else length for axis, length in enumerate(target)]
    numbers = tuple(length for length in lengths if length is not None)
    if len(numbers) == len(lengths):
        return step.emit("reshape", x, shape=numbers)
    return step.emit("reshape", x, step.constant(tuple(target), "int64"))


def _reshape(step: Step) -> Operand:
    x, target = step.input(0), step.input(1)
    zeros_are_lengths = step.flag("allowzero")
    if target.content is None:
        return step.emit("reshape", x, target)
    shape = step.constant_integers(1, "the shape")
    if min(shape, default=1) < -1 or shape.count(-1) > 1:
        raise step.error("the shape", "lengths and at most one -1", str(shape))
    if zeros_are_lengths and 0 in shape:
        raise UnsupportedError(f"a shape without elements, {shape}")
    return reshaped(step, x, shape)


def _flatten(step: Step) -> Operand:
    """Always two axes: all before ``axis``, and the rest."""
    x = step.input(0)
    axis = step.integer("axis", 1)
    if not -x.rank <= axis <= x.rank:
        raise step.error("attribute 'axis'", f"-{x.rank} ... {x.rank}", str(axis))
    axis = axis + x.rank if axis < 0 else axis
    if axis in (0, x.rank):
        return step.emit("reshape", x, shape=(1, -1) if axis == 0 else (-1, 1))
    if axis > 1:
        x = step.emit("flatten", x, start_axis=0, end_axis=axis - 1)
    return step.emit("flatten", x, start_axis=1, end_axis=-1) if x.rank > 2 else x


def _given_axes(step: Step) -> tuple[int, ...] | None:
    """Axes as an input (since opset 13), else as an attribute; None where there are none."""
    if step.has(1):
        return step.constant_integers(1, "the axes")
    given: tuple[int, ...] | None = step.integers("axes", None)
    return given


def _squeeze(step: Step) -> Operand:
    x, given = step.input(0), _given_axes(step)
    if given is None:
        if None in x.shape:
            raise UnsupportedError("no axes are given, and the input has open ones")
        axes = tuple(axis for axis, length in enumerate(x.shape) if length == 1)
    else:
        axes = step.axes(given, x.rank)
        if any(x.shape[axis] not in (1, None) for axis in axes):
            raise step.error("axes", f"axes of length 1 in {x.shape}", str(given))
    return step.emit("squeeze", x, axes=axes) if axes else x


def _unsqueeze(step: Step) -> Operand:
    x, given = step.input(0), _given_axes(step)
    if given is None:
        raise step.error("axes", "some", "none")
    return step.emit("unsqueeze", x, axes=step.axes(given, x.rank + len(given)))


def _transpose(step: Step) -> Operand:
    x = step.input(0)
    perm = step.integers("perm", tuple(reversed(range(x.rank))))
    if sorted(perm) != list(range(x.rank)):
        raise step.error("attribute 'perm'", f"the axes 0 ... {x.rank - 1}, each once", str(perm))
    return step.emit("transpose", x, perm=perm)


def _concat(step: Step) -> Operand:
    operands = step.inputs()
    axis = step.axis(step.integer("axis"), operands[0].rank)
    if any(operand.rank != operands[0].rank for operand in operands):
        raise step.error("inputs", "one number of axes", str([operand.rank for operand in operands]))
    return step.emit("concat", *operands, axis=axis) if len(operands) > 1 else operands[0]


def _split(step: Step) -> list[Operand]:
    x = step.input(0)
    axis = step.axis(step.integer("axis", 0), x.rank)
    parts = len(step.node.outputs)
    if step.integer("num_outputs", parts) != parts or parts == 0:
        raise step.error(
            "attribute 'num_outputs'", f"the number of outputs, {parts}", str(step.integer("num_outputs", 0))
        )
    sizes = step.integers("split", ())
    if step.has(1):
        sizes = step.constant_integers(1, "the sizes")
    length = x.shape[axis]
    if not sizes:
        if length is None:
            raise UnsupportedError(f"equal parts of axis {axis}, whose length is open")
        size = -(-length // parts)
        sizes = tuple(max(min(size, length - start * size), 0) for start in range(parts))
    if len(sizes) != parts or (length is not None and sum(sizes) != length):
        found = f"{parts} outputs of {sizes}"
        raise step.error("the sizes", f"one per output, with a sum of {length}", found)
    if min(sizes) < 1:
        raise UnsupportedError(f"parts without elements, {sizes}")
    return step.emit_many("split", x, outputs=len(sizes), axis=axis, sizes=sizes) if len(sizes) > 1 else [x]


def _slice(step: Step) -> Operand:
    x, starts, ends = step.input(0), step.input(1), step.input(2)
    (count,) = starts.shape if starts.rank == 1 else (None,)
    if count is None or starts.shape != ends.shape:
        raise step.error("starts and ends", "one per axis", f"shapes {starts.shape} and {ends.shape}")
    axes = step.constant_integers(3, "the axes") if step.has(3) else tuple(range(count))
    steps = step.constant_integers(4, "the steps") if step.has(4) else (1,) * count
    if len(axes) != count or len(steps) != count or 0 in steps:
        raise step.error("axes and steps", f"{count} each, and no step of 0", f"{axes} and {steps}")
    axes = step.axes(axes, x.rank)
    if starts.content is None or ends.content is None:
        return step.emit("slice", x, starts, ends, axes=axes, steps=steps)
    bounds = (step.constant_integers(position, name) for position, name in ((1, "the starts"), (2, "the ends")))
    first, last = (tuple(max(min(bound, _FARTHEST), -_FARTHEST) for bound in given) for given in bounds)
    return step.emit("slice", x, axes=axes, starts=first, ends=last, steps=steps)


def _pad(step: Step) -> Operand:
    mode = step.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge"):
        raise UnsupportedError(f"mode {mode!r}; sepcore has constant, reflect and edge")
    x = step.input(0)
    value = step.constant_number(2, "the value") if step.has(2) else 0.0
    axes = step.axes(step.constant_integers(3, "the axes"), x.rank) if step.has(3) else tuple(range(x.rank))
    if step.input(1).content is None:
        return step.emit("pad", x, _computed_pads(step, axes, x.rank), mode=mode, value=value)
    flat = step.constant_integers(1, "the padding")
    if len(flat) != 2 * len(axes):
        raise step.error("the padding", f"{2 * len(axes)} numbers", str(flat))
    given = dict(zip(axes, zip(flat[: len(axes)], flat[len(axes) :])))
    pads = tuple(given.get(axis, (0, 0)) for axis in range(x.rank))
    return step.emit("pad", x, pads=pads, mode=mode, value=value)


def _computed_pads(step: Step, axes: tuple[int, ...], rank: int) -> Operand:
    """Padding that follows from shapes, for all axes: those that are not named take a zero that is put behind it."""
    flat = step.input(1)
    if flat.shape != (2 * len(axes),):
        raise step.error("the padding", f"{2 * len(axes)} numbers", f"the shape {flat.shape}")
    if axes == tuple(range(rank)):
        return flat
    padded = step.emit("concat", flat, step.constant([0], flat.dtype), axis=0)
    places = [axes.index(axis) if axis in axes else None for axis in range(rank)]
    befores = [2 * len(axes) if place is None else place for place in places]
    afters = [2 * len(axes) if place is None else place + len(axes) for place in places]
    return step.emit("gather", padded, step.constant(befores + afters, "int64"), axis=0)


def _expand(step: Step) -> Operand:
    x, target = step.input(0), step.input(1)
    if target.content is None:
        return step.emit("expand", x, target)
    shape = step.constant_integers(1, "the shape")
    if min(shape, default=1) < 1:
        raise UnsupportedError(f"a shape without elements, {shape}")
    return step.emit("expand", x, shape=shape)


def _tile(step: Step) -> Operand:
    """Repetition along an axis of length one is a broadcast, any other a concatenation."""
    x = step.input(0)
    known = elements_of(step.input(1))
    computed = step.input(1).content is None and known is not None and len(known) == x.rank
    if computed and all(1 in pair for pair in zip(x.shape, known or ())):
        return step.emit("expand", x, step.input(1))
    repeats = step.constant_integers(1, "the repeats")
    if len(repeats) != x.rank or min(repeats, default=1) < 1:
        raise step.error("the repeats", f"{x.rank} numbers of 1 or more", str(repeats))
    for axis, count in enumerate(repeats):
        if count > 1 and x.shape[axis] == 1:
            x = step.emit("expand", x, shape=tuple(count if other == axis else -1 for other in range(x.rank)))
        elif count > _MOST_REPEATS:
            raise UnsupportedError(f"{count} repeats; at most {_MOST_REPEATS}")
        elif count > 1:
            x = step.emit("concat", *[x] * count, axis=axis)
    return x


def _block(step: Step) -> tuple[Operand, int]:
    x, block = step.input(0), step.integer("blocksize")
    if x.rank != 4 or block < 1:
        raise step.error("input 0 and blocksize", "four axes and 1 or more", f"{x.rank} and {block}")
    return x, block


def _depth_to_space(step: Step) -> Operand:
    """Channels last first, so that only lengths after the kept axes change and the map's size may be open."""
    x, block = _block(step)
    mode = step.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise step.error("attribute 'mode'", "DCR or CRD", repr(mode))
    split = (block, block, -1) if mode == "DCR" else (-1, block, block)
    parts = reshaped(step, step.emit("transpose", x, perm=(0, 2, 3, 1)), (0, 0, 0, *split))
    order = (0, 5, 1, 3, 2, 4) if mode == "DCR" else (0, 3, 1, 4, 2, 5)
    spread = step.emit("transpose", parts, perm=order)
    return step.emit("flatten", step.emit("flatten", spread, start_axis=2, end_axis=3), start_axis=3, end_axis=4)


def _space_to_depth(step: Step) -> Operand:
    """The map's axes are split from the last on, so that its size may be open."""
    x, block = _block(step)
    columns = reshaped(step, step.emit("transpose", x, perm=(0, 1, 3, 2)), (0, 0, 0, -1, block))
    rows = reshaped(step, step.emit("transpose", columns, perm=(0, 1, 3, 4, 2)), (0, 0, 0, 0, -1, block))
    return step.emit("flatten", step.emit("transpose", rows, perm=(0, 3, 5, 1, 2, 4)), start_axis=1, end_axis=3)


OPERATORS = (
    Row("Identity", _alias, 1, 1),
    Row("Dropout", _dropout, 1, 3),
    Row("Reshape", _reshape, 2, 2),
    Row("Flatten", _flatten, 1, 1),
    Row("Squeeze", _squeeze, 1, 2),
    Row("Unsqueeze", _unsqueeze, 1, 2),
    Row("Transpose", _transpose, 1, 1),
    Row("Concat", _concat, 1, MANY),
    Row("Split", _split, 1, 2),
    Row("Slice", _slice, 3, 5),
    Row("Pad", _pad, 2, 4),
    Row("Expand", _expand, 2, 2),
    Row("Tile", _tile, 2, 2),
    Row("DepthToSpace", _depth_to_space, 1, 1),
    Row("SpaceToDepth", _space_to_depth, 1, 1),
)
