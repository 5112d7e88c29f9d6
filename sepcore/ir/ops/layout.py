"""Rows of the operators that only rename, move or repeat elements: reshape and its kin, concat, split, slice, pad ...

It must not know how a plan avoids moving them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod

import numpy as np

from sepcore.ir.graph import Array, Node, Value
from sepcore.ir.ops.attributes import COUNT, FLOAT, INT, INTS, LENGTHS, PADS, Attribute, one_of
from sepcore.ir.ops.operator import Call, Operator, Shape, Tensor, shape_text


def _same(call: Call, shape: Shape) -> list[Tensor]:
    """One output of ``shape`` and the dtype of x."""
    return [(shape, call.value("x").dtype)]


def _target(call: Call) -> tuple[tuple[int, ...], str]:
    """The wanted shape, from the input or the attribute ``shape``, and in words where it comes from."""
    if call.has("shape"):
        return call.integers("shape"), "input shape"
    if call.attr("shape") is None:
        raise call.error("attribute shape", "a shape, here or as an input", "neither")
    given: tuple[int, ...] = call.attr("shape")
    return given, "attribute shape"


def _reshaped(call: Call) -> Shape:
    shape = call.shape("x")
    target, where = _target(call)
    if call.has("shape"):
        if any(length == 0 and axis >= len(shape) for axis, length in enumerate(target)):
            raise call.error(where, f"0 only where x {shape_text(shape)} has an axis", shape_text(target))
        target = tuple(shape[axis] if length == 0 else length for axis, length in enumerate(target))
    size, rest = prod(shape), prod(length for length in target if length != -1)
    if target.count(-1) == 1 and min(target) == -1 and rest and size % rest == 0:
        return tuple(size // rest if length == -1 else length for length in target)
    if target.count(-1) or rest != size or any(length < 0 for length in target):
        raise call.error(where, f"a shape of the {size} elements of {shape_text(shape)}", shape_text(target))
    return target


def _flattened(call: Call) -> Shape:
    shape = call.shape("x")
    rank = max(len(shape), 1)
    (start,), (end,) = (call.axes(name, rank, (call.attr(name),)) for name in ("start_axis", "end_axis"))
    if start > end:
        raise call.error("attribute start_axis", f"an axis up to {end}", str(start))
    return (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])


def _squeezed(call: Call) -> Shape:
    """Axes that are not of length one stay, as in PyTorch."""
    shape = call.shape("x")
    axes = range(len(shape)) if call.attr("axes") is None else call.axes("axes", len(shape))
    return tuple(length for axis, length in enumerate(shape) if axis not in axes or length != 1)


def _unsqueezed(call: Call) -> Shape:
    rest = iter(call.shape("x"))
    rank = len(call.shape("x")) + len(call.attr("axes"))
    axes = call.axes("axes", rank)
    return tuple(1 if axis in axes else next(rest) for axis in range(rank))


_RESHAPES = {"reshape": _reshaped, "flatten": _flattened, "squeeze": _squeezed, "unsqueeze": _unsqueezed}


def _new_shape(call: Call) -> Shape:
    return _RESHAPES[call.node.op](call)


def _static_reshape(call: Call, outputs: Sequence[Value]) -> Node:
    return call.node.with_(op="reshape", inputs=call.node.inputs[:1], attrs={"shape": outputs[0].shape})


def _expanded(call: Call) -> Shape:
    """The shape to broadcast to; -1 keeps the length that x has there."""
    shape = call.shape("x")
    target, where = _target(call)
    offset = len(target) - len(shape)
    wanted = tuple(
        shape[axis - offset] if length == -1 and axis >= offset else length for axis, length in enumerate(target)
    )
    try:
        if any(length < 0 for length in wanted):
            raise ValueError
        return np.broadcast_shapes(shape, wanted)
    except ValueError:
        raise call.error(where, f"a shape that {shape_text(shape)} broadcasts to", shape_text(target)) from None


def _static_expand(call: Call, outputs: Sequence[Value]) -> Node:
    return call.node.with_(inputs=call.node.inputs[:1], attrs={"shape": outputs[0].shape})


def _permutation(call: Call) -> tuple[int, ...]:
    rank = len(call.shape("x"))
    perm = call.axes("perm", rank)
    if len(perm) != rank:
        raise call.error("attribute perm", f"all {rank} axes", str(perm))
    return perm


def _concat_axis(call: Call) -> int:
    return call.axis("axis", len(call.shapes()[0]))


def _infer_concat(call: Call) -> list[Tensor]:
    shapes, axis = call.shapes(), _concat_axis(call)
    first = shapes[0]
    for shape in shapes[1:]:
        if len(shape) != len(first) or shape[:axis] != first[:axis] or shape[axis + 1 :] != first[axis + 1 :]:
            raise call.error("inputs", f"shapes that differ in axis {axis} only", " and ".join(map(shape_text, shapes)))
    return [((*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]), call.dtype())]


def _infer_split(call: Call) -> list[Tensor]:
    shape, sizes = call.shape("x"), call.attr("sizes")
    axis = call.axis("axis", len(shape))
    if sum(sizes) != shape[axis] or len(sizes) != len(call.node.outputs):
        expected = f"{len(call.node.outputs)} sizes with a sum of {shape[axis]}"
        raise call.error("attribute sizes", expected, str(sizes))
    return [tensor for size in sizes for tensor in _same(call, (*shape[:axis], size, *shape[axis + 1 :]))]


def _compute_split(call: Call, x: Array) -> list[Array]:
    axis = call.axis("axis", x.ndim)
    return np.split(x, list(accumulate(call.attr("sizes")))[:-1], axis)


def _static_axis(call: Call, outputs: Sequence[Value]) -> Node:
    return call.spelled_out(axis=call.axis("axis", len(outputs[0].shape)))


def _slices(call: Call) -> list[slice]:
    """One slice per axis, with the bounds clipped as Python and ONNX clip them."""
    shape = call.shape("x")
    axes = call.axes("axes", len(shape))
    bounds = [call.integers(name) if call.has(name) else call.attr(name) for name in ("starts", "ends")]
    steps = (1,) * len(axes) if call.attr("steps") is None else call.attr("steps")
    if any(given is None or len(given) != len(axes) for given in (*bounds, steps)) or 0 in steps:
        found = f"starts {bounds[0]}, ends {bounds[1]}, steps {steps}"
        raise call.error("attributes", f"{len(axes)} starts, ends and steps other than 0", found)
    slices = [slice(0, length, 1) for length in shape]
    for axis, start, end, step in zip(axes, *bounds, steps):
        slices[axis] = slice(*slice(start, end, step).indices(shape[axis]))
    return slices


def _infer_slice(call: Call) -> list[Tensor]:
    return _same(call, tuple(len(range(s.start, s.stop, s.step)) for s in _slices(call)))


def _compute_slice(call: Call, x: Array, *bounds: Array) -> Array:
    return x[tuple(slice(s.start, None if s.stop < 0 else s.stop, s.step) for s in _slices(call))]


def _static_slice(call: Call, outputs: Sequence[Value]) -> Node:
    slices = _slices(call)
    attrs = {
        "axes": tuple(range(len(slices))),
        "starts": tuple(s.start for s in slices),
        # An end of -1 would count from the end of the axis: before its first element is far below.
        "ends": tuple(s.stop if s.stop >= 0 else -length - 1 for s, length in zip(slices, call.shape("x"))),
        "steps": tuple(s.step for s in slices),
    }
    return call.node.with_(inputs=call.node.inputs[:1], attrs=attrs)


def _pads(call: Call) -> tuple[tuple[int, int], ...]:
    rank = len(call.shape("x"))
    pads: tuple[tuple[int, int], ...] | None = call.attr("pads")
    if call.has("pads"):
        flat = call.integers("pads")
        pads = tuple(zip(flat[: len(flat) // 2], flat[len(flat) // 2 :]))
    if pads is None or len(pads) != rank:
        raise call.error("pads", f"a pair per axis of {rank}", "none" if pads is None else str(pads))
    return pads


def _infer_pad(call: Call) -> list[Tensor]:
    shape, pads, mode = call.shape("x"), _pads(call), call.attr("mode")
    for length, pad in zip(shape, pads):
        if mode != "constant" and min(pad) < 0:
            raise call.error("pads", f"none below 0 in mode {mode!r}", str(pads))
        if mode == "reflect" and max(pad) >= length:
            raise call.error("pads", f"less than {length} on an axis of {length} in mode 'reflect'", str(pads))
    return _same(call, tuple(before + length + after for length, (before, after) in zip(shape, pads)))


def _compute_pad(call: Call, x: Array, pads: Array | None = None) -> Array:
    pairs = _pads(call)
    cut = tuple(slice(max(-before, 0), length - max(-after, 0)) for length, (before, after) in zip(x.shape, pairs))
    grown = [(max(before, 0), max(after, 0)) for before, after in pairs]
    extra: dict[str, float] = {"constant_values": call.attr("value")} if call.attr("mode") == "constant" else {}
    result: Array = np.pad(x[cut], grown, mode=call.attr("mode"), **extra)
    return result


def _static_pad(call: Call, outputs: Sequence[Value]) -> Node:
    return call.spelled_out(pads=_pads(call)).with_(inputs=call.node.inputs[:1])


def _infer_channel_shuffle(call: Call) -> list[Tensor]:
    shape = call.shape("x", 4)
    if shape[1] % call.attr("groups"):
        raise call.error("input x", f"channels divisible by {call.attr('groups')}", str(shape[1]))
    return _same(call, shape)


def _compute_channel_shuffle(call: Call, x: Array) -> Array:
    n, c, h, w = x.shape
    groups: int = call.attr("groups")
    shuffled: Array = x.reshape(n, groups, c // groups, h, w).transpose(0, 2, 1, 3, 4)
    return shuffled.reshape(x.shape)


def _reshape_row(name: str, inputs: tuple[str, ...], attributes: Mapping[str, Attribute]) -> Operator:
    return Operator(
        name,
        inputs,
        lambda call: _same(call, _new_shape(call)),
        lambda call, x, shape=None: x.reshape(_new_shape(call)),
        attributes,
        static=_static_reshape,
    )


OPERATORS = (
    _reshape_row("reshape", ("x", "shape?"), {"shape": INTS.with_default(None)}),
    _reshape_row("flatten", ("x",), {"start_axis": INT.with_default(1), "end_axis": INT.with_default(-1)}),
    _reshape_row("squeeze", ("x",), {"axes": INTS.with_default(None)}),
    _reshape_row("unsqueeze", ("x",), {"axes": INTS}),
    Operator(
        "expand",
        ("x", "shape?"),
        lambda call: _same(call, _expanded(call)),
        lambda call, x, shape=None: np.broadcast_to(x, _expanded(call)),
        {"shape": INTS.with_default(None)},
        static=_static_expand,
    ),
    Operator(
        "transpose",
        ("x",),
        lambda call: _same(call, tuple(call.shape("x")[axis] for axis in _permutation(call))),
        lambda call, x: x.transpose(_permutation(call)),
        {"perm": INTS},
        static=lambda call, outputs: call.spelled_out(perm=_permutation(call)),
    ),
    Operator(
        "concat",
        ("x...",),
        _infer_concat,
        lambda call, *arrays: np.concatenate(arrays, _concat_axis(call)),
        {"axis": INT},
        static=_static_axis,
    ),
    Operator(
        "split",
        ("x",),
        _infer_split,
        _compute_split,
        {"axis": INT, "sizes": LENGTHS},
        outputs=None,
        static=_static_axis,
    ),
    Operator(
        "slice",
        ("x", "starts?", "ends?"),
        _infer_slice,
        _compute_slice,
        {
            "axes": INTS,
            "starts": INTS.with_default(None),
            "ends": INTS.with_default(None),
            "steps": INTS.with_default(None),
        },
        static=_static_slice,
    ),
    Operator(
        "pad",
        ("x", "pads?"),
        _infer_pad,
        _compute_pad,
        {
            "pads": PADS.with_default(None),
            "mode": one_of("constant", "reflect", "edge").with_default("constant"),
            "value": FLOAT.with_default(0.0),
        },
        static=_static_pad,
    ),
    Operator(
        "channel_shuffle",
        ("x",),
        _infer_channel_shuffle,
        _compute_channel_shuffle,
        {"groups": COUNT},
    ),
)
