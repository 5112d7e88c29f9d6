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


def sums_of(x: Any) -> Any:
    """S1 to S4 of a map (pairs, 2, width, k), each of a map in float32: (pairs, 4, width, k / 2)."""
    half = x.shape[-1] // 2
    a11, a12, a21, a22 = (x[:, i, :, j : j + half] for i in (0, 1) for j in (0, half))
    s1 = a21 + a22
    s2 = s1 - a11
    return np.stack([s1, s2, a11 - a21, a12 - s2], axis=1)


@pytest.mark.parametrize("extra", [0, 2, 14])  # channels of a half beyond whole vectors
def test_sums(isa: isas.Isa, extra: int) -> None:
    spec = strassen.sums_row(isa.name)
    address = kernels_for([spec], isa.name)[spec.name]
    half, rng = 2 * isa.lanes + extra, np.random.default_rng(extra)
    for seed, (pairs, width) in enumerate([(1, 1), (2, 3), (3, 14)]):
        # Nothing behind the last pixel's channels may be read, nor written behind the last sum.
        x = random(rng, pairs, 2, width, 2 * half)
        blocks = min(pairs * width, 1 + 2 * seed)
        words = {
            strassen.M: width,
            strassen.PAIRS: pairs,
            strassen.K: half,
            strassen.X_STRIDE: 8 * half,
            strassen.OUT_STRIDE: 4 * half,
            strassen.ROW_BLOCKS: blocks,
        }
        arrays = {step.X: x, step.OUT: np.full((pairs, 4, width, half), np.nan, np.float32)}
        found = call(address, words, arrays, tiles=blocks, at_end=seed % 2 == 0)
        np.testing.assert_array_equal(found, sums_of(x))


def product(
    isa: isas.Isa, tile: strassen.Tile, half: int, panels: int, seed: int, x: Any = None, weight: Any = None
) -> tuple[Any, Any]:
    """What the row of ``tile`` finds for a map, and what it should."""
    spec = strassen.product_row(tile, isa.name)
    address = kernels_for([spec], isa.name)[spec.name]
    rng, activation = np.random.default_rng(seed), ACTIVATIONS[seed % len(ACTIVATIONS)]
    n, pairs, width = 2 * panels * tile.columns(isa.lanes), 1 + seed % 3, tile.rows * (1 + seed % 2)
    x = random(rng, pairs, 2, width, 2 * half) if x is None else x
    weight, bias = random(rng, n, 2 * half) if weight is None else weight, random(rng, n)
    residual = random(rng, x.size // (2 * half), n) if seed % 3 == 0 else None
    stride = n + isa.lanes * (seed % 2)
    row_blocks, panel_blocks = (min(3, pairs * width // tile.rows), 1 + seed % 2)
    words = {
        strassen.M: width,
        strassen.PAIRS: pairs,
        strassen.K: half,
        strassen.X_STRIDE: 8 * half,
        strassen.SUM_STRIDE: 4 * half,
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
        strassen.SUMS: sums_of(x),
        step.WEIGHTS: pack.pack(weight, bias, tile, isa.lanes),
        step.OUT: np.full((2 * pairs * width, stride), np.nan, np.float32),
    }
    if residual is not None:
        arrays[step.EXTRA] = padded(residual, stride)
    scratch = strassen.scratch_bytes(tile, isa.lanes)
    found = call(address, words, arrays, activation, row_blocks * panel_blocks, scratch, at_end=seed % 2 == 0)
    pixels = x.reshape(-1, 2 * half)
    return found[:, :n], pointwise_reference(pixels, weight, bias, activation, residual)


def test_products(isa: isas.Isa) -> None:
    for number, tile in enumerate(strassen.tiles(isa.name)):
        for seed, (half, panels) in enumerate([(1, 1), (7, 2), (16, 3), (33, 1), (64, 2), (24, 1)]):
            found, expected = product(isa, tile, half, panels, number + seed)
            # Seven products of sums: their terms are a few times those of the plain product.
            close(found, expected, 8 * np.sqrt(2 * half))


def test_whole_numbers_come_out_exactly(isa: isas.Isa) -> None:
    """A wrong sign or quarter is no rounding: of small integers there is none."""
    for tile in strassen.tiles(isa.name):
        rng = np.random.default_rng(tile.rows)
        x = rng.integers(-8, 9, (1, 2, tile.rows, 40)).astype(np.float32)
        weight = rng.integers(-8, 9, (4 * tile.columns(isa.lanes), 40)).astype(np.float32)
        found, expected = product(isa, tile, 20, 2, 18, x, weight)
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("k", [256, 1024])
def test_errors_stay_near_those_of_a_plain_product(isa: isas.Isa, k: int) -> None:
    """Over activations and weights as layers have them: at most three times as large, in the mean."""
    rng = np.random.default_rng(k)
    tile = strassen.tiles(isa.name)[0]
    x = np.clip(random(rng, 1, 2, tile.rows, k), 0, 6)
    weight = random(rng, 4 * tile.columns(isa.lanes), k) / np.float32(np.sqrt(k))
    found, expected = product(isa, tile, k // 2, 2, 18, x, weight)
    pixels, plain = x.reshape(-1, k), np.zeros(expected.shape)
    bias = expected - pixels.astype(float) @ weight.T.astype(float)
    for i in range(k):  # a fused multiply-add after another
        plain = (
            (plain + np.outer(pixels[:, i].astype(float), weight[:, i].astype(float))).astype(np.float32).astype(float)
        )
    error, plain_error = (np.sqrt(np.mean((y - expected) ** 2)) for y in (found, plain + bias))
    assert plain_error < error < 3 * plain_error
