"""Layers that are planned by Strassen's algorithm: which, what comes out, and that it is the same however it is run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

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
    [(64, 14, 14, ("relu",)), (64, 2, 12, ("silu",)), (96, 6, 8, ("hardswish",)), (160, 4, 28, None)],
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
    (expected,) = run_reference(network, {"input": x})
    one = Session(network, SessionOptions(num_threads=1))
    kernels = one.program((1, *shape[1:])).kernels()
    assert sum(kernel.startswith("f32_sums_of_quarters") for kernel in kernels) == halved
    assert any(kernel.startswith("f32_pointwise") for kernel in kernels) != halved
    (result,) = one.run(None, {"input": x})
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    for threads in (2, 3, 5):
        session = Session(network, SessionOptions(num_threads=threads))
        for i in range(3):
            (found,) = session.run(None, {"input": x[i : i + 1]})
            np.testing.assert_array_equal(found, result[i : i + 1])
    for tile in strassen.tiles(one.isa):
        name = strassen.product_row(tile, one.isa).name
        choices = (step.choice for step in one.program((1, *shape[1:])).steps if step.choice is not None)
        one.retune({choice.key: name for choice in choices if name in dict(choice.rows)})
        np.testing.assert_array_equal(one.run(None, {"input": x})[0], result)


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
    ("height", "width", "k", "n"),
    [
        (13, 14, 512, 512),  # an odd row is left
        (14, 14, 511, 512),  # an odd channel is
        (14, 14, 512, 500),  # no tile's columns fill half of the channels
        (14, 13, 512, 512),  # no tile's rows fill a row
        (14, 14, 24, 512),  # half a pixel is less than a vector
    ],
)
def test_what_cannot_be_halved(halved: bool, height: int, width: int, k: int, n: int) -> None:
    assert select.halved_tiles(height, width, k, n, isas.available()[0].name) is None


def test_small_layers_are_not_worth_it() -> None:
    """Sums and more weights take longer than the eighth of the products that is saved."""
    isa = isas.available()[0].name
    assert select.halved_tiles(14, 14, 64, 384, isa) is None
    assert select.halved_tiles(2, 14, 512, 512, isa) is None
