"""The kernel that the planner takes for each layer of MobileNets, on one thread: one suite per row family.

``extra_info`` of a result holds the kernel's name and the multiply-adds of a call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sepcore.bench.profile import program_calls
from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.runtime.session import Session

# MobileNetV1's pointwise layers (input channels, output channels, side), then those of V2's blocks, then classifiers.
POINTWISE = [
    (32, 64, 112), (64, 128, 56), (128, 128, 56), (128, 256, 28), (256, 256, 28), (256, 512, 14), (512, 512, 14),
    (512, 1024, 7), (1024, 1024, 7), (16, 96, 112), (96, 24, 56), (24, 144, 56), (144, 32, 28), (32, 192, 28),
    (192, 64, 14), (64, 384, 14), (384, 96, 14), (96, 576, 14), (576, 160, 7), (160, 960, 7), (960, 320, 7),
    (320, 1280, 7), (1024, 1000, 1), (1280, 1000, 1),
]  # fmt: skip

# Channels, side of the input, kernel size, stride: V1, V2, then V3's and EfficientNet's wider windows.
DEPTHWISE = [
    (32, 112, 3, 1), (64, 112, 3, 2), (128, 56, 3, 1), (128, 56, 3, 2), (256, 28, 3, 1), (256, 28, 3, 2),
    (512, 14, 3, 1), (512, 14, 3, 2), (1024, 7, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (192, 28, 3, 1),
    (384, 14, 3, 1), (960, 7, 3, 1), (72, 56, 5, 2), (120, 28, 5, 1), (672, 14, 5, 1), (960, 7, 5, 1), (96, 14, 7, 1),
]  # fmt: skip

STEM = [(32, 224), (16, 224), (32, 192)]  # output channels, side
POOL = [(1024, 7), (1280, 7), (576, 7), (120, 28)]  # channels, side


def convolution(
    channels: int, out_channels: int, side: int, size: int, stride: int, groups: int, pooled: bool = False
) -> Graph:
    """One convolution with ReLU6 over square maps, and a mean over each map if ``pooled``; random weights."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("convolution")
    x = b.input("input", ("n", channels, side, side))
    weight = b.constant("weight", rng.standard_normal((out_channels, channels // groups, size, size), np.float32))
    bias = b.constant("bias", rng.standard_normal(out_channels, np.float32))
    y = b.add(
        "conv2d", [x, weight, bias], strides=(stride, stride), padding=(size // 2,) * 4, dilation=(1, 1),
        groups=groups, activation=("clamp", 0.0, 6.0),
    )  # fmt: skip
    return b.build([b.add("reduce_mean", [y], axes=(2, 3), keepdims=False) if pooled else y])


def measure(benchmark: Any, graph: Graph, operator: str) -> None:
    """Time the one step whose kernel is of a family; the others, of layouts mostly, are not timed."""
    (value,) = graph.inputs
    session = Session(run_passes(graph), SessionOptions(1))
    calls = program_calls(session, ((1, *value.shape[1:]),))  # type: ignore[arg-type]
    calls.whole()
    rows = [(s, call) for s, call in zip(calls.program.steps, calls.steps) if s.kernel.startswith(f"f32_{operator}")]
    assert len(rows) == 1, [s.kernel for s in calls.program.steps]
    ((row, call),) = rows
    benchmark.extra_info |= {"kernel": row.kernel, "macs": row.macs}
    benchmark(call)


@pytest.mark.parametrize(("channels", "out_channels", "side"), POINTWISE)
def test_pointwise(benchmark: Any, channels: int, out_channels: int, side: int) -> None:
    measure(benchmark, convolution(channels, out_channels, side, 1, 1, 1), "pointwise")


@pytest.mark.parametrize(("channels", "side", "size", "stride"), DEPTHWISE)
def test_depthwise(benchmark: Any, channels: int, side: int, size: int, stride: int) -> None:
    measure(benchmark, convolution(channels, channels, side, size, stride, channels), "depthwise")


@pytest.mark.parametrize(("out_channels", "side"), STEM)
def test_stem(benchmark: Any, out_channels: int, side: int) -> None:
    measure(benchmark, convolution(3, out_channels, side, 3, 2, 1), "stem")


@pytest.mark.parametrize(("channels", "side"), POOL)
def test_global_average_pool(benchmark: Any, channels: int, side: int) -> None:
    # Behind a convolution, since a network's input is laid out otherwise than its maps.
    measure(benchmark, convolution(channels, channels, side, 3, 1, channels, pooled=True), "global_average_pool")
