"""Chains of layers by bands of rows: the same bits as layer by layer, at any band height, on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.options import SessionOptions
from sepcore.plan import bands
from sepcore.runtime.session import Session


def graph(size: int, stride: int, dense: bool = False) -> Graph:
    """A stem chain, a chain with an expansion and a residual, and a plain depthwise-pointwise chain.

    With ``dense`` convolutions over all channels, or two groups of them, stand in place of depthwise ones.
    """
    rng = np.random.default_rng(size)
    b = GraphBuilder("chains")

    def conv(x: str, ic: int, oc: int, k: int, s: int = 1, g: int = 1, act: Any = None, residual: str = "") -> str:
        g = min(g, 2) if dense else g
        weight = (rng.standard_normal((oc, ic // g, k, k)) / np.sqrt(ic // g * k * k)).astype(np.float32)
        inputs = [x, b.constant("w", weight), b.constant("b", rng.standard_normal(oc).astype(np.float32))]
        return b.add(
            "conv2d", inputs + ([residual] if residual else []), strides=(s, s), padding=(k // 2,) * 4,
            dilation=(1, 1), groups=g, activation=act,
        )  # fmt: skip

    x = b.input("input", ("n", 3, "h", "w"))
    y = conv(conv(conv(x, 3, 16, 3, 2, act=("relu",)), 16, 16, size, stride, 16, ("hardswish",)), 16, 24, 1)
    z = conv(conv(y, 24, 72, 1, act=("relu",)), 72, 72, size, 1, 72, ("silu",))
    y = conv(z, 72, 24, 3 if dense else 1, residual=y)
    y = conv(conv(y, 24, 24, size, stride, 24), 24, 40, 1, act=("relu",))
    return b.build([y])


def kernels(session: Session, *shape: int) -> list[str]:
    return [step.kernel.partition("__")[0] for step in session.program(shape).steps]


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize(("height", "width"), [(150, 117), (61, 200)])
@pytest.mark.parametrize("dense", [False, True])
def test_same_bits_as_layer_by_layer(
    monkeypatch: pytest.MonkeyPatch, size: int, stride: int, height: int, width: int, dense: bool
) -> None:
    x = np.random.default_rng(0).standard_normal((3, 3, height, width)).astype(np.float32)
    network = graph(size, stride, dense)
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 1 << 60)
    plain = Session(network, SessionOptions(num_threads=1))
    assert "chain" not in kernels(plain, 1, 3, height, width)
    expected = plain(x)
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 0)
    for cache_bytes, tallest in ((1 << 30, 8), (1 << 30, 2), (300 << 10, 4)):
        monkeypatch.setattr(bands, "_CACHE_BYTES", cache_bytes)
        monkeypatch.setattr(bands, "_TALLEST_BAND", tallest)
        for threads in (1, 2, 3):
            chained = Session(network, SessionOptions(num_threads=threads))
            assert kernels(chained, 1, 3, height, width).count("chain") >= 1
            np.testing.assert_array_equal(chained(x), expected)
            np.testing.assert_array_equal(chained(x[:1]), expected[:1])


def test_maps_too_narrow_for_a_tile_stay_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 900, 6)).astype(np.float32)
    network = graph(3, 1)
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 1 << 60)
    expected = Session(network, SessionOptions(num_threads=1))(x)
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 0)
    np.testing.assert_array_equal(Session(network, SessionOptions(num_threads=2))(x), expected)


def test_a_stride_of_two_makes_no_more_rows_at_a_time() -> None:
    """MobileNetV2's first layers in one chain: its ring of 96 channels before the stride holds 8 rows, not 12."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("first layers")
    y = b.input("input", ("n", 3, "h", "w"))
    for ic, oc, size, stride, groups in ((3, 32, 3, 2, 1), (32, 32, 3, 1, 32), (32, 96, 1, 1, 1), (96, 96, 3, 2, 96)):
        weight = rng.standard_normal((oc, ic // groups, size, size)).astype(np.float32)
        y = b.add(
            "conv2d", [y, b.constant("w", weight)], strides=(stride,) * 2, padding=(size // 2,) * 4, dilation=(1, 1),
            groups=groups, activation=("clamp", 0.0, 6.0),
        )  # fmt: skip
    session = Session(b.build([y]), SessionOptions(num_threads=1))
    first, *rest = kernels(session, 1, 3, 224, 224)
    assert first == "chain" and not any("depthwise" in name for name in rest)
