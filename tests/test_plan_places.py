"""Concat, split, slice and channel shuffle: nothing is copied where it need not be, and nothing is overwritten."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.reference import run_reference
from sepcore.kernels.step import OUT
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.plan import resolve
from sepcore.runtime import context
from sepcore.runtime.session import Session

_MOVING = ("strided_copy", "layout_pack")


class Network:
    """A graph as it grows: maps of one size with random weights."""

    def __init__(self, channels: int = 3, height: int = 6, width: int = 5, stem: int = 0) -> None:
        self.rng = np.random.default_rng(7)
        self.builder = GraphBuilder("network")
        self.channels = {"": 0}
        self.x = self.builder.input("input", ("n", channels, height, width))
        self.channels[self.x] = channels
        if stem:
            self.x = self.pointwise(self.x, stem)

    def _conv(self, x: str, out: int, size: int, groups: int, residual: str = "", **attrs: Any) -> str:
        inner = self.channels[x] // groups
        weight = self.rng.standard_normal((out, inner, size, size)) / np.sqrt(inner * size * size)
        inputs = [x, self.builder.constant("w", weight.astype(np.float32))]
        inputs.append(self.builder.constant("b", self.rng.standard_normal(out).astype(np.float32)))
        inputs += [residual] if residual else []
        return self.add("conv2d", inputs, out, padding=(size // 2,) * 4, groups=groups, **attrs)

    def add(self, op: str, inputs: Sequence[str], channels: int, **attrs: Any) -> str:
        made = self.builder.add(op, inputs, **attrs)
        self.channels[made] = channels
        return made

    def pointwise(self, x: str, out: int, activation: Any = None, residual: str = "") -> str:
        return self._conv(x, out, 1, 1, residual, activation=activation)

    def dense(self, x: str, out: int) -> str:
        return self._conv(x, out, 3, 1)

    def depthwise(self, x: str, activation: Any = None, stride: int = 1) -> str:
        channels = self.channels[x]
        return self._conv(x, channels, 3, channels, activation=activation, strides=(stride, stride))

    def concat(self, *inputs: str) -> str:
        return self.add("concat", inputs, sum(self.channels[x] for x in inputs), axis=1)

    def split(self, x: str, *sizes: int) -> tuple[str, ...]:
        parts = self.builder.add_multi("split", [x], len(sizes), axis=1, sizes=sizes)
        self.channels.update(zip(parts, sizes))
        return parts

    def slice(self, x: str, first: int, end: int, step: int = 1) -> str:
        count = len(range(first, end, step))
        return self.add("slice", [x], count, axes=(1,), starts=(first,), ends=(end,), steps=(step,))

    def same(self, op: str, *inputs: str, **attrs: Any) -> str:
        """A node whose output has the channels of its first input."""
        return self.add(op, inputs, self.channels[inputs[0]], **attrs)

    def shuffle(self, x: str, groups: int = 2) -> str:
        return self.same("channel_shuffle", x, groups=groups)

    def build(self, *outputs: str) -> Graph:
        return run_passes(self.builder.build(outputs), verify=True)


def moves(graph: Graph, *shape: int, threads: int = 1) -> list[str]:
    """Nodes whose steps only move elements, but for those that write the outputs."""
    program = Session(graph, SessionOptions(num_threads=threads)).program(shape)
    return [s.node for s in program.steps if any(m in s.kernel for m in _MOVING) and s.node != "output"]


def check(graph: Graph, *shape: int) -> None:
    """One thread, two threads and a batch give the reference's numbers, and the same bits."""
    x = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    alone, shared = (Session(graph, SessionOptions(num_threads=threads)) for threads in (1, 2))
    expected = run_reference(graph, {"input": x})
    names = list(graph.outputs)
    found = alone.run(None, {"input": x})
    for name, a, b in zip(names, found, expected):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5 * max(1.0, float(np.abs(b).max())), err_msg=name)
    for images in (x, x[:1], x[1:]):
        first = 1 if images is not x and (images == x[1:]).all() else 0
        for session in (alone, shared):
            for a, b in zip(session.run(None, {"input": images}), found):
                np.testing.assert_array_equal(a, b[first : first + len(images)])


