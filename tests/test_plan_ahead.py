"""Prefetching: weights are asked for before layers that would wait for them, in order, and no further than the lead."""

from __future__ import annotations

import numpy as np
import pytest

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.kernels import isa as isas
from sepcore.kernels import registry
from sepcore.kernels import step as words
from sepcore.kernels.crossed.rows import third
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


def asked(step: Step, isa: isas.Isa) -> tuple[int, int] | None:
    """First and last byte behind that the step asks for, in the weights' region; None where it asks for nothing."""
    w, tile = step.words, tile_of(step)
    tiles = w[pointwise.PANELS] * -(-w[pointwise.M] // tile.rows)
    turns = third(w[pointwise.K]) if is_crossed(step) else w[pointwise.K]
    lines = tiles * (turns >> w[pointwise.PREFETCH_SHIFT])
    if pointwise.AHEAD not in step.operands:
        assert lines == 0
        return None
    first = step.operands[pointwise.AHEAD].offset
    return first, first + 64 * lines


def pace(step: Step, isa: isas.Isa) -> float:
    """Bytes that the step asks for in the time of a multiply-add."""
    tile = tile_of(step)
    products = (2 if is_crossed(step) else 1) * tile.rows * tile.columns(isa.lanes)
    return 64 / (products << step.words[pointwise.PREFETCH_SHIFT])


def is_crossed(step: Step) -> bool:
    return step.kernel.startswith("f32_crossed")


def tile_of(step: Step) -> pointwise.Tile:
    tile = registry.find(step.kernel).parameters
    assert isinstance(tile, pointwise.Tile)
    return tile


def pointwise_steps(session: Session, size: int) -> list[Step]:
    program = session.program((1, session.inputs[0].shape[1], size, size))
    return [step for step in program.steps if pointwise.PREFETCH_SHIFT in step.words and step.macs]


def own(step: Step) -> tuple[int, int]:
    """First byte of the step's weights, and the one behind its last."""
    first = step.operands[words.WEIGHTS].offset
    return first, first + step.weight_bytes


@pytest.fixture(params=[True, False], ids=["as planned", "plain"])
def products(request: pytest.FixtureRequest) -> None:
    """Layers as they are planned, and all by plain products."""
    if not request.param:
        request.getfixturevalue("plain_products")


def test_a_classifier_is_asked_for_by_the_layers_before(products: None) -> None:
    session = Session(graph(256, 4, 1000), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    *layers, classifier = pointwise_steps(session, 28)
    assert len(layers) == 4
    spans = [asked(step, isa) for step in layers]
    # One after another, each as far as its own weights at least, the last as far as the classifier's.
    assert spans[0] is not None and spans[0][0] <= own(layers[0])[1]
    at = spans[0][0]
    for step, span in zip(layers, spans):
        if span is not None:
            assert span[0] <= max(at, own(step)[1])
            at = max(at, span[1])
        assert at >= own(step)[1]
    assert at >= own(classifier)[1]
    # No earlier than the pace demands: the first layer has no part in it.
    assert spans[0][1] < own(classifier)[0]
    assert all(pace(step, isa) <= ahead._BYTES_A_PRODUCT for step in layers)


def test_layers_of_one_pixel_ask_for_nothing() -> None:
    """They take all that memory gives."""
    session = Session(graph(64, 1, 4000), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    layer, classifier = pointwise_steps(session, 8)
    span = asked(layer, isa)
    assert span is not None and span[1] < own(classifier)[1]
    assert asked(classifier, isa) is None


def test_the_lead_bounds_what_is_asked_for(monkeypatch: pytest.MonkeyPatch, products: None) -> None:
    """But for the steps of the last layer that asks, which are halves at a time."""
    monkeypatch.setattr(ahead, "_LEAD_BYTES", 64 << 10)
    session = Session(graph(256, 4, 1000), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    for step in pointwise_steps(session, 28)[:-1]:
        span = asked(step, isa)
        if span is not None:
            first, end = own(step)
            assert first < span[0] < end + (64 << 10)
            assert span[1] - span[0] <= 2 * (end + (64 << 10) - span[0])


def test_a_layer_asks_for_its_next_panel_first(products: None) -> None:
    session = Session(graph(96, 1, 10), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    step = pointwise_steps(session, 56)[0]
    span = asked(step, isa)
    assert span is not None
    assert span[0] == own(step)[0] + step.weight_bytes // step.words[pointwise.PANELS]
    assert span[1] >= own(step)[1]


def test_a_layer_of_scaled_weights_asks_for_the_next_layers(plain_products: None) -> None:
    """Its own come out of the arena; those that they are made of have been read by then."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("squeeze")

    def conv(x: str, ic: int, oc: int, groups: int = 1) -> str:
        size = 3 if groups > 1 else 1
        weight = rng.standard_normal((oc, ic // groups, size, size)).astype(np.float32)
        return b.add(
            "conv2d", [x, b.constant("w", weight)], strides=(1, 1), padding=(size // 2,) * 4, dilation=(1, 1),
            groups=groups, activation=("relu",),
        )  # fmt: skip

    y = conv(b.input("input", ("n", 128, "h", "w")), 128, 128, 128)
    s = conv(conv(b.add("reduce_mean", [y], axes=(2, 3), keepdims=True), 128, 16), 16, 128)
    y = b.add("reduce_mean", [conv(b.add("mul", [y, s]), 128, 128)], axes=(2, 3), keepdims=False)
    classes = b.constant("w", rng.standard_normal((1000, 128)).astype(np.float32))
    session = Session(b.build([b.add("linear", [y, classes])]), SessionOptions(num_threads=1))
    isa = isas.by_name(session.isa)
    *_, projection, classifier = pointwise_steps(session, 28)
    span = asked(projection, isa)
    assert projection.operands[words.WEIGHTS].space == "private"
    assert span is not None and span[0] <= own(classifier)[0] and span[1] >= own(classifier)[1]
