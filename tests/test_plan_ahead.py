"""Prefetching: weights are asked for before layers that would wait for them, in order, and no further than the lead."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.kernels import isa as isas
from sepcore.kernels import step as words
from sepcore.kernels.pointwise import rows as pointwise
from sepcore.options import SessionOptions
from sepcore.plan import ahead
from sepcore.plan.program import Step
from sepcore.runtime.session import Session


def graph(channels: int, layers: int, classes: int) -> Graph:
    """Pointwise layers of many pixels, then a classifier."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("layers")
    y = b.input("input", ("n", channels, "h", "w"))
    for _ in range(layers):
        weight = rng.standard_normal((channels, channels, 1, 1)).astype(np.float32)
        y = b.add(
            "conv2d", [y, b.constant("w", weight)], strides=(1, 1), padding=(0,) * 4, dilation=(1, 1), groups=1,
            activation=("relu",),
        )  # fmt: skip
    y = b.add("reduce_mean", [y], axes=(2, 3), keepdims=False)
    weight = rng.standard_normal((classes, channels)).astype(np.float32)
    return b.build([b.add("linear", [y, b.constant("w", weight)])])


def asked(step: Step, isa: isas.Isa) -> tuple[int, int]:
    """First and last byte behind that the step asks for, from the start of the weights' region."""
    w, tile = step.words, pointwise_tile(step, isa)
    lines = w[pointwise.PANELS] * -(-w[pointwise.M] // tile.rows) * (w[pointwise.K] >> w[pointwise.PREFETCH_SHIFT])
    first = step.operands[words.WEIGHTS].offset + w[pointwise.AHEAD]
    return first, first + 64 * lines


def pointwise_tile(step: Step, isa: isas.Isa) -> pointwise.Tile:
    return next(t for t in pointwise.tiles(isa.name) if pointwise.row(t, isa.name).name == step.kernel)


def pointwise_steps(session: Session, size: int) -> list[Step]:
    program = session.program((1, session.inputs[0].shape[1], size, size))
    return [step for step in program.steps if step.kernel.startswith("f32_pointwise")]


def test_a_classifier_is_asked_for_by_the_layers_before() -> None:
    session = Session(graph(256, 4, 1000), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    *layers, classifier = pointwise_steps(session, 28)
    own = classifier.operands[words.WEIGHTS].offset
    end = own + classifier.weight_bytes
    # Four layers have the time to ask for everything; then nobody asks again, nor for memory behind all weights.
    at = layers[0].operands[words.WEIGHTS].offset
    for step in (*layers, classifier):
        start = step.operands[words.WEIGHTS].offset
        if step.words[pointwise.AHEAD]:
            first, after = asked(step, isa)
            assert first == max(at, start + step.weight_bytes // step.words[pointwise.PANELS])
            assert after < 2 * end
            at = after
        else:
            assert at >= end and asked(step, isa) == (start, start)
    assert at >= end and not classifier.words[pointwise.AHEAD]


def test_layers_of_one_pixel_ask_for_nothing() -> None:
    """They take all that memory gives."""
    session = Session(graph(64, 1, 4000), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    layer, classifier = pointwise_steps(session, 8)
    own = classifier.operands[words.WEIGHTS].offset
    assert asked(layer, isa)[1] < own + classifier.weight_bytes
    assert asked(classifier, isa) == (own, own)


def test_the_lead_bounds_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_LEAD_BYTES", 64 << 10)
    session = Session(graph(256, 4, 1000), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    *layers, _ = steps = pointwise_steps(session, 28)
    intervals = [asked(step, isa) for step in layers]
    assert all(end >= following for (_, end), (following, _) in pairwise(intervals))
    assert all(first > step.operands[words.WEIGHTS].offset for step, (first, _) in zip(layers, intervals))
    for step in steps:
        first, end = asked(step, isa)
        own = step.operands[words.WEIGHTS].offset
        # Halves of the steps at a time: never twice what is left, but always as much as the layer itself has.
        assert end - first <= max(2 * (own + step.weight_bytes + (64 << 10) - first), 2 * step.weight_bytes)


def test_a_layer_asks_for_its_next_panel_first() -> None:
    session = Session(graph(96, 1, 10), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    step = pointwise_steps(session, 56)[0]
    panel = step.weight_bytes // step.words[pointwise.PANELS]
    assert step.words[pointwise.AHEAD] == panel
    assert asked(step, isa)[1] >= step.operands[words.WEIGHTS].offset + step.weight_bytes
