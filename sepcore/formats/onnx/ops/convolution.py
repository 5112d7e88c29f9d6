"""Convolutions, and the window attributes that they share with poolings.

It must not know kernels. Maps of one spatial axis get a second one of length one; those of three are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sepcore.formats.onnx.ops.row import Row
from sepcore.formats.onnx.step import Operand, Step, UnsupportedError

Ints = tuple[int, ...]

_SAME = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower"}


@dataclass(frozen=True)
class Window:
    """A window's attributes in the graph's terms: (y, x) pairs, padding as (top, left, bottom, right) or a word."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int] | str


def spatial_axes(step: Step, x: Operand) -> int:
    """Number of spatial axes of ``x``: 1 or 2."""
    if x.rank < 3:
        raise step.error("input 0", "at least three axes (n, c, ...)", str(x.rank))
    if x.rank > 4:
        raise UnsupportedError(f"{x.rank - 2} spatial axes; sepcore has one and two")
    return x.rank - 2


def window(step: Step, kernel: Ints) -> Window:
    """Read the attributes that say how a window of ``kernel`` slides."""
    count = len(kernel)
    strides, dilation = (_lengths(step, name, (1,) * count, 1, count) for name in ("strides", "dilations"))
    if min(kernel, default=1) < 1:
        raise step.error("kernel", "lengths of 1 or more", str(kernel))
    auto = step.text("auto_pad", "NOTSET")
    pads = step.integers("pads", (0,) * 2 * count)
    if len(pads) != 2 * count or (auto != "NOTSET" and any(pads)):
        expected = f"{2 * count} numbers" if auto == "NOTSET" else f"none beside auto_pad {auto!r}"
        raise step.error("attribute 'pads'", expected, str(pads))
    if min(pads, default=0) < 0:
        raise UnsupportedError(f"padding {pads} that cuts")
    if auto not in ("NOTSET", "VALID", *_SAME):
        raise step.error("attribute 'auto_pad'", "NOTSET, VALID, SAME_UPPER or SAME_LOWER", repr(auto))
    return Window(
        kernel=pair(kernel, 1),
        strides=pair(strides, 1),
        dilation=pair(dilation, 1),
        padding=_SAME.get(auto) or (*pair(pads[:count], 0), *pair(pads[count:], 0)),
    )


def _lengths(step: Step, name: str, default: Ints, least: int, count: int) -> Ints:
    found: Ints = step.integers(name, default)
    if len(found) != count or min(found, default=least) < least:
        raise step.error(f"attribute {name!r}", f"{count} numbers of {least} or more", str(found))
    return found


def pair(given: Sequence[int], missing: int) -> tuple[int, int]:
    """(y, x) of one or two lengths; ``missing`` stands for that of an axis which is not there."""
    return (missing, given[0]) if len(given) == 1 else (given[0], given[1])


def over_maps(step: Step, op: str, *operands: Operand | None, **attrs: object) -> Operand:
    """Add a node that works on maps; the first operand, and kernels after it, may have one spatial axis only."""
    x = operands[0]
    if x is None or x.rank == 4:
        return step.emit(op, *operands, **attrs)
    widened = [
        operand if operand is None or operand.rank != 3 else step.emit("unsqueeze", operand, axes=(2,))
        for operand in operands
    ]
    return step.emit("squeeze", step.emit(op, *widened, **attrs), axes=(2,))


def _weight(step: Step, x: Operand) -> tuple[Operand, Ints]:
    """The constant kernels, and the lengths of their spatial axes."""
    shape = step.content(1, "the weight").shape
    if len(shape) != x.rank:
        raise step.error("the weight", f"{x.rank} axes", str(list(shape)))
    kernel = shape[2:]
    if step.integers("kernel_shape", kernel) != kernel:
        raise step.error("attribute 'kernel_shape'", str(kernel), str(step.integers("kernel_shape")))
    return step.input(1), kernel


def _groups(step: Step) -> int:
    groups: int = step.integer("group", 1)
    if groups < 1:
        raise step.error("attribute 'group'", "1 or more", str(groups))
    return groups


def _bias(step: Step) -> Operand | None:
    if step.has(2):
        step.content(2, "the bias")
    return step.optional(2)


def _conv(step: Step) -> Operand:
    x = step.input(0)
    spatial_axes(step, x)
    weight, kernel = _weight(step, x)
    found = window(step, kernel)
    return over_maps(
        step,
        "conv2d",
        x,
        weight,
        _bias(step),
        strides=found.strides,
        padding=found.padding,
        dilation=found.dilation,
        groups=_groups(step),
    )


def _conv_transpose(step: Step) -> Operand:
    x = step.input(0)
    count = spatial_axes(step, x)
    weight, kernel = _weight(step, x)
    found = window(step, kernel)
    extra = _lengths(step, "output_padding", (0,) * count, 0, count)
    output_shape = step.integers("output_shape", ())
    padding, output_padding = found.padding, pair(extra, 0)
    if output_shape or isinstance(padding, str):
        padding, output_padding = _fitted(step, x, found, output_padding, output_shape)
    return over_maps(
        step,
        "conv_transpose2d",
        x,
        weight,
        _bias(step),
        strides=found.strides,
        padding=padding,
        output_padding=output_padding,
        dilation=found.dilation,
        groups=_groups(step),
    )


def _fitted(
    step: Step, x: Operand, window: Window, extra: tuple[int, int], output_shape: Ints
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Padding and output padding that give ``output_shape``, else stride times the input's lengths (auto_pad)."""
    count = x.rank - 2
    if output_shape and len(output_shape) not in (count, x.rank):
        raise step.error("attribute 'output_shape'", f"{count} lengths", str(output_shape))
    wanted = pair(output_shape[-count:], 1) if output_shape else (None, None)
    lengths = (1, x.shape[2]) if count == 1 else x.shape[2:]
    starts, ends, extras = [], [], []
    for axis, output in enumerate(wanted):
        reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1 + extra[axis]
        length = lengths[axis]
        if output is None:
            total = reach - window.strides[axis]
        elif length is None:
            raise UnsupportedError("output_shape with maps whose size is open")
        else:
            total = window.strides[axis] * (length - 1) + reach - output
        extras.append(extra[axis] - min(total, 0))
        total = max(total, 0)
        starts.append(total // 2 if window.padding == "same" else total - total // 2)
        ends.append(total - starts[-1])
    return (starts[0], starts[1], ends[0], ends[1]), (extras[0], extras[1])


OPERATORS = (Row("Conv", _conv, 2, 3), Row("ConvTranspose", _conv_transpose, 2, 3))
