"""Convolutions planned by blocks of 2x2 outputs: which, what comes out, and that it is the same however it is run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from same_bits import assert_same_however_run

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.reference import run_reference
from sepcore.kernels import isa as isas
from sepcore.kernels.winograd import rows as winograd
from sepcore.options import SessionOptions
from sepcore.plan import bands, select
from sepcore.runtime.session import Session

pytestmark = pytest.mark.skipif(not winograd.tiles(isas.available()[0].name), reason="only for AVX-512")

PYTORCH, TENSORFLOW = (1, 1, 1, 1), "same"


@pytest.fixture(params=[True, False], ids=["by blocks", "plain"])
def by_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether convolutions are done by blocks wherever they can be, or none is."""
    monkeypatch.setattr(select, "_WORTH_BLOCKS", 1e9 if request.param else 0.0)
    monkeypatch.setattr(isas, "two_passes", lambda: True)
    select.winograd_tiles.cache_clear()
    yield request.param
    select.winograd_tiles.cache_clear()


def graph(channels: int, padding: object, activation: tuple[str, ...] | None) -> Graph:
    """A strided convolution, a projection, a depthwise layer, and a strided convolution a residual is added to."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("blocks")

    def conv(x: str, ic: int, oc: int, k: int, g: int, stride: int, *more: str) -> str:
        weight = (rng.standard_normal((oc, ic // g, k, k)) / np.sqrt(ic // g * k * k)).astype(np.float32)
        bias = rng.standard_normal(oc).astype(np.float32)
        return b.add(
            "conv2d", [x, b.constant("w", weight), b.constant("b", bias), *more], strides=(stride, stride),
            padding=padding if k == 3 else (0,) * 4, dilation=(1, 1), groups=g, activation=activation,
        )  # fmt: skip

    x = b.input("input", ("n", channels, "h", "w"))
    half = conv(x, channels, channels, 3, 1, 2)
    y = conv(half, channels, 2 * channels, 1, 1, 1)
    y = conv(y, 2 * channels, 2 * channels, 3, 2 * channels, 1)
    residual = conv(half, channels, 72, 3, 1, 2)
    return b.build([conv(y, 2 * channels, 72, 3, 1, 2, residual)])


@pytest.mark.parametrize("padding", [PYTORCH, TENSORFLOW], ids=["pytorch", "tensorflow"])
@pytest.mark.parametrize("least", [bands.LEAST_CHAINED_BYTES, 0])  # of what is in chains
@pytest.mark.parametrize(
    ("channels", "height", "width", "activation"),
    [(32, 56, 56, ("relu",)), (16, 23, 47, ("silu",)), (48, 32, 32, None)],
)
def test_like_the_reference_and_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
    by_blocks: bool,
    padding: object,
    channels: int,
    height: int,
    width: int,
    activation: tuple[str, ...] | None,
    least: int,
) -> None:
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", least)
    network, shape = graph(channels, padding, activation), (3, channels, height, width)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    one = Session(network, SessionOptions(num_threads=1))
    kernels = one.program((1, *shape[1:])).kernels()
    assert any(kernel.startswith("f32_winograd") for kernel in kernels) == by_blocks
    assert_same_however_run(network, one, x, [winograd.row(tile, one.isa).name for tile in winograd.tiles(one.isa)])


def test_bands_begin_where_blocks_do(monkeypatch: pytest.MonkeyPatch, by_blocks: bool) -> None:
    """What the tiles of a strided depthwise layer read begins at odd rows of the layer before."""
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 0)
    rng = np.random.default_rng(0)
    b = GraphBuilder("odd starts")
    x = b.input("input", ("n", 32, "h", "w"))
    for oc, groups, stride in ((32, 1, 2), (32, 32, 2)):
        weight = (rng.standard_normal((oc, 32 // groups, 3, 3)) / np.sqrt(288 / groups)).astype(np.float32)
        x = b.add(
            "conv2d", (x, b.constant("w", weight)), strides=(stride, stride), padding=PYTORCH, dilation=(1, 1),
            groups=groups, activation=("relu",),
        )  # fmt: skip
    network, data = b.build([x]), rng.standard_normal((1, 32, 64, 48)).astype(np.float32)
    (expected,) = run_reference(network, {"input": data})
    results = []
    for threads in (1, 2, 3, 4):
        session = Session(network, SessionOptions(num_threads=threads))
        chains = [step.chain for step in session.program(data.shape).steps if step.chain]
        firsts = {run[0].kernel for chain in chains for run in chain}
        assert any(kernel.startswith("f32_winograd") for kernel in firsts) == by_blocks
        results.append(session(data))
    np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize(
    ("height", "width", "k", "n"),
    [
        (27, 28, 32, 96),  # an odd row is left
        (28, 26, 32, 96),  # no tile's blocks fill a row
        (28, 28, 24, 96),  # half a vector of channels is left
    ],
)
def test_what_has_no_blocks(by_blocks: bool, height: int, width: int, k: int, n: int) -> None:
    assert select.winograd_tiles(height, width, k, n, isas.available()[0].name) is None


@pytest.mark.parametrize(
    ("size", "stride", "groups", "dilation"), [(3, 1, 1, 1), (5, 2, 1, 1), (3, 2, 2, 1), (3, 2, 1, 2)]
)
def test_other_convolutions_are_not_done_by_blocks(
    by_blocks: bool, size: int, stride: int, groups: int, dilation: int
) -> None:
    b = GraphBuilder("other")
    weight = np.ones((32, 32 // groups, size, size), np.float32)
    y = b.add(
        "conv2d", (b.input("x", ("n", 32, "h", "w")), b.constant("w", weight)), strides=(stride,) * 2,
        padding=(size // 2 * dilation,) * 4, dilation=(dilation,) * 2, groups=groups,
    )  # fmt: skip
    kernels = Session(b.build([y]), SessionOptions(num_threads=1)).program((1, 32, 32, 32)).kernels()
    assert not any(kernel.startswith("f32_winograd") for kernel in kernels)
