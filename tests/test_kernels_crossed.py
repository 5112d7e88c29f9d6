"""The rows of crossed products against products in float64, on guarded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_calls import ACTIVATIONS, call, close, padded

from sepcore.compile import kernels_for
from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.crossed import pack
from sepcore.kernels.crossed import rows as crossed
from sepcore.kernels.crossed.balance import unbalance
from sepcore.kernels.pointwise.reference import pointwise as pointwise_reference

pytestmark = pytest.mark.parametrize(
    "isa", [i for i in isas.available() if crossed.tiles(i.name)], ids=lambda i: i.name
)


SHAPES = [(0, 16, 16), (1, 33, 40), (5, 48, 20), (3, 64, 64), (40, 144, 24), (2, 97, 8)]
"""Pixels more than a tile has, input and output channels."""


def random(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def product(
    isa: isas.Isa,
    tile: crossed.Tile,
    n: int,
    seed: int,
    x: Any,
    weight: Any = None,
    factors: Any = None,
    without_bias: bool = False,
) -> tuple[Any, Any]:
    """What the row of ``tile`` finds for pixels (m, k), and what it should."""
    spec = crossed.row(tile, isa.name)
    address = kernels_for([spec], isa.name)[spec.name]
    rng, activation = np.random.default_rng(seed), ACTIVATIONS[seed % len(ACTIVATIONS)]
    m, k = x.shape
    weight, bias = random(rng, n, k) if weight is None else weight, random(rng, n)
    bias = np.zeros_like(bias) if without_bias else bias
    panels = -(-n // isa.lanes)
    columns = panels * isa.lanes
    residual = random(rng, m, n) if seed % 3 == 0 else None
    stride = columns + isa.lanes * (seed % 2)
    row_blocks, panel_blocks = min(1 + seed % 3, m // tile.rows), min(1 + seed % 2, panels)
    words = {
        crossed.M: m,
        crossed.K: k,
        crossed.X_STRIDE: 4 * k,
        crossed.OUT_STRIDE: 4 * stride,
        crossed.EXTRA_STRIDE: 4 * stride,
        crossed.PANELS: panels,
        crossed.ROW_BLOCKS: row_blocks,
        crossed.PANEL_BLOCKS: panel_blocks,
        crossed.PREFETCH_SHIFT: seed % 3,
        crossed.AHEAD: (seed % 5) << 20,
        crossed.SCRATCH: 64 * (seed % 2),
        crossed.CHUNK: 1 + seed % 3,
    }
    arrays = {
        step.X: x,
        step.WEIGHTS: pack.pack(weight, bias, isa.lanes),
        step.OUT: np.full((m, stride), np.nan, np.float32),
    }
    if residual is not None:
        arrays[step.EXTRA] = padded(residual, stride)
    if factors is not None:
        arrays[crossed.FACTORS] = factors
    scratch = words[crossed.SCRATCH] + crossed.scratch_bytes(tile.rows, k, isa.lanes, words[crossed.CHUNK])
    found = call(address, words, arrays, activation, row_blocks * panel_blocks, scratch, at_end=seed % 2 == 0)
    scaled = x if factors is None else x.astype(np.float64) * factors
    return found[:, :n], pointwise_reference(scaled, weight, bias, activation, residual)


def test_products(isa: isas.Isa) -> None:
    for number, tile in enumerate(crossed.tiles(isa.name)):
        for seed, (m, k, n) in enumerate(SHAPES):
            rng = np.random.default_rng(seed)
            factors = random(rng, k) if seed % 2 else None
            found, expected = product(isa, tile, n, number + seed, random(rng, tile.rows + m, k), factors=factors)
            close(found, expected, 8 * np.sqrt(k))


def test_whole_numbers_come_out_exactly(isa: isas.Isa) -> None:
    """A wrong sign or pair is no rounding: of small integers there is none."""
    for tile in crossed.tiles(isa.name):
        rng = np.random.default_rng(tile.rows)
        x = rng.integers(-8, 9, (3 * tile.rows, 40)).astype(np.float32)
        weight = rng.integers(-8, 9, (32, 40)).astype(np.float32)
        found, expected = product(isa, tile, 32, 18, x, weight)
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def plain_errors(x: Any, weight: Any, expected: Any) -> float:
    """The error of a fused multiply-add after another."""
    sums = np.zeros(expected.shape)
    for i in range(x.shape[1]):
        products = np.outer(x[:, i].astype(float), weight[:, i].astype(float))
        sums = (sums + products).astype(np.float32).astype(float)
    return float(np.sqrt(np.mean((sums - expected) ** 2)))


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e3, 1e12])
@pytest.mark.parametrize("k", [64, 256, 1024])
def test_errors_stay_near_those_of_a_plain_product(isa: isas.Isa, k: int, size: float) -> None:
    """Over activations and weights as layers have them, whatever their size: twice as large at most."""
    rng = np.random.default_rng(k)
    tile = crossed.tiles(isa.name)[0]
    x = np.clip(random(rng, 2 * tile.rows, k), 0, 6) * np.float32(size)
    weight = random(rng, 64, k) / np.float32(np.sqrt(k))
    found, with_bias = product(isa, tile, 64, 18, x, weight)
    expected = x.astype(float) @ weight.T.astype(float)
    error = np.sqrt(np.mean((found - with_bias) ** 2))
    bias_error = np.sqrt(np.mean((with_bias - with_bias.astype(np.float32)) ** 2))
    assert error < 2 * np.hypot(plain_errors(x, weight, expected), bias_error)


def test_outputs_of_every_size_have_their_digits(isa: isas.Isa) -> None:
    """Weights that training let fade, or that a folded variance made huge, beside those of other outputs."""
    tile = crossed.tiles(isa.name)[0]
    rng = np.random.default_rng(0)
    x, weight = random(rng, tile.rows, 70), random(rng, 48, 70)
    weight *= np.float32(10.0) ** np.linspace(-30, 20, 48, dtype=np.float32)[:, None]
    weight[5] = 0
    packed = pack.pack(weight, None, isa.lanes)
    assert np.isfinite(packed).all()
    found, expected = product(isa, tile, 48, 2, x, weight, without_bias=True)
    assert (np.abs(found - expected) <= 1e-5 * np.abs(weight).sum(axis=1)).all()


def test_scaled_weights_can_be_scaled_back(isa: isas.Isa) -> None:
    rng = np.random.default_rng(0)
    weight, bias = random(rng, 40, 50), random(rng, 40)
    weight *= np.float32(10.0) ** rng.integers(-9, 9, (40, 1)).astype(np.float32)
    weight[3], weight[:, 7] = 0, -0.0
    plain = pack.arranged(weight, bias, isa.lanes)
    scaled = pack.pack(weight, bias, isa.lanes).reshape(-1, crossed.panel_rows(50), isa.lanes)
    unbalance(scaled)
    assert scaled.tobytes() == plain.tobytes()


def test_pixels_do_not_touch_each_other(isa: isas.Isa) -> None:
    """One that is not finite, or far larger than the others, leaves their bits alone."""
    tile = crossed.tiles(isa.name)[0]
    x = random(np.random.default_rng(1), 2 * tile.rows, 50)
    found, _ = product(isa, tile, 32, 1, x)
    spoiled = x.copy()
    spoiled[3], spoiled[5] = np.inf, 1e15
    with np.errstate(invalid="ignore"):
        again, _ = product(isa, tile, 32, 1, spoiled)
    others = np.delete(np.arange(len(x)), [3, 5])
    np.testing.assert_array_equal(again[others], found[others])
    assert np.isnan(again[3]).all()
