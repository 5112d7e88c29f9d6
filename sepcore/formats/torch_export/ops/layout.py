"""Operators that rename, move or repeat elements without choosing among them.

It must not know how a plan avoids moving them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sepcore.formats.torch_export.call import AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.lengths import (
    Length,
    axis_length,
    expanded,
    known_length,
    reshaped,
    scaled_length,
)
from sepcore.formats.torch_export.ops.row import Row, Rows

_MOST_AXES = 16
_MOST_REPEATS = 1 << 10

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def _same(call: AtenCall) -> Value:
    return call.operand("self")


def _dropout(call: AtenCall) -> Value:
    if call.flag("train") and call.number("p"):
        raise UnsupportedError("training mode; export the module after model.eval()")
    return call.operand("input" if call.given("input") else "self")


def _cast(call: AtenCall) -> Value:
    return call.cast(call.operand("self"), call.output.dtype)


def _reshape(argument: str) -> Row:
    return lambda call: reshaped(call, call.operand("self"), call.lengths(argument))


def _reshape_as(call: AtenCall) -> Value:
    return call.emit("reshape", call.operand("self"), call.emit("shape", call.operand("other")))


def _flatten(call: AtenCall) -> Value:
    x = call.operand("self")
    start, end = call.axis("start_dim", x.rank, 0), call.axis("end_dim", x.rank, -1)
    return call.emit("flatten", x, start_axis=start, end_axis=end)


def _unflatten(call: AtenCall) -> Value:
    x = call.operand("self")
    axis = call.axis("dim", x.rank)
    lengths = [axis_length(call, x, position) for position in range(x.rank)]
    return reshaped(call, x, [*lengths[:axis], *call.lengths("sizes"), *lengths[axis + 1 :]])


def _squeeze(call: AtenCall) -> Value:
    x = call.operand("self")
    if call.given("dim"):
        return call.emit("squeeze", x, axes=call.axes("dim", x.rank))
    # Without axes, those that had length one when the model was exported: a symbolic one never does.
    return call.emit("squeeze", x, axes=tuple(axis for axis, length in enumerate(x.shape) if length == 1))


def _unsqueeze(call: AtenCall) -> Value:
    x = call.operand("self")
    return call.emit("unsqueeze", x, axes=(call.axis("dim", x.rank + 1),))


def _permute(call: AtenCall) -> Value:
    x = call.operand("self")
    return call.emit("transpose", x, perm=call.axes("dims", x.rank))


def _swapped(call: AtenCall, first: str, second: str) -> Value:
    x = call.operand("self")
    perm = list(range(x.rank))
    a, b = call.axis(first, x.rank), call.axis(second, x.rank)
    if perm:
        perm[a], perm[b] = b, a
    return call.emit("transpose", x, perm=tuple(perm))


def _reversed(call: AtenCall) -> Value:
    x = call.operand("self")
    return call.emit("transpose", x, perm=tuple(reversed(range(x.rank))))


def _moved(call: AtenCall) -> Value:
    x = call.operand("self")
    sources, targets = call.axes("source", x.rank), call.axes("destination", x.rank)
    if len(sources) != len(targets):
        raise call.error("argument 'destination'", f"{len(sources)} axes", str(len(targets)))
    rest = iter(axis for axis in range(x.rank) if axis not in sources)
    placed = dict(zip(targets, sources))
    return call.emit("transpose", x, perm=tuple(placed[a] if a in placed else next(rest) for a in range(x.rank)))


def _expand(call: AtenCall) -> Value:
    return expanded(call, call.operand("self"), call.lengths("size"))


def _expand_as(call: AtenCall) -> Value:
    return call.emit("expand", call.operand("self"), call.emit("shape", call.operand("other")))


def _repeat(argument: str) -> Row:
    def row(call: AtenCall) -> Value:
        x, counts = call.operand("self"), call.lengths(argument)
        counts = (1,) * (x.rank - len(counts)) + counts
        if len(counts) != call.output.rank:
            raise call.error(f"argument '{argument}'", f"counts for {call.output.rank} axes", str(len(counts)))
        made: Value = x
        if len(counts) > x.rank:
            made = call.emit("unsqueeze", x, axes=tuple(range(len(counts) - x.rank)))
        for axis, count in enumerate(counts):
            if isinstance(count, Operand):
                made = _repeated(call, made, axis, count, len(counts))
                continue
            if not 1 <= count <= _MOST_REPEATS:
                raise UnsupportedError(f"{count} repeats, not 1 to {_MOST_REPEATS}")
            made = made if count == 1 else call.emit("concat", *(made,) * count, axis=axis)
        return made if made is not x else call.emit("identity", x)

    return row


def _repeated(call: AtenCall, x: Value, axis: int, count: Operand, rank: int) -> Value:
    """``x`` so many times along its only axis, where the number depends on the input."""
    if rank != 1:
        raise UnsupportedError(f"repeats along axis {axis} of {rank} that depend on the input")
    return call.emit("reshape", expanded(call, call.emit("unsqueeze", x, axes=(0,)), (count, -1)), shape=(-1,))


def _repeat_interleave(call: AtenCall) -> Value:
    """Each element of an axis so many times, one behind the other; of the flattened tensor where no axis is named."""
    x, count = call.operand("self"), call.integer("repeats")
    if not 1 <= count <= _MOST_REPEATS:
        raise UnsupportedError(f"{count} repeats, not 1 to {_MOST_REPEATS}")
    if call.given("dim"):
        made, axis, rank = x.name, call.axis("dim", x.rank), x.rank
    else:
        made, axis, rank = call.emit("reshape", x, shape=(-1,)), 0, 1
    made = call.emit("unsqueeze", made, axes=(axis + 1,))
    shape = tuple(count if other == axis + 1 else -1 for other in range(rank + 1))
    return call.emit("flatten", call.emit("expand", made, shape=shape), start_axis=axis, end_axis=axis + 1)


def _concat(call: AtenCall) -> Value:
    """Empty tensors of one axis are left out, as PyTorch does."""
    parts = [part for part in call.operands("tensors") if part is not None and part.shape != (0,)]
    if not parts:
        raise call.error("argument 'tensors'", "at least one tensor", "none")
    values = [call.cast(part, call.output.dtype) for part in parts]
    return call.emit("concat", *values, axis=call.axis("dim", parts[0].rank, 0))


def _stack(call: AtenCall) -> Value:
    parts = [part for part in call.operands("tensors") if part is not None]
    axis = call.axis("dim", call.output.rank, 0)
    values = [call.emit("unsqueeze", call.cast(part, call.output.dtype), axes=(axis,)) for part in parts]
    return call.emit("concat", *values, axis=axis)


def _pad(mode: str) -> Row:
    """The pads come as (before, after) of the last axis, then of the one before it ..."""

    def row(call: AtenCall) -> Value:
        x = call.operand("self")
        word = call.text("mode", mode)
        if word not in _PAD_MODES:
            raise UnsupportedError(f"padding in mode {word!r}")
        given = call.integers("padding" if call.given("padding") else "pad")
        if len(given) % 2 or len(given) > 2 * x.rank:
            raise call.error("the padding", f"up to {x.rank} pairs", str(len(given)))
        pairs = [(given[i], given[i + 1]) for i in range(0, len(given), 2)]
        pads = ((0, 0),) * (x.rank - len(pairs)) + tuple(reversed(pairs))
        return call.emit("pad", x, pads=pads, mode=_PAD_MODES[word], value=float(call.number("value", 0.0)))

    return row


def _channel_shuffle(call: AtenCall) -> Value:
    return call.emit("channel_shuffle", call.operand("self"), groups=call.integer("groups"))


def _factor(call: AtenCall, name: str) -> int:
    factor: int = call.integer(name)
    if factor < 1:
        raise call.error(f"argument '{name}'", "a positive integer", str(factor))
    return factor


def _maps(call: AtenCall) -> tuple[Operand, Length, int, Length, Length]:
    x = call.operand("self")
    if x.rank != 4:
        raise UnsupportedError(f"an input of {x.rank} axes, not (n, c, y, x)")
    return x, axis_length(call, x, 0), known_length(x, 1), axis_length(call, x, 2), axis_length(call, x, 3)


def _pixel_shuffle(call: AtenCall) -> Value:
    """(n, c * r * r, h, w) to (n, c, h * r, w * r)."""
    x, n, channels, h, w = _maps(call)
    r = _factor(call, "upscale_factor")
    c = channels // (r * r)
    apart = reshaped(call, x, (n, c, r, r, h, w))
    mixed = call.emit("transpose", apart, perm=(0, 1, 4, 2, 5, 3))
    return reshaped(call, mixed, (n, c, scaled_length(call, h, "mul", r), scaled_length(call, w, "mul", r)))


def _pixel_unshuffle(call: AtenCall) -> Value:
    """(n, c, h * r, w * r) to (n, c * r * r, h, w)."""
    x, n, c, height, width = _maps(call)
    r = _factor(call, "downscale_factor")
    h, w = scaled_length(call, height, "floor_div", r), scaled_length(call, width, "floor_div", r)
    apart = reshaped(call, x, (n, c, h, r, w, r))
    mixed = call.emit("transpose", apart, perm=(0, 1, 3, 5, 2, 4))
    return reshaped(call, mixed, (n, c * r * r, h, w))


def _as_strided(call: AtenCall) -> Value:
    """The same tensor, its layout spelled out: decompositions of poolings of channels-last maps end so."""
    x = call.operand("self")
    sizes, strides = (
        tuple(length.length if isinstance(length, Operand) else length for length in call.lengths(name))
        for name in ("size", "stride")
    )
    differ = [
        axis
        for axis, length in enumerate(x.shape)
        if length != 1 and strides[axis : axis + 1] != x.strides[axis : axis + 1]
    ]
    if sizes != x.shape or differ or call.given("storage_offset"):
        raise UnsupportedError("another view of a tensor's memory")
    return call.emit("identity", x)


# How a write to a view changes what it is a view of: from the view's new content to that of the whole.


def refilled(call: AtenCall, base: Operand, content: str) -> str:
    """For a view with the elements in the same order."""
    return call.emit("reshape", content, call.emit("shape", base))


def permuted_back(call: AtenCall, base: Operand, content: str) -> str:
    """For a view with the axes in another order."""
    perm: Sequence[int] = call.axes("dims", base.rank) if call.given("dims") else range(base.rank - 1, -1, -1)
    if call.given("dim0"):
        order = list(range(base.rank))
        a, b = call.axis("dim0", base.rank), call.axis("dim1", base.rank)
        order[a], order[b] = b, a
        perm = order
    return call.emit("transpose", content, perm=tuple(sorted(range(base.rank), key=lambda axis: perm[axis])))


OPERATORS: Rows = {
    **{
        f"aten.{name}": _same
        for name in (
            *("alias.default", "detach.default", "contiguous.default", "clone.default"),
            "lift_fresh_copy.default",
        )
    },
    "aten.dropout.default": _dropout,
    "aten.feature_dropout.default": _dropout,
    **{
        f"aten.{name}": _cast
        for name in (*("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device", "to.other", "type_as.default"),)
    },
    "aten.view.default": _reshape("size"),
    "aten._unsafe_view.default": _reshape("size"),
    "aten.reshape.default": _reshape("shape"),
    "aten.view_as.default": _reshape_as,
    "aten.reshape_as.default": _reshape_as,
    "aten.flatten.using_ints": _flatten,
    "aten.unflatten.int": _unflatten,
    "aten.squeeze.default": _squeeze,
    "aten.squeeze.dim": _squeeze,
    "aten.squeeze.dims": _squeeze,
    "aten.unsqueeze.default": _unsqueeze,
    "aten.permute.default": _permute,
    "aten.transpose.int": lambda call: _swapped(call, "dim0", "dim1"),
    "aten.swapaxes.default": lambda call: _swapped(call, "axis0", "axis1"),
    "aten.t.default": _reversed,
    "aten.numpy_T.default": _reversed,
    "aten.movedim.int": _moved,
    "aten.movedim.intlist": _moved,
    "aten.expand.default": _expand,
    "aten.expand_as.default": _expand_as,
    "aten.repeat.default": _repeat("repeats"),
    "aten.tile.default": _repeat("dims"),
    "aten.repeat_interleave.self_int": _repeat_interleave,
    "aten.cat.default": _concat,
    "aten.concat.default": _concat,
    "aten.concatenate.default": _concat,
    "aten.stack.default": _stack,
    "aten.constant_pad_nd.default": _pad("constant"),
    "aten.pad.default": _pad("constant"),
    "aten.reflection_pad1d.default": _pad("reflect"),
    "aten.reflection_pad2d.default": _pad("reflect"),
    "aten.replication_pad1d.default": _pad("replicate"),
    "aten.replication_pad2d.default": _pad("replicate"),
    "aten.as_strided.default": _as_strided,
    "aten.channel_shuffle.default": _channel_shuffle,
    "aten.native_channel_shuffle.default": _channel_shuffle,
    "aten.pixel_shuffle.default": _pixel_shuffle,
    "aten.pixel_unshuffle.default": _pixel_unshuffle,
}
