"""Pooling behind a depthwise layer, which adds up the rows: the same bits as pooling its map."""

from __future__ import annotations

import numpy as np
import pytest

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.reference import run_reference
from sepcore.kernels import step as words
from sepcore.options import SessionOptions
from sepcore.plan import bands
from sepcore.plan.lowering import Lowering
from sepcore.plan.program import Step
from sepcore.runtime.session import Session


def graph(size: int, stride: int) -> Graph:
    """A pointwise layer, a depthwise one, and the mean of its map beside the map."""
    rng = np.random.default_rng(size)
    b = GraphBuilder("pooled")
    x = b.input("input", ("n", 24, "h", "w"))
    y = b.add(
        "conv2d", [x, b.constant("w", rng.standard_normal((40, 24, 1, 1)).astype(np.float32))], strides=(1, 1),
        padding=(0,) * 4, dilation=(1, 1), groups=1, activation=("relu",),
    )  # fmt: skip
    y = b.add(
        "conv2d", [y, b.constant("w", rng.standard_normal((40, 1, size, size)).astype(np.float32))],
        strides=(stride,) * 2, padding=(size // 2,) * 4, dilation=(1, 1), groups=40, activation=("silu",),
    )  # fmt: skip
    return b.build([b.add("reduce_mean", [y], axes=(2, 3), keepdims=True), y])


def depthwise(session: Session, height: int, width: int) -> list[Step]:
    """The steps of the depthwise layer, those in chains too."""
    steps = session.program((1, 24, height, width)).steps
    return [s for step in steps for s in (step, *sum(step.chain, ())) if s.kernel.startswith("f32_depthwise")]


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (27, 28), (2, 14), (1, 14), (57, 112), (9, 10)])
@pytest.mark.parametrize("least", [bands.LEAST_CHAINED_BYTES, 0])
def test_same_bits_as_the_mean_of_the_map(
    monkeypatch: pytest.MonkeyPatch, size: int, stride: int, height: int, width: int, least: int
) -> None:
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", least)
    x = np.random.default_rng(1).standard_normal((2, 24, height, width)).astype(np.float32)
    network = graph(size, stride)
    name = network.inputs[0].name
    sessions = [Session(network, SessionOptions(num_threads=threads)) for threads in (1, 2)]
    assert all(words.EXTRA in step.operands for session in sessions for step in depthwise(session, height, width))
    with monkeypatch.context() as patch:
        patch.setattr(Lowering, "row_sums_behind", lambda lowering, name: None)
        plain = Session(network, SessionOptions(num_threads=1))
        assert not any(words.EXTRA in step.operands for step in depthwise(plain, height, width))
        mean, map_ = plain.run(None, {name: x})
    for session in sessions:
        found = session.run(None, {name: x})
        alone = [session.run(None, {name: x[i : i + 1]}) for i in range(2)]
        assert np.array_equal(found[0], mean) and np.array_equal(found[1], map_)
        assert np.array_equal(np.concatenate([first for first, _ in alone]), mean)
    expected = run_reference(network, {name: x})[0]
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)


def test_outputs_of_two_tiles_are_added_up_once() -> None:
    """13 columns: no tile's width divides them but one, and two tiles make some of them twice."""
    session = Session(graph(3, 1), SessionOptions(num_threads=1))
    x = np.random.default_rng(1).standard_normal((1, 24, 9, 13)).astype(np.float32)
    (step,) = depthwise(session, 9, 13)
    assert words.EXTRA in step.operands
    mean, _ = session.run(None, {"input": x})
    np.testing.assert_allclose(mean, run_reference(graph(3, 1), {"input": x})[0], rtol=1e-4, atol=1e-5)
