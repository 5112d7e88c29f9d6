"""Rows of the poolings.

It must not know kernels or layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sepcore.ir.graph import Array, Node, Value
from sepcore.ir.ops.attributes import COUNT, COUNTS, FLAG, PADDING, Attribute
from sepcore.ir.ops.operator import Call, Operator, Tensor
from sepcore.ir.ops.window import Window, map_size, taps, window_of


def _window(call: Call) -> Window:
    return window_of(call, map_size(call.shape("x", 4)), call.attr("kernel"), ceil_mode=call.attr("ceil_mode"))


def _infer_pool(call: Call) -> list[Tensor]:
    return [((*call.shape("x", 4)[:2], *_window(call).output), call.floating("x"))]


def _compute_max_pool2d(call: Call, x: Array) -> Array:
    window = _window(call)
    largest: Array = np.max([tap.x for tap in taps(x, window, -np.inf)], axis=0)
    return largest


def _compute_avg_pool2d(call: Call, x: Array) -> Array:
    window = _window(call)
    total: Array = sum((tap.x for tap in taps(x, window, 0.0)), start=np.zeros(()))
    divisor: int | None = call.attr("divisor")
    return total / (_counted(x, window, padding_counts=call.attr("count_include_pad")) if divisor is None else divisor)


def _counted(x: Array, window: Window, *, padding_counts: bool) -> Array:
    """How many elements of each window count: those of the map, or of the padded map; none beyond it (ceil mode)."""
    ones = np.ones((1, 1, *x.shape[2:]))
    if padding_counts:
        top, left, bottom, right = window.padding
        ones = np.ones((1, 1, x.shape[2] + top + bottom, x.shape[3] + left + right))
        window = Window(window.kernel, window.strides, window.dilation, (0, 0, 0, 0), window.output)
    counted: Array = sum((tap.x for tap in taps(ones, window, 0.0)), start=np.zeros(()))
    return counted


def _static_pool(reduction: str) -> Callable[[Call, Sequence[Value]], Node]:
    """A pooling with explicit padding; one window that is the whole map is a reduction over the map."""

    def static(call: Call, outputs: Sequence[Value]) -> Node:
        window = _window(call)
        whole = window.kernel == map_size(call.shape("x")) and window.output == (1, 1) and not any(window.padding)
        if whole and call.node.attrs.get("divisor") is None:
            return _reduction(call, reduction)
        return call.spelled_out(padding=window.padding)

    return static


def _reduction(call: Call, op: str) -> Node:
    return call.node.with_(op=op, attrs={"axes": (2, 3), "keepdims": True})


def _infer_adaptive(call: Call) -> list[Tensor]:
    return [((*call.shape("x", 4)[:2], *call.attr("output_size")), call.floating("x"))]


def _bounds(length: int, outputs: int) -> list[tuple[int, int]]:
    """The range that each output covers: floor(i * length / outputs) to ceil((i + 1) * length / outputs) (PyTorch)."""
    return [(i * length // outputs, -(-(i + 1) * length // outputs)) for i in range(outputs)]


def _adaptive(reduce: Callable[..., Array]) -> Callable[..., Array]:
    def compute(call: Call, x: Array) -> Array:
        oh, ow = call.attr("output_size")
        result = np.empty((*x.shape[:2], oh, ow))
        for oy, (top, bottom) in enumerate(_bounds(x.shape[2], oh)):
            for ox, (left, right) in enumerate(_bounds(x.shape[3], ow)):
                result[:, :, oy, ox] = reduce(x[:, :, top:bottom, left:right], axis=(2, 3))
        return result

    return compute


def _static_adaptive(reduction: str, pool: str) -> Callable[[Call, Sequence[Value]], Node]:
    """An adaptive pooling whose windows are all alike is a plain one, and one with a single window is a reduction."""

    def static(call: Call, outputs: Sequence[Value]) -> Node:
        (h, w), (oh, ow) = map_size(call.shape("x")), call.attr("output_size")
        if (oh, ow) == (1, 1):
            return _reduction(call, reduction)
        if h % oh or w % ow:
            return call.spelled_out()
        kernel = (h // oh, w // ow)
        attributes = {name: row.default for name, row in _ROWS[pool].attributes.items()}
        return call.node.with_(op=pool, attrs={**attributes, "kernel": kernel, "strides": kernel})

    return static


_WINDOW: dict[str, Attribute] = {
    "kernel": COUNTS,
    "strides": COUNTS.with_default((1, 1)),
    "padding": PADDING.with_default((0, 0, 0, 0)),
    "dilation": COUNTS.with_default((1, 1)),
    "ceil_mode": FLAG.with_default(False),
}

_ROWS = {
    "max_pool2d": Operator(
        "max_pool2d",
        ("x",),
        _infer_pool,
        _compute_max_pool2d,
        _WINDOW,
        foldable=False,
        static=_static_pool("reduce_max"),
    ),
    "avg_pool2d": Operator(
        "avg_pool2d",
        ("x",),
        _infer_pool,
        _compute_avg_pool2d,
        {**_WINDOW, "count_include_pad": FLAG.with_default(True), "divisor": COUNT.with_default(None)},
        foldable=False,
        static=_static_pool("reduce_mean"),
    ),
}

OPERATORS = (
    *_ROWS.values(),
    *(
        Operator(
            f"adaptive_{pool}",
            ("x",),
            _infer_adaptive,
            _adaptive(function),
            {"output_size": COUNTS},
            static=_static_adaptive(reduction, pool),
        )
        for pool, reduction, function in (
            ("avg_pool2d", "reduce_mean", np.mean),
            ("max_pool2d", "reduce_max", np.max),
        )
    ),
)