def ghost(channels: int) -> Graph:
    """GhostNet's module twice, with the depthwise layer, gate and shortcut between and around."""
    n = Network(stem=2 * channels)

    def module(x: str, out: int, activation: Any) -> str:
        primary = n.pointwise(x, out, activation)
        return n.concat(primary, n.depthwise(primary, activation))

    y = n.depthwise(module(n.x, channels + 3, ("relu",)))
    gate = n.same("sigmoid", n.add("reduce_mean", [y], n.channels[y], axes=(2, 3), keepdims=True))
    return n.build(n.pointwise(n.same("add", module(n.same("mul", y, gate), channels, None), n.x), 9))


def dense_block(channels: int, growth: int, layers: int = 5) -> Graph:
    """DenseNet's block: each layer reads all maps before it."""
    n = Network(stem=channels)
    maps = [n.x]
    for _ in range(layers):
        maps.append(n.dense(n.pointwise(n.concat(*maps) if maps[1:] else n.x, 24, ("relu",)), growth))
    return n.build(n.pointwise(n.concat(*maps), 12))


def fire(first: int, second: int) -> Graph:
    """SqueezeNet's module twice."""
    n = Network(stem=10)
    x = n.x
    for _ in range(2):
        x = n.pointwise(x, 8, ("relu",))
        x = n.concat(n.pointwise(x, first, ("relu",)), n.dense(x, second))
    return n.build(n.same("max_pool2d", x, kernel=(3, 3), strides=(1, 1), padding=(1, 1, 1, 1)))


def nested(channels: int) -> Graph:
    """A concat of concats, each read by a layer too, and parts of them."""
    n = Network(stem=channels)
    a, b, c = n.pointwise(n.x, 5), n.depthwise(n.x), n.pointwise(n.x, 19)
    inner = n.concat(a, b)
    outer = n.concat(inner, c)
    first, second = n.split(outer, 5 + channels, 19)
    y = n.concat(n.depthwise(second), n.depthwise(n.slice(outer, 5, 5 + channels)))
    return n.build(n.pointwise(inner, 4), n.depthwise(outer), n.pointwise(first, 3), n.pointwise(y, 7))


def shuffled(channels: int, units: int = 4) -> Graph:
    """ShuffleNetV2's stage twice: units that split, join and shuffle, and those that halve the map."""
    n = Network(height=12, width=9, stem=channels)
    x = n.x
    for half in (channels + 5, 2 * channels):
        left = n.pointwise(n.depthwise(x, stride=2), half, ("relu",))
        y = n.pointwise(n.depthwise(n.pointwise(x, half, ("relu",)), stride=2), half, ("relu",))
        x = n.shuffle(n.concat(left, y))
        for _ in range(units - 1):
            kept, y = n.split(x, half, half)
            y = n.pointwise(n.depthwise(n.pointwise(y, half, ("relu",))), half, ("relu",))
            x = n.shuffle(n.concat(kept, y))
    return n.build(n.pointwise(x, 20))


