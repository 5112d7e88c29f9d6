"""Estimated costs: what they prefer where it was measured, for CPUs of both kinds."""

from __future__ import annotations

import numpy as np
import pytest

from sepcore.ir.graph import GraphBuilder
from sepcore.kernels import isa as isas
from sepcore.kernels.pointwise.rows import Tile, tiles
from sepcore.options import SessionOptions
from sepcore.plan import select
from sepcore.runtime.session import Session


def cheapest(m: int, k: int, n: int) -> Tile:
    return min((t for t in tiles("avx512") if t.rows <= m), key=lambda t: select.pointwise_cycles(t, m, k, n, 16))


@pytest.mark.parametrize(
    ("two_passes", "shape", "wanted"),
    [
        (False, (196, 512, 512), (14, 32)),
        (False, (3136, 144, 24), (8, 24)),
        (True, (3136, 24, 72), (4, 24)),
        (True, (784, 120, 40), (4, 40)),
        (True, (196, 512, 512), (14, 32)),
    ],
)
def test_tiles_that_measured_best(
    monkeypatch: pytest.MonkeyPatch, two_passes: bool, shape: tuple[int, int, int], wanted: tuple[int, int]
) -> None:
    monkeypatch.setattr(isas, "two_passes", lambda: two_passes)
    tile = cheapest(*shape)
    assert (tile.rows, tile.columns(16)) == wanted
    # Registers of half the width are no gain where whole ones take no longer.
    assert two_passes or not tile.narrow


def test_channels_are_divided_where_no_tile_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isas, "two_passes", lambda: False)
    parts = select.column_parts.__wrapped__(196, 672, 112, "avx512")
    assert len(parts) == 2 and sum(parts) == 112 and parts[0] % 16 == 0
    assert select.column_parts.__wrapped__(196, 512, 512, "avx512") == (512,)
    assert select.column_parts.__wrapped__(1, 8, 8, "avx512") == (8,)


def test_a_divided_layer_has_the_same_bits(monkeypatch: pytest.MonkeyPatch, plain_products: None) -> None:
    rng = np.random.default_rng(0)
    b = GraphBuilder("divided")
    x = b.input("input", ("n", 40, "h", "w"))
    weight = rng.standard_normal((112, 40, 1, 1)).astype(np.float32)
    inputs = [x, b.constant("w", weight), b.constant("b", rng.standard_normal(112).astype(np.float32))]
    shape = {"strides": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    y = b.add("conv2d", inputs, activation=("silu",), **shape)
    square = rng.standard_normal((112, 112, 1, 1)).astype(np.float32)
    graph = b.build([b.add("conv2d", [y, b.constant("w", square), "", y], activation=None, **shape)])
    images = rng.standard_normal((3, 40, 9, 7)).astype(np.float32)

    def run(parts: tuple[int, ...], threads: int) -> np.ndarray:
        monkeypatch.setattr(select, "column_parts", lambda m, k, n, isa: parts)
        session = Session(graph, SessionOptions(num_threads=threads))
        steps = [s for s in session.program((1, 40, 9, 7)).steps if "pointwise" in s.kernel]
        assert len(steps) == 2 * len(parts)
        return session(images)

    whole = run((112,), 1)
    for parts in ((64, 48), (96, 16), (48, 64), (32, 80)):
        for threads in (1, 2):
            np.testing.assert_array_equal(run(parts, threads), whole)
