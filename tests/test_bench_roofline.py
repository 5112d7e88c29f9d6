"""The roofline: what bounds a step, and the bytes that the planner says it moves."""

from __future__ import annotations

import numpy as np
import pytest
from networks import small_graph

from sepcore.bench.limits import Bandwidth, Limits
from sepcore.bench.networks import mobilenet_v2
from sepcore.bench.roofline import Bound, Roofline
from sepcore.ir.graph import GraphBuilder
from sepcore.options import SessionOptions
from sepcore.plan import bands
from sepcore.plan.program import Program, Step
from sepcore.runtime.session import Session

LIMITS = Limits("avx2", 100.0, (Bandwidth("L1", 1, 400.0), Bandwidth("L2", 1, 200.0), Bandwidth("memory", 1, 10.0)))
CACHES = {"L1": 1000, "L2": 100_000}


def bound(
    macs: int, map_bytes: int, weight_bytes: int = 0, threads: int = 1, others: int = 0, kernel: str = "k"
) -> Bound:
    step = Step(kernel, 1, {}, {}, "node", macs, map_bytes=map_bytes, weight_bytes=weight_bytes)
    other = Step("k", 1, {}, {}, "other", weight_bytes=others)
    program = Program("p", "avx2", 1, threads, (step, other), (), (), (), 0, 0, 0)
    return Roofline(program, LIMITS, CACHES).bound(step)


def test_the_slower_of_arithmetic_and_traffic_bounds_a_step() -> None:
    assert bound(50_000, 800) == Bound(1000.0, "multiply-adds")
    assert bound(50, 800) == Bound(2.0, "L1")
    assert bound(50, 8000) == Bound(40.0, "L2")
    assert bound(50, 800_000) == Bound(80_000.0, "memory")


def test_a_layer_of_crossed_products_does_two_thirds_of_them() -> None:
    assert bound(90_000, 800, kernel="f32_crossed_7x16__avx512") == Bound(1200.0, "multiply-adds")
    assert bound(80_000, 800, kernel="f32_pointwise_7x32__avx512") == Bound(1600.0, "multiply-adds")


def test_a_convolution_by_blocks_does_25_of_36_products_in_a_chain_too() -> None:
    kernel = "f32_winograd_k3s2_7x32__avx512"
    assert bound(72_000, 800, kernel=kernel) == Bound(1000.0, "multiply-adds")
    rows = Step("stem", 1, {}, {}, "first", 10_000), Step(kernel, 1, {}, {}, "second", 72_000)
    chain = Step("chain", 2, {}, {}, "first+second", 82_000, chain=(rows, rows))
    program = Program("p", "avx512", 1, 1, (chain,), (), (), (), 0, 0, 0)
    assert Roofline(program, LIMITS, CACHES).bound(chain) == Bound(1200.0, "multiply-adds")


def test_weights_come_from_where_the_whole_program_fits() -> None:
    assert bound(0, 800, 10_000) == Bound(52.0, "L2")
    assert bound(0, 800, 10_000, others=100_000) == Bound(1002.0, "memory")


def test_threads_multiply_the_peak_and_the_caches_but_not_memory() -> None:
    assert bound(50_000, 800, threads=2) == Bound(500.0, "multiply-adds")
    assert bound(0, 1600, threads=2) == Bound(2.0, "L1")
    assert bound(0, 800_000, threads=2) == Bound(80_000.0, "memory")


def test_a_layer_moves_its_maps_and_its_weights_once() -> None:
    b = GraphBuilder("pointwise")
    x = b.input("input", ("n", 32, 10, 12))
    for channels in (64, 32):
        weight = b.constant("weight", np.ones((channels, 96 - channels, 1, 1), np.float32))
        x = b.add("conv2d", [x, weight], strides=(1, 1), padding=(0,) * 4, dilation=(1, 1), groups=1, activation=None)
    steps = Session(b.build([x]), SessionOptions(1)).program((1, 32, 10, 12)).steps
    layers = [s for s in steps if s.macs]
    assert [s.map_bytes for s in layers] == [4 * 120 * (32 + 64)] * 2
    # One row of bias on top, and whole vectors of columns.
    assert layers[0].weight_bytes == 4 * 33 * 64
    assert layers[1].weight_bytes >= 4 * 65 * 32


def test_a_chain_moves_what_lies_outside_its_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (1, 3, 224, 224)
    chained = [s for s in Session(mobilenet_v2(), SessionOptions(1)).program(shape).steps if s.chain]
    assert chained
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 1 << 60)
    apart = {s.node: s for s in Session(mobilenet_v2(), SessionOptions(1)).program(shape).steps}
    for chain in chained:
        layers = [apart[node] for node in dict.fromkeys(row.node for run in chain.chain for row in run)]
        assert chain.weight_bytes == sum(layer.weight_bytes for layer in layers)
        assert chain.map_bytes < sum(layer.map_bytes for layer in layers)


def test_every_step_of_a_network_moves_something() -> None:
    for step in Session(small_graph(), SessionOptions(2)).program((1, 3, 64, 64)).steps:
        assert step.map_bytes > 0
        assert (step.weight_bytes > 0) == (step.macs > 0)
