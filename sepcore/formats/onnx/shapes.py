"""What of an operator's output shape is known before the input shapes are: always the rank, often all but the batch.

It must not check anything: whether shapes fit together is for :mod:`sepcore.ir` to say, once all are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from math import prod
from typing import Any, cast

import numpy as np

from sepcore.formats.onnx.elements import elements_of
from sepcore.formats.onnx.model import MAX_RANK
from sepcore.formats.onnx.step import Lengths, Operand, UnsupportedError
from sepcore.ir.graph import Node, Value
from sepcore.ir.ops import OPERATORS, custom
from sepcore.ir.ops.operator import Call, Operator

Attrs = Mapping[str, Any]
Rule = Callable[[Sequence["Operand"], Attrs], Lengths]

_EXAMPLES = (32, 224)
"""Lengths in place of those that are not known."""


def partial_shapes(op: str, operands: Sequence[Operand | None], attrs: Attrs) -> list[tuple[Lengths, np.dtype[Any]]]:
    """Shape, as far as it is known, and dtype of each output of a node of the graph.

    Parameters
    ----------
    op : one of the graph's operators.
    operands : its inputs; None where an optional one is absent.
    attrs : its attributes.

    Raises
    ------
    UnsupportedError
        If not even the rank is known.
    GraphError
        If maps and the window on them do not fit together.
    """
    known = [operand for operand in operands if operand is not None]
    if op == "split":
        axis = attrs["axis"] % known[0].rank
        return [(_replaced(known[0].shape, {axis: size}), known[0].dtype) for size in attrs["sizes"]]
    user = custom.find(op)
    if user is not None:
        return [(_users(user.operator, known, attrs), known[0].dtype)]
    shape = _maps(op, known, attrs) if op in _MAPS else _RULES.get(op, _same)(known, attrs)
    return [(shape, _dtype(op, known, attrs))]


def _dtype(op: str, operands: Sequence[Operand], attrs: Attrs) -> np.dtype[Any]:
    if op in ("cast", "constant_of_shape"):
        return np.dtype(attrs["dtype"])
    if op == "shape":
        return np.dtype(np.int64)
    if op in _COMPARISONS:
        return np.dtype(np.bool_)
    return operands[1 if op == "where" else 0].dtype


def broadcast(shapes: Iterable[Lengths]) -> Lengths:
    """What shapes broadcast to; a length that is not known may turn out to be one."""

    def joined(lengths: tuple[int | None, ...]) -> int | None:
        more = {length for length in lengths if length != 1}
        numbers = more - {None}
        return numbers.pop() if numbers else None if more else 1

    columns = list(zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1))
    return tuple(joined(column) for column in reversed(columns))


def _same(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    return operands[0].shape


def _broadcast(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    return broadcast(operand.shape for operand in operands)


def _replaced(shape: Lengths, lengths: Mapping[int, int | None]) -> Lengths:
    return tuple(lengths.get(axis, length) for axis, length in enumerate(shape))


def _product(lengths: Iterable[int | None]) -> int | None:
    found = tuple(lengths)
    return None if None in found else prod(length for length in found if length is not None)


def _maps(op: str, operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    """Of maps (n, c, h, w), all axes where h and w are known; the batch goes through unchanged, open or not."""
    batch = operands[0].shape[0]
    shapes = [(1, *operands[0].shape[1:]), *(operand.shape for operand in operands[1:])]
    if (op == "resize" and len(operands) > 1) or any(None in shape for shape in shapes):
        return batch, _map_channels(op, operands, attrs), None, None
    names = tuple(operand.name for operand in operands)
    values = [Value(name, cast(Any, shape), operand.dtype) for name, shape, operand in zip(names, shapes, operands)]
    call = Call(OPERATORS[op], Node(op, op, names, ("",), attrs), values)
    ((shape, _),) = call.operator.infer(call)
    return batch, *shape[1:]


def _users(operator: Operator, operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    """Of a user's operator: what its rule says whatever the open lengths are, tried with two of them."""
    names = tuple(operand.name for operand in operands)
    node = Node(operator.name, operator.name, names, ("",), attrs)
    tried = []
    for length in _EXAMPLES:
        shapes = [tuple(length if known is None else known for known in operand.shape) for operand in operands]
        values = [Value(name, shape, operand.dtype) for name, shape, operand in zip(names, shapes, operands)]
        ((shape, _),) = operator.infer(Call(operator, node, values))
        tried.append(shape)
    if len({len(shape) for shape in tried}) != 1:
        raise UnsupportedError("its shape rule gives shapes of different ranks")
    return tuple(a if a == b else None for a, b in zip(*tried))


