"""Layers that are planned by crossed products: which, what comes out, and that it is the same however it is run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from layers import convolutions
from same_bits import assert_same_however_run

import sepcore
from sepcore import ops
from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.ops import custom
from sepcore.ir.reference import run_reference
from sepcore.kernels import isa as isas
from sepcore.kernels.crossed import rows as crossed_rows
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.plan import bands, select
from sepcore.runtime.session import Session

pytestmark = pytest.mark.skipif(not crossed_rows.tiles(isas.available()[0].name), reason="only for AVX-512")


@pytest.fixture(params=[True, False], ids=["crossed", "plain"])
def crossed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether products are crossed wherever they can be, or none are."""
    monkeypatch.setattr(select, "_WORTH_CROSSING", 1e9 if request.param else 0.0)
    monkeypatch.setattr(select, "_WORTH_SHARING", 1e9)
    monkeypatch.setattr(isas, "two_passes", lambda: True)
    select.crossed_tiles.cache_clear()
    yield request.param
    select.crossed_tiles.cache_clear()


def graph(channels: int, activation: tuple[str, ...] | None, excited: bool) -> Graph:
    """Depthwise, expansion, depthwise, and a projection to which the first depthwise layer's map is added.

    Where ``excited``, the projection's input is multiplied with factors of its own average.
    """
    b = GraphBuilder("crossed")
    conv = convolutions(b)

    wide = 3 * channels
    x = conv(b.input("input", ("n", channels, "h", "w")), channels, channels, 3, channels, ("relu",))
    y = conv(x, channels, wide, 1, 1, activation)
    y = conv(y, wide, wide, 3, wide, ("relu",))
    if excited:
        mean = b.add("reduce_mean", [y], axes=(2, 3), keepdims=True)
        y = b.add("mul", [y, conv(conv(mean, wide, 8, 1, 1, ("relu",)), 8, wide, 1, 1, ("hardsigmoid",))])
    return b.build([conv(y, wide, channels, 1, 1, activation, x)])


@pytest.mark.parametrize("least", [bands.LEAST_CHAINED_BYTES, 0])  # of what is in chains
@pytest.mark.parametrize(
    ("channels", "height", "width", "activation", "excited"),
    [
        (64, 14, 14, ("relu",), False),
        (24, 2, 12, ("silu",), False),
        (40, 6, 8, ("hardswish",), True),
        (160, 4, 28, None, True),
        (96, 7, 7, ("relu",), True),
        (17, 3, 5, ("silu",), False),
    ],
)
def test_like_the_reference_and_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
    crossed: bool,
    channels: int,
    height: int,
    width: int,
    activation: tuple[str, ...] | None,
    excited: bool,
    least: int,
) -> None:
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", least)
    network, shape = run_passes(graph(channels, activation, excited)), (3, channels, height, width)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    one = Session(network, SessionOptions(num_threads=1))
    kernels = one.program((1, *shape[1:])).kernels()
    assert any(kernel.startswith("f32_crossed") for kernel in kernels) == crossed
    if crossed:
        assert "f32_scale_weights__avx512" not in kernels  # factors are multiplied with the pixels
    rows = [crossed_rows.row(tile, one.isa).name for tile in crossed_rows.tiles(one.isa)]
    assert_same_however_run(network, one, x, rows)


def cube(x: Any) -> Any:
    return x * x * x


def test_an_operator_of_the_users_is_called_on_what_it_stores(crossed: bool) -> None:
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
        assert len(called) == 1 and called[0].startswith("f32_crossed" if crossed else "f32_pointwise")
    finally:
        ops.remove("cube")


def test_channels_side_by_side_stay_as_they_are(crossed: bool) -> None:
    """Channels past a layer's last are another's, where a concatenation has them: they are not written over."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("beside")
    x = b.input("x", ("n", 64, "h", "w"))

    def conv(x: str, oc: int) -> str:
        weight = (rng.standard_normal((oc, 64, 1, 1)) / 8).astype(np.float32)
        return b.add("conv2d", (x, b.constant("w", weight)), activation=("relu",))

    network = run_passes(b.build([b.add("concat", (conv(x, 24), conv(x, 40), conv(x, 64)), axis=1)]))
    data = rng.standard_normal((1, 64, 7, 7)).astype(np.float32)
    (expected,) = run_reference(network, {"x": data})
    session = Session(network, SessionOptions(num_threads=2))
    np.testing.assert_allclose(session(data), expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (196, 15, 512),  # less than a vector of channels
        (6, 512, 512),  # fewer pixels than any tile has
    ],
)
def test_what_cannot_be_crossed(crossed: bool, m: int, k: int, n: int) -> None:
    assert select.crossed_tiles(m, k, n, isas.available()[0].name) is None


def test_few_outputs_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """To scale a pixel takes longer than what is saved of its products."""
    monkeypatch.setattr(isas, "two_passes", lambda: True)
    isa = isas.available()[0].name
    select.crossed_tiles.cache_clear()
    assert select.crossed_tiles(196, 512, 512, isa) is not None
    assert select.crossed_tiles(3136, 32, 16, isa) is None


def test_only_where_512_bits_take_two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isas, "two_passes", lambda: False)
    select.crossed_tiles.cache_clear()
    assert select.crossed_tiles(196, 512, 512, isas.available()[0].name) is None
    select.crossed_tiles.cache_clear()
