"""The reference networks as graphs with random weights, for measuring without files; it must not measure.

Stages are those of the papers: MobileNets (Howard 2017), MobileNetV2 (Sandler 2018), MobileNetV3 (Howard 2019),
MnasNet-A-like B1 (Tan 2019), EfficientNet (Tan and Le 2019), MobileNetV4 (Qin 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.passes import run_passes

Activation = tuple[str] | tuple[str, float, float] | None
_RELU: Activation = ("relu",)
_RELU6: Activation = ("clamp", 0.0, 6.0)
_HARDSWISH: Activation = ("hardswish",)
_SILU: Activation = ("silu",)


class _Builder:
    """A network under construction: ``value`` is the last layer's output, of so many ``channels``."""

    def __init__(self, name: str) -> None:
        self.rng = np.random.default_rng(0)
        self.b = GraphBuilder(name)
        self.value, self.channels = self.b.input("input", ("n", 3, 224, 224)), 3

    def conv(self, channels: int, size: int = 1, stride: int = 1, groups: int = 1, act: Activation = None) -> None:
        weight = self.rng.standard_normal((channels, self.channels // groups, size, size), np.float32)
        weight *= (2 / weight[0].size) ** 0.5
        names = [self.value, self.b.constant("weight", weight), self.b.constant("bias", np.zeros(channels, np.float32))]
        self.value = self.b.add(
            "conv2d", names, strides=(stride, stride), padding=(size // 2,) * 4, dilation=(1, 1), groups=groups,
            activation=act,
        )  # fmt: skip
        self.channels = channels

    def depthwise(self, size: int, stride: int, act: Activation) -> None:
        self.conv(self.channels, size, stride, self.channels, act)

    def squeeze_excite(self, squeezed: int, inner: Activation, gate: Activation) -> None:
        x, channels = self.value, self.channels
        self.value = self.b.add("reduce_mean", [x], axes=(2, 3), keepdims=True)
        self.conv(squeezed, act=inner)
        self.conv(channels, act=gate)
        self.value = self.b.add("mul", [x, self.value])

    def inverted_residual(
        self, expanded: int, channels: int, size: int, stride: int, act: Activation,
        squeeze: Callable[[_Builder], None] | None = None, before: int = 0,
    ) -> None:  # fmt: skip
        """Expand, depthwise (none where ``size`` is 0), project; ``before`` is a depthwise layer ahead of them."""
        x, shortcut = self.value, stride == 1 and channels == self.channels
        if before:
            self.depthwise(before, 1 if size else stride, None)
        if expanded != self.channels:
            self.conv(expanded, act=act)
        if size:
            self.depthwise(size, stride, act)
        if squeeze:
            squeeze(self)
        self.conv(channels)
        if shortcut:
            self.value = self.b.add("add", [self.value, x])

    def pool(self) -> None:
        self.value = self.b.add("reduce_mean", [self.value], axes=(2, 3), keepdims=True)

    def done(self, *hidden: int, act: Activation = None) -> Graph:
        """The classifier, behind hidden layers on the pooled vector."""
        for width in hidden:
            self.conv(width, act=act)
        self.conv(1000)
        return run_passes(self.b.build([self.b.add("flatten", [self.value], start_axis=1, end_axis=-1)]))


def mobilenet_v1() -> Graph:
    n = _Builder("mobilenet_v1")
    n.conv(32, 3, 2, act=_RELU6)
    sizes = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    for channels, stride in sizes:
        n.depthwise(3, stride, _RELU6)
        n.conv(channels, act=_RELU6)
    n.pool()
    return n.done()


def mobilenet_v2() -> Graph:
    n = _Builder("mobilenet_v2")
    n.conv(32, 3, 2, act=_RELU6)
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, channels, count, first in stages:
        for i in range(count):
            n.inverted_residual(expand * n.channels, channels, 3, 1 if i else first, _RELU6)
    n.conv(1280, act=_RELU6)
    n.pool()
    return n.done()


def _mobilenet_v3(name: str, blocks: tuple[tuple[int, int, int, int, int, int], ...], last: int, hidden: int) -> Graph:
    """Blocks: kernel size, expanded, channels, squeezed (0 for none), hardswish, stride."""
    n = _Builder(name)
    n.conv(16, 3, 2, act=_HARDSWISH)
    for size, expanded, channels, squeezed, hard, stride in blocks:
        gate = partial(_Builder.squeeze_excite, squeezed=squeezed, inner=_RELU, gate=("hardsigmoid",))
        n.inverted_residual(expanded, channels, size, stride, _HARDSWISH if hard else _RELU, gate if squeezed else None)
    n.conv(last, act=_HARDSWISH)
    n.pool()
    return n.done(hidden, act=_HARDSWISH)


def mobilenet_v3_large() -> Graph:
    blocks = (
        (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 24, 0, 2),
        *[(5, 120, 40, 32, 0, 1)] * 2, (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), *[(3, 184, 80, 0, 1, 1)] * 2,
        (3, 480, 112, 120, 1, 1), (3, 672, 112, 168, 1, 1), (5, 672, 160, 168, 1, 2), *[(5, 960, 160, 240, 1, 1)] * 2,
    )  # fmt: skip
    return _mobilenet_v3("mobilenet_v3_large", blocks, 960, 1280)


def mobilenet_v3_small() -> Graph:
    blocks = (
        (3, 16, 16, 8, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 24, 1, 2),
        *[(5, 240, 40, 64, 1, 1)] * 2, (5, 120, 48, 32, 1, 1), (5, 144, 48, 40, 1, 1), (5, 288, 96, 72, 1, 2),
        *[(5, 576, 96, 144, 1, 1)] * 2,
    )  # fmt: skip
    return _mobilenet_v3("mobilenet_v3_small", blocks, 576, 1024)


def mnasnet1_0() -> Graph:
    n = _Builder("mnasnet1_0")
    n.conv(32, 3, 2, act=_RELU)
    n.depthwise(3, 1, _RELU)
    n.conv(16)
    stages = (
        (3, 3, 24, 3, 2),
        (5, 3, 40, 3, 2),
        (5, 6, 80, 3, 2),
        (3, 6, 96, 2, 1),
        (5, 6, 192, 4, 2),
        (3, 6, 320, 1, 1),
    )
    for size, expand, channels, count, first in stages:
        for i in range(count):
            n.inverted_residual(expand * n.channels, channels, size, 1 if i else first, _RELU)
    n.conv(1280, act=_RELU)
    n.pool()
    return n.done()


def efficientnet_b0() -> Graph:
    n = _Builder("efficientnet_b0")
    n.conv(32, 3, 2, act=_SILU)
    stages = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )  # fmt: skip
    for expand, channels, count, first, size in stages:
        for i in range(count):
            gate = partial(_Builder.squeeze_excite, squeezed=n.channels // 4, inner=_SILU, gate=("sigmoid",))
            n.inverted_residual(
                expand * n.channels, channels, size, 1 if i else first, _SILU,
                gate,
            )  # fmt: skip
    n.conv(1280, act=_SILU)
    n.pool()
    return n.done()


def mobilenetv4_conv_small() -> Graph:
    n = _Builder("mobilenetv4_conv_small")
    for channels, size, stride in ((32, 3, 2), (32, 3, 2), (32, 1, 1), (96, 3, 2), (64, 1, 1)):
        n.conv(channels, size, stride, act=_RELU)
    blocks = (
        (5, 5, 3, 96, 2), *[(0, 3, 2, 96, 1)] * 4, (3, 0, 4, 96, 1), (3, 3, 6, 128, 2), (5, 5, 4, 128, 1),
        (0, 5, 4, 128, 1), (0, 5, 3, 128, 1), *[(0, 3, 4, 128, 1)] * 2,
    )  # fmt: skip
    for before, size, expand, channels, stride in blocks:
        n.inverted_residual(expand * n.channels, channels, size, stride, _RELU, before=before)
    n.conv(960, act=_RELU)
    n.pool()
    return n.done(1280, act=_RELU)


NETWORKS: Mapping[str, Callable[[], Graph]] = MappingProxyType(
    {
        build.__name__: build
        for build in (
            mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small, mnasnet1_0, efficientnet_b0,
            mobilenetv4_conv_small,
        )
    }
)  # fmt: skip