def _map_channels(op: str, operands: Sequence[Operand], attrs: Attrs) -> int | None:
    if op == "conv2d":
        return operands[1].shape[0]
    if op == "conv_transpose2d":
        return _product((operands[1].shape[1], attrs["groups"]))
    return operands[0].shape[1]


def _linear(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    return *operands[0].shape[:-1], operands[1].shape[0]


def _matmul(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    a, b = operands[0].shape, operands[1].shape
    return *broadcast((a[:-2], b[:-2])), *(a[-2:-1]), *(b[-1:] if len(b) > 1 else ())


def _reduced(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    shape = operands[0].shape
    if attrs["keepdims"]:
        return _replaced(shape, dict.fromkeys(attrs["axes"], 1))
    return tuple(length for axis, length in enumerate(shape) if axis not in attrs["axes"])


def _concat(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    axis, total = attrs["axis"], 0
    for operand in operands:
        length = operand.shape[axis] if axis < operand.rank else None
        if length is None:
            return _replaced(operands[0].shape, {axis: None})
        total += length
    return _replaced(operands[0].shape, {axis: total})


def _slice(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    shape = operands[0].shape
    lengths: dict[int, int | None] = dict.fromkeys(attrs["axes"])
    if len(operands) == 1:
        for axis, start, end, step in zip(attrs["axes"], attrs["starts"], attrs["ends"], attrs["steps"]):
            length = shape[axis]
            lengths[axis] = None if length is None else len(range(length)[slice(start, end, step)])
    return _replaced(shape, lengths)


def _target(operands: Sequence[Operand], attrs: Attrs) -> tuple[int | None, ...]:
    """The wanted shape; -1 and 0 stand for themselves, None for a number that is computed."""
    if attrs.get("shape") is not None:
        given: tuple[int, ...] = attrs["shape"]
        return given
    target = operands[1]
    known = elements_of(target)
    rank = target.shape[0] if target.rank == 1 else None
    if rank is None or rank > MAX_RANK:
        raise UnsupportedError(f"a result of more than {MAX_RANK} axes, or of a number that is not known")
    return (None,) * rank if known is None else known


def _reshape(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    shape = operands[0].shape
    target = tuple(
        shape[axis] if length == 0 and axis < len(shape) else length
        for axis, length in enumerate(_target(operands, attrs))
    )
    total = _product(shape)
    rest = _product(length for length in target if length != -1)
    free = total // rest if total is not None and rest else None
    return tuple(free if length == -1 else length for length in target)


def _expand(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    return broadcast((operands[0].shape, _target(operands, attrs)))


def _flatten(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    shape = operands[0].shape
    if not shape:
        return (1,)
    start, end = attrs["start_axis"] % len(shape), attrs["end_axis"] % len(shape)
    return *shape[:start], _product(shape[start : end + 1]), *shape[end + 1 :]


def _squeeze(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    return tuple(length for axis, length in enumerate(operands[0].shape) if axis not in attrs["axes"])


def _unsqueeze(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    rest = iter(operands[0].shape)
    rank = operands[0].rank + len(attrs["axes"])
    return tuple(1 if axis in attrs["axes"] else next(rest) for axis in range(rank))


def _transpose(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    return tuple(operands[0].shape[axis] for axis in attrs["perm"])


def _pad(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    shape = operands[0].shape
    if attrs.get("pads") is None:
        return (None,) * len(shape)
    return tuple(None if length is None else length + sum(pair) for length, pair in zip(shape, attrs["pads"]))


def _shape(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    return (operands[0].rank,)


def _gather(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    shape, axis = operands[0].shape, attrs["axis"]
    return *shape[:axis], *operands[1].shape, *shape[axis + 1 :]


def _of_shape(operands: Sequence[Operand], attrs: Attrs) -> Lengths:
    return _target((operands[0], operands[0]), attrs)


_COMPARISONS = frozenset(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"))
_BINARY = (
    *("add", "sub", "mul", "div", "pow", "maximum", "minimum", "mod", "floor_div"),
    *("logical_and", "logical_or", "where"),
    *_COMPARISONS,
)
_MAPS = frozenset(("conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "resize"))
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_BINARY, _broadcast),
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min"), _reduced),
    "linear": _linear,
    "matmul": _matmul,
    "concat": _concat,
    "slice": _slice,
    "reshape": _reshape,
    "expand": _expand,
    "flatten": _flatten,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "transpose": _transpose,
    "pad": _pad,
    "shape": _shape,
    "gather": _gather,
    "constant_of_shape": _of_shape,
    "range": lambda operands, attrs: (None,),
}
"""Operators whose first output has another shape than their first input."""
