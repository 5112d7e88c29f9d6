"""Layers that are planned by Strassen's algorithm: which, what comes out, and that it is the same however it is run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from same_bits import assert_same_however_run

import sepcore
from sepcore import ops
from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.ops import custom
from sepcore.ir.reference import run_reference
from sepcore.kernels import isa as isas
from sepcore.kernels.strassen import rows as strassen
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.plan import bands, select
from sepcore.runtime.session import Session

pytestmark = pytest.mark.skipif(not strassen.tiles(isas.available()[0].name), reason="only for AVX-512")


@pytest.fixture(params=[True, False], ids=["halved", "plain"])
def halved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether layers are halved wherever they can be, or none is."""
    monkeypatch.setattr(select, "_WORTH_HALVING", 1e9 if request.param else 0.0)
    monkeypatch.setattr(select, "_WORTH_SHARING", 1e9)
    monkeypatch.setattr(isas, "two_passes", lambda: True)
    select.halved_tiles.cache_clear()
    yield request.param
    select.halved_tiles.cache_clear()


def graph(channels: int, activation: tuple[str, ...] | None) -> Graph:
    """Depthwise, expansion, depthwise, and a projection to which the first depthwise layer's map is added."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("halves")

    def conv(x: str, ic: int, oc: int, k: int, g: int, act: tuple[str, ...] | None, *more: str) -> str:
        weight = (rng.standard_normal((oc, ic // g, k, k)) / np.sqrt(ic // g * k * k)).astype(np.float32)
        bias = rng.standard_normal(oc).astype(np.float32)
        return b.add(
            "conv2d", [x, b.constant("w", weight), b.constant("b", bias), *more], strides=(1, 1),
            padding=(k // 2,) * 4, dilation=(1, 1), groups=g, activation=act,
        )  # fmt: skip

    x = conv(b.input("input", ("n", channels, "h", "w")), channels, channels, 3, channels, ("relu",))
    y = conv(x, channels, 3 * channels, 1, 1, activation)
    y = conv(y, 3 * channels, 3 * channels, 3, 3 * channels, ("relu",))
    return b.build([conv(y, 3 * channels, channels, 1, 1, activation, x)])


@pytest.mark.parametrize("least", [bands.LEAST_CHAINED_BYTES, 0])  # of what is in chains
@pytest.mark.parametrize(
    ("channels", "height", "width", "activation"),
    [
        (64, 14, 14, ("relu",)),
        (64, 2, 12, ("silu",)),
        (96, 6, 8, ("hardswish",)),
        (160, 4, 28, None),
        (96, 7, 7, ("relu",)),  # the last pixel has no partner
        (64, 3, 5, ("silu",)),
    ],
)
def test_like_the_reference_and_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
    halved: bool,
    channels: int,
    height: int,
    width: int,
    activation: tuple[str, ...] | None,
    least: int,
) -> None:
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", least)
    network, shape = graph(channels, activation), (3, channels, height, width)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    one = Session(network, SessionOptions(num_threads=1))
    kernels = one.program((1, *shape[1:])).kernels()
    assert any(kernel.startswith("f32_strassen") for kernel in kernels) == halved
    assert any(kernel.startswith("f32_pointwise") for kernel in kernels) != halved
    assert_same_however_run(network, one, x, [strassen.row(tile, one.isa).name for tile in strassen.tiles(one.isa)])


def cube(x: Any) -> Any:
    return x * x * x


def test_an_operator_of_the_users_is_called_on_what_it_stores(halved: bool) -> None:
    sepcore.op("my.domain::Cube")(cube)
    try:
        b = GraphBuilder("cube")
        weight = np.random.default_rng(0).standard_normal((192, 64, 1, 1)).astype(np.float32) / np.float32(8)
        y = b.add("conv2d", (b.input("x", ("n", 64, "h", "w")), b.constant("w", weight)))
        network = run_passes(b.build([b.add(f"{custom.PREFIX}cube", (y,))]))
        x = np.random.default_rng(1).standard_normal((1, 64, 8, 14)).astype(np.float32)
        session = Session(network, SessionOptions(num_threads=2))
        (expected,) = run_reference(network, {"x": x})
        np.testing.assert_allclose(session(x), expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
        called = [step.kernel for step in session.program(x.shape).steps if step.epilogue]
        assert len(called) == 1 and called[0].startswith("f32_strassen" if halved else "f32_pointwise")
    finally:
        ops.remove("cube")


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (196, 511, 512),  # an odd channel is left
        (196, 512, 500),  # no tile's columns fill half of the channels
        (13 * 17, 512, 512),  # no tile's rows divide the pairs of pixels
        (196, 24, 512),  # half a pixel is less than a vector
    ],
)
def test_what_cannot_be_halved(halved: bool, m: int, k: int, n: int) -> None:
    assert select.halved_tiles(m, k, n, isas.available()[0].name) is None


def test_maps_without_a_pixel_behind_the_last_are_not_halved(halved: bool) -> None:
    """Two halves of an odd map's channels, side by side where a concatenation has them."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("beside")
    x = b.input("x", ("n", 64, "h", "w"))

    def conv(x: str, ic: int) -> str:
        weight = (rng.standard_normal((64, ic, 1, 1)) / np.sqrt(ic)).astype(np.float32)
        return b.add("conv2d", (x, b.constant("w", weight)), activation=("relu",))

    network = run_passes(b.build([b.add("concat", (conv(conv(x, 64), 64), conv(x, 64)), axis=1)]))
    data = rng.standard_normal((1, 64, 7, 7)).astype(np.float32)
    (expected,) = run_reference(network, {"x": data})
    session = Session(network, SessionOptions(num_threads=2))
    np.testing.assert_allclose(session(data), expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    kernels = [step.kernel for step in session.program(data.shape).steps if step.macs]
    assert sum(kernel.startswith("f32_strassen") for kernel in kernels) == (1 if halved else 0)


def test_small_layers_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums and more weights take longer than the eighth of the products that is saved."""
    monkeypatch.setattr(isas, "two_passes", lambda: True)
    isa = isas.available()[0].name
    select.halved_tiles.cache_clear()
    assert select.halved_tiles(196, 512, 512, isa) is not None
    assert select.halved_tiles(3136, 32, 32, isa) is None
    assert select.halved_tiles(28, 512, 512, isa) is None


def test_only_where_512_bits_take_two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isas, "two_passes", lambda: False)
    select.halved_tiles.cache_clear()
    assert select.halved_tiles(196, 512, 512, isas.available()[0].name) is None
    select.halved_tiles.cache_clear()
