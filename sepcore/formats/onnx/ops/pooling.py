"""Poolings over windows and over whole maps.

It must not know kernels.
"""

from __future__ import annotations

from collections.abc import Callable

from sepcore.formats.onnx.ops.convolution import over_maps, spatial_axes, window
from sepcore.formats.onnx.ops.row import Row
from sepcore.formats.onnx.step import Operand, Step


def _kernel(step: Step, x: Operand) -> tuple[int, ...]:
    kernel: tuple[int, ...] = step.integers("kernel_shape")
    if len(kernel) != spatial_axes(step, x):
        raise step.error("attribute 'kernel_shape'", f"{x.rank - 2} lengths", str(kernel))
    return kernel


def _max_pool(step: Step) -> Operand:
    x = step.input(0)
    found = window(step, _kernel(step, x))
    step.ignore("storage_order")
    return over_maps(
        step,
        "max_pool2d",
        x,
        kernel=found.kernel,
        strides=found.strides,
        padding=found.padding,
        dilation=found.dilation,
        ceil_mode=step.flag("ceil_mode"),
    )


def _average_pool(step: Step) -> Operand:
    x = step.input(0)
    found = window(step, _kernel(step, x))
    return over_maps(
        step,
        "avg_pool2d",
        x,
        kernel=found.kernel,
        strides=found.strides,
        padding=found.padding,
        dilation=found.dilation,
        ceil_mode=step.flag("ceil_mode"),
        count_include_pad=step.flag("count_include_pad"),
    )


def _global(op: str) -> Callable[[Step], Operand]:
    def translate(step: Step) -> Operand:
        x = step.input(0)
        if x.rank < 3:
            raise step.error("input 0", "at least three axes (n, c, ...)", str(x.rank))
        return step.emit(op, x, axes=tuple(range(2, x.rank)), keepdims=True)

    return translate


OPERATORS = (
    Row("MaxPool", _max_pool, 1, 1),
    Row("AveragePool", _average_pool, 1, 1),
    Row("GlobalMaxPool", _global("reduce_max"), 1, 1),
    Row("GlobalAveragePool", _global("reduce_mean"), 1, 1),
)
