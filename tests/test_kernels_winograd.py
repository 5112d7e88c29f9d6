"""The rows of strided convolutions by blocks of 2x2 outputs against convolutions in float64, on guarded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_calls import ACTIVATIONS, call, close, padded

from sepcore.compile import kernels_for
from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.activation.reference import activate
from sepcore.kernels.conv import dense
from sepcore.kernels.winograd import pack
from sepcore.kernels.winograd import rows as winograd

pytestmark = pytest.mark.parametrize(
    "isa", [i for i in isas.available() if winograd.tiles(i.name)], ids=lambda i: i.name
)

# Rows and columns outside a map, at its top and left: PyTorch's padding, TensorFlow's, and more.
PADDINGS = [(1, 1), (0, 0), (1, 0), (2, 1), (0, 2)]


def patches(x: Any, padding: tuple[int, int], height: int, width: int) -> Any:
    """What a 3x3 window with a stride of two sees, in float64: (height * width, k * 9)."""
    top, left = padding
    around = np.zeros((2 * height + 1, 2 * width + 1, x.shape[2]))
    inside = x[: 2 * height + 1 - top, : 2 * width + 1 - left]
    around[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    taps = [around[y : y + 2 * height : 2, z : z + 2 * width : 2] for y in range(3) for z in range(3)]
    return np.stack(taps, axis=-1).reshape(height * width, -1)


def case(
    isa: isas.Isa, tile: winograd.Tile, k: int, oc: int, seed: int, x: Any = None, weight: Any = None
) -> tuple[Any, Any]:
    """What the row of ``tile`` finds for a map, and what it should: (height * width, oc)."""
    spec = winograd.row(tile, isa.name)
    address = kernels_for([spec], isa.name)[spec.name]
    rng, activation = np.random.default_rng(seed), ACTIVATIONS[seed % len(ACTIVATIONS)]
    height, width = 2 + 2 * (seed % 3), 2 * tile.rows * (1 + seed % 2)
    top, left = padding = PADDINGS[seed % len(PADDINGS)]
    size = 2 * height + 1 - top - seed % 2, 2 * width + 1 - left - (seed + 1) % 2
    x = rng.standard_normal((*size, k)).astype(np.float32) if x is None else x[: size[0], : size[1]]
    weight = rng.standard_normal((oc, k, 3, 3)).astype(np.float32) if weight is None else weight
    bias = rng.standard_normal(oc).astype(np.float32)
    residual = rng.standard_normal((height * width, oc)).astype(np.float32) if seed % 3 == 0 else None
    panels = -(-oc // tile.columns(isa.lanes))
    stride = panels * tile.columns(isa.lanes) + isa.lanes * (seed % 2)
    blocks = 1 + seed % 3
    words = {
        dense.HEIGHT: x.shape[0],
        dense.WIDTH: x.shape[1],
        dense.OUT_WIDTH: width,
        dense.M: height * width,
        dense.K: k,
        dense.X_PIXEL: 4 * k,
        dense.X_ROW: 4 * k * x.shape[1],
        dense.OUT_PIXEL: 4 * stride,
        dense.EXTRA_PIXEL: 4 * stride,
        dense.PAD_TOP: top,
        dense.PAD_LEFT: left,
        dense.PANELS: panels,
        dense.ROW_BLOCKS: blocks,
        dense.X_RING: x.shape[0],
    }
    arrays = {
        step.X: np.ascontiguousarray(x),
        step.WEIGHTS: pack.pack(weight, bias, tile, isa.lanes),
        step.OUT: np.full((height * width, stride), np.nan, np.float32),
        step.ZEROS: np.zeros(k, np.float32),
    }
    if residual is not None:
        arrays[step.EXTRA] = padded(residual, stride)
    scratch = winograd.scratch_bytes(tile, isa.lanes, k)
    found = call(address, words, arrays, activation, blocks, scratch, at_end=seed % 2 == 0)
    sums = patches(x, padding, height, width) @ weight.reshape(oc, -1).T.astype(np.float64) + bias
    return found[:, :oc], activate(sums if residual is None else sums + residual, activation)


def test_like_a_convolution(isa: isas.Isa) -> None:
    for number, tile in enumerate(winograd.tiles(isa.name)):
        columns = tile.columns(isa.lanes)
        for seed, (vectors, oc) in enumerate([(1, columns), (2, 2 * columns), (1, columns - 5), (3, 3), (2, columns)]):
            k = vectors * isa.lanes
            found, expected = case(isa, tile, k, oc, number + seed)
            # Sums of up to four inputs with sums of up to four weights: a few times the terms of the plain ones.
            close(found, expected, 8 * np.sqrt(9 * k))


def test_whole_numbers_come_out_exactly(isa: isas.Isa) -> None:
    """A wrong sign or place is no rounding: of small integers there is none."""
    for tile in winograd.tiles(isa.name):
        rng, k, oc = np.random.default_rng(tile.rows), isa.lanes, tile.columns(isa.lanes)
        x = rng.integers(-8, 9, (9, 4 * tile.rows + 1, k)).astype(np.float32)
        weight = rng.integers(-8, 9, (oc, k, 3, 3)).astype(np.float32)
        found, expected = case(isa, tile, k, oc, 18, x, weight)
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("k", [32, 128])
def test_errors_stay_near_those_of_plain_products(isa: isas.Isa, k: int) -> None:
    """Over activations and weights as layers have them: at most three times as large, in the mean."""
    rng, tile = np.random.default_rng(k), winograd.tiles(isa.name)[0]
    x = np.maximum(rng.standard_normal((9, 4 * tile.rows + 1, k)), 0).astype(np.float32)
    weight = (rng.standard_normal((tile.columns(isa.lanes), k, 3, 3)) / np.sqrt(9 * k)).astype(np.float32)
    found, expected = case(isa, tile, k, len(weight), 18, x, weight)
    pixels, weights, plain = patches(x, PADDINGS[3], 2, 2 * tile.rows), weight.reshape(len(weight), -1), 0.0
    bias = expected - pixels @ weights.T.astype(np.float64)
    for i in range(9 * k):  # a fused multiply-add after another
        plain = (plain + np.outer(pixels[:, i], weights[:, i].astype(np.float64))).astype(np.float32).astype(np.float64)
    error, plain_error = (np.sqrt(np.mean((y - expected) ** 2)) for y in (found, plain + bias))
    assert plain_error / 2 < error < 3 * plain_error
