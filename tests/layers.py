"""Layers with random weights, for graphs that tests build."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sepcore.ir.graph import GraphBuilder


def convolutions(b: GraphBuilder) -> Callable[..., str]:
    """``conv(x, ic, oc, k=1, g=1, act=None, *more)`` adds a convolution that keeps its map's size, with a bias.

    Each call's weights are the next of one seeded row of numbers; ``more`` is the residual, where there is one.
    """
    rng = np.random.default_rng(0)

    def conv(x: str, ic: int, oc: int, k: int = 1, g: int = 1, act: tuple[str, ...] | None = None, *more: str) -> str:
        weight = (rng.standard_normal((oc, ic // g, k, k)) / np.sqrt(ic // g * k * k)).astype(np.float32)
        bias = rng.standard_normal(oc).astype(np.float32)
        return b.add(
            "conv2d", [x, b.constant("w", weight), b.constant("b", bias), *more], strides=(1, 1),
            padding=(k // 2,) * 4, dilation=(1, 1), groups=g, activation=act,
        )  # fmt: skip

    return conv
