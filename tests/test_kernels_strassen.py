"""The rows of Strassen's algorithm against products in float64, on guarded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_calls import ACTIVATIONS, call, close, padded

from sepcore.compile import kernels_for
from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.pointwise.reference import pointwise as pointwise_reference
from sepcore.kernels.strassen import pack
from sepcore.kernels.strassen import rows as strassen

pytestmark = pytest.mark.parametrize(
    "isa", [i for i in isas.available() if strassen.tiles(i.name)], ids=lambda i: i.name
)


def random(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def product(
    isa: isas.Isa, tile: strassen.Tile, half: int, panels: int, seed: int, x: Any = None, weight: Any = None
) -> tuple[Any, Any]:
    """What the row of ``tile`` finds for pixels (m, k), and what it should."""
    spec = strassen.row(tile, isa.name)
    address = kernels_for([spec], isa.name)[spec.name]
    rng, activation = np.random.default_rng(seed), ACTIVATIONS[seed % len(ACTIVATIONS)]
    n, tiles = 2 * panels * tile.columns(isa.lanes), 1 + seed % 4
    pairs, pixels = tiles * tile.rows, 2 * tiles * tile.rows - seed % 2
    x = random(rng, 2 * pairs, 2 * half) if x is None else x
    pairs, pixels = len(x) // 2, len(x) - 2 * pairs + pixels
    if pixels < len(x):
        x[-1] = np.nan  # what stands behind the last pixel does not matter
    weight, bias = random(rng, n, 2 * half) if weight is None else weight, random(rng, n)
    residual = random(rng, len(x), n) if seed % 3 == 0 else None
    stride, sum_stride = n + isa.lanes * (seed % 2), -(-half // isa.lanes) * isa.lanes
    row_blocks, panel_blocks = min(1 + seed % 3, pairs // tile.rows), min(1 + seed % 2, panels)
    words = {
        strassen.M: pairs,
        strassen.PIXELS: pixels,
        strassen.K: half,
        strassen.X_STRIDE: 8 * half,
        strassen.SUM_STRIDE: 4 * sum_stride,
        strassen.OUT_STRIDE: 4 * stride,
        strassen.EXTRA_STRIDE: 4 * stride,
        strassen.PANELS: panels,
        strassen.ROW_BLOCKS: row_blocks,
        strassen.PANEL_BLOCKS: panel_blocks,
        strassen.PREFETCH_SHIFT: seed % 3,
        strassen.AHEAD: (seed % 5) << 20,
    }
    arrays = {
        step.X: x,
        step.WEIGHTS: pack.pack(weight, bias, tile, isa.lanes),
        step.OUT: np.full((len(x), stride), np.nan, np.float32),
    }
    if residual is not None:
        arrays[step.EXTRA] = padded(residual, stride)
    block = -(-pairs // tile.rows // row_blocks) * tile.rows
    scratch = strassen.scratch_bytes(tile, isa.lanes, block, 4 * sum_stride)
    found = call(address, words, arrays, activation, row_blocks * panel_blocks, scratch, at_end=seed % 2 == 0)
    expected = pointwise_reference(x, weight, bias, activation, residual)
    return found[:pixels, :n], expected[:pixels]


def test_products(isa: isas.Isa) -> None:
    for number, tile in enumerate(strassen.tiles(isa.name)):
        for seed, (half, panels) in enumerate([(16, 1), (17, 2), (30, 3), (33, 1), (64, 2), (24, 1)]):
            found, expected = product(isa, tile, half, panels, number + seed)
            # Seven products of sums: their terms are a few times those of the plain product.
            close(found, expected, 8 * np.sqrt(2 * half))


def test_whole_numbers_come_out_exactly(isa: isas.Isa) -> None:
    """A wrong sign or quarter is no rounding: of small integers there is none."""
    for tile in strassen.tiles(isa.name):
        rng = np.random.default_rng(tile.rows)
        x = rng.integers(-8, 9, (2 * tile.rows, 40)).astype(np.float32)
        weight = rng.integers(-8, 9, (4 * tile.columns(isa.lanes), 40)).astype(np.float32)
        found, expected = product(isa, tile, 20, 2, 18, x, weight)
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("k", [256, 1024])
def test_errors_stay_near_those_of_a_plain_product(isa: isas.Isa, k: int) -> None:
    """Over activations and weights as layers have them: at most three times as large, in the mean."""
    rng = np.random.default_rng(k)
    tile = strassen.tiles(isa.name)[0]
    x = np.clip(random(rng, 2 * tile.rows, k), 0, 6)
    weight = random(rng, 4 * tile.columns(isa.lanes), k) / np.float32(np.sqrt(k))
    found, expected = product(isa, tile, k // 2, 2, 18, x, weight)
    pixels, plain = x, np.zeros(expected.shape)
    bias = expected - pixels.astype(float) @ weight.T.astype(float)
    for i in range(k):  # a fused multiply-add after another
        plain = (
            (plain + np.outer(pixels[:, i].astype(float), weight[:, i].astype(float))).astype(np.float32).astype(float)
        )
    error, plain_error = (np.sqrt(np.mean((y - expected) ** 2)) for y in (found, plain + bias))
    assert plain_error < error < 3 * plain_error