NETWORKS = {
    **{f"shuffled {c}": shuffled(c) for c in (24, 29, 58)},
    **{f"ghost {c}": ghost(c) for c in (8, 12, 29)},
    **{f"dense {c}+{g}": dense_block(c, g) for c, g in ((16, 16), (13, 7))},
    **{f"fire {a}+{b}": fire(a, b) for a, b in ((16, 16), (17, 6), (3, 30))},
    **{f"nested {c}": nested(c) for c in (16, 11)},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_copied(name: str) -> None:
    graph = NETWORKS[name]
    stem = next(node.name for node in graph.nodes if node.op == "conv2d")  # it packs the input
    shape = tuple(map(int, graph.inputs[0].shape[1:]))
    for threads in (1, 2):
        assert set(moves(graph, 1, *shape, threads=threads)) <= {stem}
    check(graph, *shape)


def test_what_was_written_is_not_overwritten() -> None:
    """Vectors reach past a part's channels: a part behind it that is older would lose its first ones."""
    n = Network(stem=20)
    old = n.pointwise(n.x, 5)
    new = n.pointwise(n.depthwise(old), 7)
    y = n.concat(new, old)
    graph = n.build(n.depthwise(y), old, new)
    check(graph, 3, 6, 5)
    whole = Network(stem=16)
    old = whole.pointwise(whole.x, 16)
    y = whole.concat(whole.pointwise(whole.depthwise(old), 32), old)
    graph = whole.build(whole.depthwise(y))
    assert len(moves(graph, 1, 3, 6, 5)) == 1  # whole vectors of channels overwrite nothing
    check(graph, 3, 6, 5)


def test_one_map_in_two_concats() -> None:
    n = Network(stem=20)
    a, b, c = n.pointwise(n.x, 9), n.pointwise(n.x, 10), n.pointwise(n.x, 11)
    graph = n.build(n.pointwise(n.concat(a, b), 5), n.pointwise(n.concat(c, b), 6), n.pointwise(n.concat(b, b), 7))
    check(graph, 3, 6, 5)


def test_an_input_in_a_concat() -> None:
    n = Network(4)
    y = n.concat(n.pointwise(n.x, 5), n.x)
    check(n.build(y, n.pointwise(y, 6)), 4, 6, 5)


def test_a_joined_map_is_not_activated_in_place_while_it_is_needed() -> None:
    n = Network(stem=20)
    a, b = n.pointwise(n.x, 16), n.pointwise(n.x, 16)
    first, second = n.split(n.concat(a, b), 16, 16)
    y = n.same("sigmoid", a)
    z = n.same("relu", n.concat(b, a))
    check(n.build(y, n.pointwise(second, 4), n.pointwise(first, 4), z), 3, 6, 5)


def test_shuffles_that_no_layer_takes_in_are_copied() -> None:
    """Every other channel for a depthwise layer, a shuffled map as an output, an operand or a residual."""
    n = Network(stem=24)
    a, b = n.pointwise(n.x, 15), n.pointwise(n.x, 15)
    y = n.shuffle(n.concat(a, b), 3)
    z = n.shuffle(n.pointwise(n.x, 30))
    graph = n.build(
        n.depthwise(n.slice(n.pointwise(n.x, 40), 1, 40, 2)), n.same("add", y, z), n.pointwise(n.x, 30, residual=y),
        n.depthwise(y), n.shuffle(n.x, 4), n.pointwise(n.depthwise(z), 3), n.same("relu", n.shuffle(n.depthwise(z))),
    )  # fmt: skip
    check(graph, 3, 6, 5)


def test_parts_that_are_gathered_and_joined() -> None:
    """A part has its place among planes for one reader and is copied into a row for another."""
    n = Network(stem=24)
    a, b, c = n.pointwise(n.x, 14), n.pointwise(n.x, 14), n.pointwise(n.x, 5)
    first, second = n.split(n.shuffle(n.concat(a, b)), 14, 14)
    joined = n.concat(second, c, n.slice(c, 1, 4))
    graph = n.build(n.pointwise(second, 7), n.dense(joined, 6), n.same("sigmoid", a), n.pointwise(first, 3))
    check(graph, 3, 6, 5)


def test_only_parts_are_copied_where_a_concat_joins_them_with_whole_maps() -> None:
    """ReXNet's shortcut: the first channels are added to, the rest are as they were."""
    n = Network(stem=12)
    y = n.pointwise(n.x, 20)
    y = n.concat(n.same("add", n.slice(y, 0, 12), n.x), n.slice(y, 12, 20))
    graph = n.build(n.dense(y, 5))
    assert len(moves(graph, 1, 3, 6, 5)) == 2  # the input, and the second part
    check(graph, 3, 6, 5)


def test_shuffled_channels_of_one_map_cost_nothing() -> None:
    n = Network(stem=24)
    y = n.shuffle(n.pointwise(n.x, 30), 3)
    graph = n.build(n.pointwise(n.depthwise(y), 5), n.pointwise(y, 6))
    kernels = [step.kernel for step in Session(graph, SessionOptions(num_threads=1)).program((1, 3, 6, 5)).steps]
    assert not [k for k in kernels if "gathered" in k]  # the weights' order says it all
    assert len(moves(graph, 1, 3, 6, 5)) == 1
    check(graph, 3, 6, 5)


def test_heads_are_copied_once_and_straight_into_the_output() -> None:
    """SSD's: channels are anchors and classes, pixels and anchors of all levels become one axis."""
    n = Network(stem=20)
    pooled = n.same("max_pool2d", n.x, kernel=(2, 2), strides=(2, 2))
    levels = []
    for x, height, width in ((n.x, 6, 5), (pooled, 3, 2)):
        y = n.add("reshape", [n.dense(x, 21)], 3, shape=(-1, 3, 7, height, width))
        y = n.same("transpose", y, perm=(0, 3, 4, 1, 2))
        levels.append(n.same("reshape", y, shape=(-1, height * width * 3, 7)))
    graph = n.build(n.add("concat", levels, 0, axis=1))
    steps = Session(graph, SessionOptions(num_threads=1)).program((1, 3, 6, 5)).steps
    copies = [s for s in steps if "strided_copy" in s.kernel]
    assert [operand.space for s in copies for word, operand in s.operands.items() if word == OUT] == ["output"] * 2
    check(graph, 3, 6, 5)


# --- any graph ------------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Maps of few pixels through convolutions, element by element functions and whatever rearranges channels."""
    n = Network(height=draw(st.integers(2, 4)), width=3, stem=draw(st.sampled_from([6, 12, 16, 26])))
    maps = [n.x]
    read: set[str] = set()

    def pick() -> str:
        chosen = maps[-1 - min(draw(st.integers(0, 5)), len(maps) - 1)]
        read.add(chosen)
        return chosen

    for _ in range(draw(st.integers(3, 14))):
        x = pick()
        c = n.channels[x]
        kind = draw(st.sampled_from(_KINDS))
        if kind == "concat":
            maps.append(n.concat(x, *(pick() for _ in range(draw(st.integers(1, 2))))))
        elif kind == "split" and c > 1:
            first = draw(st.integers(1, c - 1))
            maps += n.split(x, first, c - first)
        elif kind == "slice":
            first = draw(st.integers(0, c - 1))
            maps.append(n.slice(x, first, draw(st.integers(first + 1, c)), draw(st.sampled_from([1, 1, 2]))))
        elif kind == "shuffle" and c % 2 == 0:
            maps.append(n.shuffle(x, draw(st.sampled_from([2, c // 2]))))
        elif kind == "add":
            other = pick()
            other = other if n.channels[other] == c else n.pointwise(other, c)
            maps.append(n.same("add", x, other))
        elif kind == "residual":
            maps.append(n.pointwise(pick(), c, residual=x))
        elif kind == "depthwise":
            maps.append(n.depthwise(x))
        elif kind in ("relu", "sigmoid"):
            maps.append(n.same(kind, x))
        elif kind == "pool":
            maps.append(n.same("max_pool2d", x, kernel=(3, 3), strides=(1, 1), padding=(1, 1, 1, 1)))
        else:
            maps.append(n.pointwise(x, draw(st.sampled_from([3, 8, 16, 21]))))
    outputs = [x for x in maps if x not in read][-4:]
    return n.build(*outputs)


_KINDS = ("concat", "concat", "split", "split", "slice", "shuffle", "shuffle", "add", "residual", "depthwise", "relu",
          "sigmoid", "pool", "pointwise", "pointwise")  # fmt: skip


@settings(max_examples=120, deadline=None, derandomize=True)
@given(graphs())
def test_any_graph(graph: Graph) -> None:
    check(graph, 3, int(graph.inputs[0].shape[2]), 3)


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded_arenas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every buffer of an arena ends at a page that may not be touched."""
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    guards: list[int] = []
    ends: list[int] = [0]

    def lay_out(lifetimes: Sequence[Any]) -> tuple[list[int], int]:
        offsets, at = [], 0
        for life in lifetimes:
            end = at + -(-life.size // page) * page
            offsets.append(end - life.size)
            guards.append(ends[-1] + end)
            at = end + page
        ends.append(ends[-1] + at)
        return offsets, at

    def memory(size: int) -> tuple[Any, int]:
        block = mmap.mmap(-1, size + page)
        array = np.frombuffer(block, np.uint8)
        for guard in guards:
            if libc.mprotect(ctypes.c_void_p(array.ctypes.data + guard), ctypes.c_size_t(page), 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        guards.clear()
        ends[:] = [0]
        return array, array.ctypes.data

    monkeypatch.setattr(resolve, "lay_out", lay_out)
    monkeypatch.setattr(context, "anonymous_memory", memory)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_buffer_is_read_or_written_past_its_end(guarded_arenas: None, name: str) -> None:
    shape = tuple(map(int, NETWORKS[name].inputs[0].shape[1:]))
    x = np.random.default_rng(1).standard_normal((1, *shape)).astype(np.float32)
    found = Session(NETWORKS[name], SessionOptions(num_threads=1)).run(None, {"input": x})
    for a, b in zip(found, run_reference(NETWORKS[name], {"input": x})):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4)
