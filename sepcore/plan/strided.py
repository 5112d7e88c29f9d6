"""Steps of the strided kernels: copies and functions of single elements between views of any strides.

It must not know operators.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sepcore.kernels import step as words
from sepcore.kernels.spec import KernelSpec
from sepcore.kernels.strided import copy as copy_rows
from sepcore.kernels.strided import walk as w
from sepcore.plan.tensors import FLOAT, Map, View

if TYPE_CHECKING:
    from sepcore.plan.lowering import Lowering

_UNIT = 1 << 13  # elements of a unit, about 32 KiB: what two neighbours share stays in the first cache
_TRANSPOSED_COLUMNS = 64
_SHORT = 8

Axis = tuple[int, ...]
"""Length of an axis, then each operand's stride."""


def merged(views: Sequence[View]) -> list[Axis]:
    """The axes of views of one shape, the widest stride of the last view first; neighbours that run on are one."""
    axes = [(length, *strides) for length, *strides in zip(views[0].shape, *(v.strides for v in views)) if length != 1]
    axes.sort(key=lambda axis: -abs(axis[-1]))
    found: list[Axis] = []
    for length, *strides in axes:
        if found and all(outer == length * inner for outer, inner in zip(found[-1][1:], strides)):
            found[-1] = (found[-1][0] * length, *strides)
        else:
            found.append((length, *strides))
    return found


def copy(p: Lowering, x: View, out: View, *, once_an_image: bool = False) -> None:
    """Write the elements of ``x`` to ``out``, which has the same shape.

    ``once_an_image`` : a step of every image even where the current node runs once for all of them.
    """
    axes = merged([x, out])
    if len(axes) > 1:
        axes.append(axes.pop(_copied_columns(axes)))
        # Rows run where the source is dense, so that a block of rows and columns is read from few cache lines.
        rows = min(range(len(axes) - 1), key=lambda i: (abs(axes[i][1]) or 1 << 60, i))
        axes.insert(-1, axes.pop(rows))
    dense = not axes or axes[-1][1:] == (FLOAT, FLOAT)
    columns = _UNIT if dense else _TRANSPOSED_COLUMNS
    kernel = copy_rows.row("copy", p.isa.name)
    _step(p, kernel, axes, x=x, out=out, most_columns=columns, once_an_image=once_an_image)


def copy_channels(p: Lowering, name: str, out: View) -> None:
    """Write the map ``name``, whose channels may be anywhere, to ``out`` in order."""
    x = p.tensors.get(name)
    if not isinstance(x, Map) or not x.slots:
        copy(p, p.view(name), out)
        return
    slots = np.array(x.slots)
    order = np.argsort(slots, kind="stable")
    apart = np.stack([np.diff(slots[order]), np.diff(order)], axis=1)
    first = 0
    while first < len(order):
        # Channels that are as far from one another on both sides move in one step.
        steps = apart[first:]
        differing = np.flatnonzero((steps != steps[:1]).any(axis=1))
        count = 1 + int(differing[0]) if len(differing) else len(steps) + 1
        step, out_step = steps[0].tolist() if len(steps) else (1, 1)
        at = replace(x, slots=(), offset=x.offset + FLOAT * int(slots[order[first]]))
        source = at.view(out.shape).part(1, 0, count, step)
        copy(p, source, out.part(1, int(order[first]), count, out_step))
        first += count


def _copied_columns(axes: Sequence[Axis]) -> int:
    """Which axis a copy's columns run along: the one that is dense on both sides, else the longer of the dense ones."""
    for i, (_, *strides) in enumerate(axes):
        if strides == [FLOAT, FLOAT]:
            return i
    last = len(axes) - 1
    if axes[last][0] >= _SHORT:
        return last
    return max(range(len(axes)), key=lambda i: (abs(axes[i][1]) == FLOAT, axes[i][0]))


def fill(p: Lowering, out: View, number: float) -> None:
    """Write a number everywhere."""
    bits = struct.unpack("<q", struct.pack("<ff", number, 0.0))[0]
    _step(p, copy_rows.row("fill", p.isa.name), merged([out]), x=out, out=out, parameters=bits)


def function(p: Lowering, kernel: KernelSpec, x: View, out: View, extra: View | None = None, parameters: int = 0,
             activation: int = 0) -> None:  # fmt: skip
    """``out = f(x)`` or ``f(x, extra)`` by ``kernel`` for views of one shape that ``fits`` says can be read."""
    operands = [x, out] if extra is None else [x, extra, out]
    axes = merged(operands)
    if any(stride not in (0, FLOAT) for stride in (axes[-1][1:] if axes else ())):
        raise p.fail(f"{kernel.name} over strides {axes}: no kernel reads them")
    _step(p, kernel, axes, x=x, out=out, extra=extra, parameters=parameters, activation=activation)


def fits(x: View, out: View) -> bool:
    """Whether a function can read ``x`` as it is: dense, or one element, where ``out`` is dense."""
    axes = merged([x, out])
    return not axes or axes[-1][1] in (0, FLOAT)


def _step(p: Lowering, kernel: KernelSpec, axes: Sequence[Axis], *, x: View, out: View, extra: View | None = None,
          most_columns: int = _UNIT, parameters: int = 0, activation: int = 0,
          once_an_image: bool = False) -> None:  # fmt: skip
    if len(axes) > w.AXES:
        raise p.fail(f"{len(axes)} axes that do not run on: kernels walk at most {w.AXES}")
    operands = 2 if extra is None else 3
    ones: list[Axis] = [(1, *[FLOAT] * operands)] * (w.AXES - len(axes))
    axes = [*ones, *((length, *strides) if len(strides) == operands else (length, *strides, *strides)
                     for length, *strides in axes)]  # fmt: skip
    rows, columns = axes[-2][0], axes[-1][0]
    column_chunk = min(columns, most_columns)
    row_chunk = max(1, min(rows, _UNIT // column_chunk))
    shape = {w.ROW_CHUNK: row_chunk, w.COLUMN_CHUNK: column_chunk, words.PARAMETERS: parameters}
    shape[words.ACTIVATION] = activation
    units = -(-rows // row_chunk) * -(-columns // column_chunk)
    for i, (length, *strides) in enumerate(axes):
        shape[w.LENGTHS + i] = length
        shape[w.X_STRIDES + i], shape[w.OUT_STRIDES + i] = strides[0], strides[-1]
        if extra is not None:
            shape[w.EXTRA_STRIDES + i] = strides[1]
        units *= length if i < w.ROW else 1
    blocks = p.split(units, max(1, _UNIT // (2 * row_chunk * column_chunk)))
    shape[w.BLOCKS] = blocks
    p.step(kernel, blocks, shape, x=(x.buffer, x.offset), out=(out.buffer, out.offset),
           extra=None if extra is None else (extra.buffer, extra.offset), once_an_image=once_an_image)  # fmt: skip
