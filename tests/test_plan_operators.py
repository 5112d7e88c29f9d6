"""Every operator that can be planned, in graphs of one or a few nodes, through a session against the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.reference import run_reference
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.plan.planner import RULES
from sepcore.runtime.session import Session

Build = Callable[[GraphBuilder, str], "str | Sequence[str]"]

CASES: dict[str, tuple[tuple[int, ...], Build]] = {}
"""Name -> shape of one image, and what is added to a graph behind its input."""


def case(name: str, *shape: int) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        assert name not in CASES
        CASES[name] = (shape, build)
        return build

    return add


def one(name: str, of: tuple[int, ...], op: str, **attrs: Any) -> None:
    """A graph of one node, once on the input as it is and once behind a convolution, whose result is a map."""
    CASES[name] = (of, lambda b, x: b.add(op, [x], **attrs))
    if len(of) == 3:
        CASES[f"{name} of a map"] = (of, lambda b, x: b.add(op, [mapped(b, x, of[0])], **attrs))


def weights(*shape: int, seed: int = 0, scale: float = 1.0) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def mapped(b: GraphBuilder, x: str, channels: int, to: int = 0) -> str:
    """A pointwise convolution."""
    to = to or channels
    return b.add("conv2d", [x, b.constant("w", weights(to, channels, 1, 1, seed=channels))])


def positive(b: GraphBuilder, x: str) -> str:
    """Numbers of about one, of which every function is well conditioned."""
    return b.add("add", [b.add("sigmoid", [x]), b.constant("half", np.float32(0.5))])


# --- one input, one output ------------------------------------------------------------------------------------------

for perm in [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 3, 2, 1)]:
    one(f"transpose {perm}", (5, 6, 7), "transpose", perm=perm)
one("transpose of 3 axes", (5, 21), "transpose", perm=(0, 2, 1))
for shape in [(-1, 35), (-1, 5, 42), (-1, 210), (-1, 7, 5, 6), (-1, 5, 3, 2, 7), (-1, 10, 3, 7)]:
    one(f"reshape to {shape}", (5, 6, 7) if 35 not in shape else (35,), "reshape", shape=shape)
one("flatten", (5, 6, 7), "flatten")
one("unsqueeze", (5, 6), "unsqueeze", axes=(2,))
one("squeeze", (5, 1, 6), "squeeze", axes=(2,))
one("expand", (5, 1, 6), "expand", shape=(-1, 5, 4, 6))
one("slice channels", (37, 4, 5), "slice", axes=(1,), starts=(3,), ends=(30,))
one("slice few channels", (37, 4, 5), "slice", axes=(1,), starts=(0,), ends=(16,))
one("slice with steps", (6, 9, 8), "slice", axes=(1, 2, 3), starts=(0, 1, 7), ends=(6, 9, 0), steps=(2, 3, -2))
one("slice pixels", (6, 9, 8), "slice", axes=(2, 3), starts=(1, 2), ends=(8, 7))
one("pad", (6, 5, 4), "pad", pads=((0, 0), (1, 2), (0, 3), (2, 0)), value=1.5)
one("pad that cuts", (6, 5, 4), "pad", pads=((0, 0), (-1, 2), (0, -2), (-1, -1)), value=-1.0)
one("pad reflect", (6, 5, 4), "pad", pads=((0, 0), (0, 0), (2, 3), (1, 2)), mode="reflect")
one("pad of one channel", (1, 5, 4), "pad", pads=((0, 0), (0, 0), (0, 3), (2, 0)))
one("pad edge", (18, 5, 4), "pad", pads=((0, 0), (0, 0), (2, 0), (0, 3)), mode="edge")
for groups in (2, 3, 8):
    one(f"channel_shuffle {groups}", (48, 4, 5), "channel_shuffle", groups=groups)

for kernel, strides, padding, dilation in [
    ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((3, 2), (1, 2), (1, 0, 0, 1), (2, 1)),
    ((3, 3), (2, 2), "same", (1, 1)),
    ((5, 5), (1, 1), (2, 2, 2, 2), (1, 1)),
]:
    for ceil_mode in (False, True):
        name = f"{kernel} {strides} {padding} {dilation} {ceil_mode}"
        window = {"kernel": kernel, "strides": strides, "padding": padding, "dilation": dilation}
        one(f"max_pool2d {name}", (19, 9, 8), "max_pool2d", **window, ceil_mode=ceil_mode)
        for include in (False, True):
            one(f"avg_pool2d {name} {include}", (19, 9, 8), "avg_pool2d", **window, ceil_mode=ceil_mode,
                count_include_pad=include)  # fmt: skip
one(
    "avg_pool2d with a divisor",
    (19, 9, 8),
    "avg_pool2d",
    kernel=(3, 3),
    strides=(2, 2),
    padding=(1, 1, 1, 1),
    divisor=5,
)
for size in [(1, 1), (2, 2), (3, 5), (9, 8), (12, 11)]:
    one(f"adaptive_avg_pool2d {size}", (19, 9, 8), "adaptive_avg_pool2d", output_size=size)
    one(f"adaptive_max_pool2d {size}", (19, 9, 8), "adaptive_max_pool2d", output_size=size)

for op in ("reduce_mean", "reduce_sum", "reduce_max", "reduce_min"):
    for axes in [(2, 3), (1,), (2,), (3,), (1, 2, 3), (1, 3)]:
        for keepdims in (False, True):
            one(f"{op} {axes} {keepdims}", (19, 5, 7), op, axes=axes, keepdims=keepdims)
one("reduce_mean of 3 axes", (5, 37), "reduce_mean", axes=(-1,), keepdims=True)
for op in ("softmax", "log_softmax"):
    for axis in (1, 2, 3):
        one(f"{op} {axis}", (19, 5, 7), op, axis=axis)
    one(f"{op} of vectors", (21,), op, axis=-1)
    one(f"{op} of 3 axes", (6, 21), op, axis=1)

for coordinate in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"):
    for mode, rounding in [("bilinear", "floor"), ("nearest", "floor"), ("nearest", "round_prefer_floor"),
                           ("nearest", "round_prefer_ceil"), ("nearest", "ceil")]:  # fmt: skip
        for how in [{"output_size": (9, 5)}, {"scales": (2.0, 3.0)}, {"output_size": (1, 20)}]:
            one(f"resize {coordinate} {mode} {rounding} {how}", (19, 6, 7), "resize", mode=mode, coordinate=coordinate,
                nearest_rounding=rounding, **how)  # fmt: skip

for op in ("relu", "hardswish", "silu", "sigmoid", "tanh", "exp", "erf", "floor", "ceil", "round", "neg", "abs", "sign",
           "softplus", "mish", "elu", "gelu", "hardsigmoid"):  # fmt: skip
    one(op, (19, 5, 3), op)
    one(f"{op} of one channel", (1, 5, 3), op)
one("gelu tanh", (19, 5, 3), "gelu", approximate="tanh")
one("elu 0.3", (19, 5, 3), "elu", alpha=0.3)
one("clamp", (19, 5, 3), "clamp", lo=-0.5, hi=1.0)
one("leaky_relu", (19, 5, 3), "leaky_relu", slope=0.2)
one("relu of 3 axes", (19, 5), "relu")
one("relu of vectors", (19,), "relu")
for op in ("sqrt", "rsqrt", "log", "reciprocal"):
    CASES[op] = ((7, 5, 3), lambda b, x, op=op: b.add(op, [positive(b, x)]))

for op in ("add", "sub", "mul", "div", "pow", "maximum", "minimum"):
    for shape in [(), (1,), (19, 1, 1), (5, 7), (1, 19, 5, 7), (1, 19, 5, 1), (7,)]:

        def of_constant(b: GraphBuilder, x: str, op: str = op, shape: tuple[int, ...] = shape) -> str:
            x = positive(b, mapped(b, x, 19))
            return b.add(op, [x, b.constant("c", weights(*shape) if shape else np.float32(1.7))])

        def constant_first(b: GraphBuilder, x: str, op: str = op, shape: tuple[int, ...] = shape) -> str:
            c = b.constant("c", np.abs(weights(*shape) if shape else np.float32(1.7)) + np.float32(0.1))
            return b.add(op, [c, positive(b, x)])

        CASES[f"{op} with a constant {shape}"] = ((19, 5, 7), of_constant)
        CASES[f"{op} of a constant {shape}"] = ((19, 5, 7), constant_first)

    @case(f"{op} of two maps", 19, 5, 7)
    def of_maps(b: GraphBuilder, x: str, op: str = op) -> str:
        return b.add(op, [positive(b, mapped(b, x, 19)), positive(b, mapped(b, b.add("neg", [x]), 19))])

    @case(f"{op} of a map and its mean", 19, 5, 7)
    def of_mean(b: GraphBuilder, x: str, op: str = op) -> str:
        x = positive(b, mapped(b, x, 19))
        return b.add(op, [x, b.add("reduce_mean", [x], axes=(2, 3), keepdims=True)])

    @case(f"{op} of a mean over channels and a map", 19, 5, 7)
    def of_channels(b: GraphBuilder, x: str, op: str = op) -> str:
        x = positive(b, mapped(b, x, 19))
        return b.add(op, [b.add("reduce_mean", [x], axes=(1,), keepdims=True), x])

    @case(f"{op} of a column and a row", 4, 5, 6)
    def outer(b: GraphBuilder, x: str, op: str = op) -> str:
        x = positive(b, x)
        column = b.add("slice", [x], axes=(3,), starts=(0,), ends=(1,))
        return b.add(op, [column, b.add("slice", [x], axes=(2,), starts=(1,), ends=(2,))])


for indices in (np.arange(19).reshape(19, 1, 1), [4, 2, 0], [[3, -1, 3], [3, 18, 0]], 5):

    @case(f"gather {np.shape(indices)} of channels", 19, 5, 7)
    def gathered(b: GraphBuilder, x: str, indices: Any = indices) -> str:
        taken = b.constant("indices", np.asarray(indices, np.int64))
        return b.add("neg", [b.add("gather", [mapped(b, x, 19), taken], axis=1)])


@case("attention between halves of the channels", 38, 5, 7)
def between_halves(b: GraphBuilder, x: str) -> str:
    halves = b.add("reshape", [mapped(b, x, 38)], shape=(-1, 2, 19, 5, 7))
    total = mapped(b, b.add("reduce_sum", [halves], axes=(1,)), 19, to=38)
    scores = b.add("reshape", [b.add("reduce_mean", [total], axes=(2, 3), keepdims=True)], shape=(-1, 2, 19, 1, 1))
    weighted = b.add("mul", [b.add("tanh", [halves]), b.add("softmax", [scores], axis=1)])
    return mapped(b, b.add("reshape", [b.add("add", [weighted, halves])], shape=(-1, 38, 5, 7)), 38)


@case("arithmetic of one channel", 19, 5, 7)
def of_one_channel(b: GraphBuilder, x: str) -> str:
    first, second = (positive(b, mapped(b, x, 19, to=1)) for _ in range(2))
    powers = b.add("pow", [first, second])
    least = b.add("minimum", [b.add("reduce_sum", [x], axes=(1,), keepdims=True), powers])
    return b.add("concat", [b.add("softmax", [least], axis=3), first, x], axis=1)


for exponent in (2.0, 3.0, 0.5, -0.5, -1.0, 2.5):

    @case(f"pow {exponent}", 7, 5, 3)
    def power(b: GraphBuilder, x: str, exponent: float = exponent) -> str:
        return b.add("pow", [positive(b, x), b.constant("e", np.float32(exponent))])


for slopes in (1, 19):

    @case(f"prelu {slopes}", 19, 5, 3)
    def prelu(b: GraphBuilder, x: str, slopes: int = slopes) -> Sequence[str]:
        slope = b.constant("slope", weights(slopes))
        return [b.add("prelu", [x, slope]), b.add("prelu", [mapped(b, x, 19), slope])]


for ic, oc, groups, kernel, stride, padding, extra, dilation in [
    (6, 10, 1, (2, 2), (2, 2), (0, 0, 0, 0), (0, 0), (1, 1)),
    (6, 10, 1, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 1)),
    (6, 9, 3, (4, 3), (2, 1), (1, 0, 2, 1), (0, 0), (1, 1)),
    (19, 19, 19, (4, 4), (2, 2), (1, 1, 1, 1), (0, 0), (1, 1)),
    (6, 10, 1, (3, 3), (1, 1), (1, 1, 1, 1), (0, 0), (1, 1)),
    (6, 4, 2, (3, 3), (2, 3), (1, 1, 1, 1), (1, 0), (2, 2)),
    (6, 10, 1, (1, 1), (3, 2), (0, 0, 0, 0), (1, 1), (1, 1)),
]:

    @case(f"conv_transpose2d {ic} {oc} {groups} {kernel} {stride} {padding} {extra} {dilation}", ic, 5, 6)
    def transposed(b: GraphBuilder, x: str, ic: int = ic, oc: int = oc, groups: int = groups, kernel: Any = kernel,
                   stride: Any = stride, padding: Any = padding, extra: Any = extra,
                   dilation: Any = dilation) -> str:  # fmt: skip
        w, bias = b.constant("w", weights(ic, oc // groups, *kernel)), b.constant("b", weights(oc))
        return b.add("conv_transpose2d", [x, w, bias], strides=stride, padding=padding, output_padding=extra,
                     dilation=dilation, groups=groups, activation=("relu",))  # fmt: skip


@case("conv_transpose2d without a bias", 6, 5, 4)
def transposed_plain(b: GraphBuilder, x: str) -> str:
    return b.add("conv_transpose2d", [x, b.constant("w", weights(6, 7, 3, 3))], strides=(2, 2))


# --- products -------------------------------------------------------------------------------------------------------


@case("matmul of a transposed self", 9, 21)
def attention(b: GraphBuilder, x: str) -> str:
    scores = b.add("matmul", [x, b.add("transpose", [x], perm=(0, 2, 1))])
    return b.add("matmul", [b.add("softmax", [scores], axis=-1), x])


@case("matmul of heads", 4, 6, 21)
def heads(b: GraphBuilder, x: str) -> str:
    return b.add("matmul", [b.add("transpose", [x], perm=(0, 1, 3, 2)), x])


@case("matmul with vectors and constants", 5, 7)
def matmul_constants(b: GraphBuilder, x: str) -> Sequence[str]:
    vector = b.constant("v", weights(7))
    left = b.constant("l", weights(3, 5))
    return [b.add("matmul", [x, vector]), b.add("matmul", [left, x])]


for shape in [(5, 7), (3, 5, 7), (7,), (1, 7)]:

    @case(f"linear of {shape}", *shape)
    def linear(b: GraphBuilder, x: str) -> str:
        return b.add("linear", [x, b.constant("w", weights(33, 7)), b.constant("b", weights(33))], activation=("relu",))


@case("linear of a map's pixels", 19, 5, 3)
def linear_of_pixels(b: GraphBuilder, x: str) -> str:
    x = b.add("transpose", [mapped(b, x, 19)], perm=(0, 2, 3, 1))
    x = b.add("linear", [x, b.constant("w", weights(10, 19))])
    return b.add("transpose", [b.add("gelu", [x])], perm=(0, 3, 1, 2))


# --- several nodes --------------------------------------------------------------------------------------------------


@case("windows as maps", 5, 6, 8)
def windows_as_maps(b: GraphBuilder, x: str) -> str:
    """Convolutions inside of windows, as in attention to the pixels of a window."""
    parts = b.add("reshape", [mapped(b, x, 5)], shape=(-1, 5, 2, 3, 2, 4))
    y = b.add("reshape", [b.add("transpose", [parts], perm=(0, 2, 4, 1, 3, 5))], shape=(-1, 5, 3, 4))
    depthwise = b.constant("taps", weights(5, 1, 3, 3))
    y = b.add("relu", [b.add("conv2d", [mapped(b, y, 5), depthwise], padding=(1, 1, 1, 1), groups=5)])
    parts = b.add("reshape", [mapped(b, y, 5)], shape=(-1, 2, 2, 5, 3, 4))
    return b.add("reshape", [b.add("transpose", [parts], perm=(0, 3, 1, 4, 2, 5))], shape=(-1, 5, 6, 8))


@case("pixels of a grid", 5, 6, 7)
def pixels_of_a_grid(b: GraphBuilder, x: str) -> str:
    """As adaptive pooling of uneven windows is written by one of PyTorch's exporters."""
    turned = b.add("transpose", [mapped(b, x, 5)], perm=(2, 3, 0, 1))
    rows = b.add("gather", [turned, b.constant("rows", np.array([[0, 1], [2, 2], [5, 3]]))], axis=0)
    pixels = b.add("gather", [rows, b.constant("columns", np.array([[6, 0], [1, 1]]))], axis=2)
    back = b.add("transpose", [pixels], perm=(4, 5, 0, 1, 2, 3))
    mask = b.constant("mask", np.array([[True, False], [False, False], [False, True]])[:, :, None, None])
    return b.add("where", [mask, b.constant("zero", np.float32(0)), back])


@case("concat of maps", 19, 5, 7)
def concat(b: GraphBuilder, x: str) -> str:
    return b.add("concat", [mapped(b, x, 19, 3), mapped(b, x, 19, 16), x, mapped(b, x, 19, 5)], axis=1)


@case("concat of pixels", 4, 5, 6)
def concat_pixels(b: GraphBuilder, x: str) -> Sequence[str]:
    y = mapped(b, x, 4)
    return [b.add("concat", [y, x, y], axis=2), b.add("concat", [b.add("relu", [y]), y], axis=3)]


@case("split and convolve", 20, 6, 5)
def shuffle_unit(b: GraphBuilder, x: str) -> str:
    """The basic unit of ShuffleNetV2."""
    first, second = b.add_multi("split", [mapped(b, x, 20, 38)], 2, axis=1, sizes=(19, 19))
    second = b.add("relu", [mapped(b, second, 19)])
    second = b.add("conv2d", [second, b.constant("dw", weights(19, 1, 3, 3))], padding=(1, 1, 1, 1), groups=19)
    y = b.add("concat", [first, mapped(b, second, 19)], axis=1)
    y = b.add("reshape", [y], shape=(-1, 2, 19, 6, 5))
    y = b.add("transpose", [y], perm=(0, 2, 1, 3, 4))
    return b.add("reshape", [y], shape=(-1, 38, 6, 5))


@case("parts written in place of nothing else", 32, 4, 4)
def parts(b: GraphBuilder, x: str) -> Sequence[str]:
    """An activation of a part of a map must leave the other part alone."""
    y = mapped(b, x, 32)
    first, second = b.add_multi("split", [y], 2, axis=1, sizes=(16, 16))
    return [b.add("relu", [first]), b.add("sigmoid", [second]), b.add("neg", [y])]


for first, end in ((32, 64), (0, 32), (0, 24)):

    @case(f"channels {first} ... {end} of a large map", 3, 64, 64)
    def part_of_map(b: GraphBuilder, x: str, first: int = first, end: int = end) -> str:
        """Layers that are fused by bands must not take a part of a map for the whole."""
        x = b.add("slice", [mapped(b, x, 3, 64)], axes=(1,), starts=(first,), ends=(end,))
        kept = end - first
        x = b.add("conv2d", [x, b.constant("dw", weights(kept, 1, 3, 3))], padding=(1, 1, 1, 1), groups=kept)
        return mapped(b, x, kept, 8)


@case("another name of a vector that is written in place", 6, 4, 4)
def renamed_vector(b: GraphBuilder, x: str) -> str:
    y = b.add("reduce_mean", [mapped(b, x, 6)], axes=(2, 3), keepdims=True)
    flat = b.add("relu", [b.add("flatten", [y])])
    y = b.add("mul", [mapped(b, x, 6), y])
    return b.add("concat", [b.add("reduce_max", [y], axes=(2, 3)), flat], axis=1)


@case("an SSD head", 8, 5, 6)
def ssd_head(b: GraphBuilder, x: str) -> Sequence[str]:
    outputs = []
    for columns in (4, 21):
        levels = []
        for level in (x, b.add("max_pool2d", [x], kernel=(2, 2), strides=(2, 2))):
            h, w = (5, 6) if level == x else (2, 3)
            y = b.add("conv2d", [level, b.constant("w", weights(3 * columns, 8, 3, 3))], padding=(1, 1, 1, 1))
            y = b.add("reshape", [y], shape=(-1, 3, columns, h, w))
            y = b.add("transpose", [y], perm=(0, 3, 4, 1, 2))
            levels.append(b.add("reshape", [y], shape=(-1, h * w * 3, columns)))
        outputs.append(b.add("concat", levels, axis=1))
    return [outputs[0], b.add("softmax", [outputs[1]], axis=2)]


@case("a value of the tail and elsewhere", 12, 4, 5)
def tail_and_elsewhere(b: GraphBuilder, x: str) -> Sequence[str]:
    y = mapped(b, x, 12)
    mean = b.add("flatten", [b.add("reduce_mean", [y], axes=(2, 3), keepdims=True)])
    logits = b.add("linear", [mean, b.constant("w", weights(33, 12)), b.constant("b", weights(33))])
    return [logits, b.add("softmax", [logits], axis=1), mean, y]


@case("a tail behind a view", 3, 4, 5)
def tail_behind_a_view(b: GraphBuilder, x: str) -> str:
    x = b.add("flatten", [b.add("transpose", [x], perm=(0, 2, 3, 1))])
    x = b.add("linear", [x, b.constant("w", weights(17, 60))], activation=("relu",))
    return b.add("linear", [x, b.constant("w2", weights(5, 17))])


@case("outputs that are inputs, constants or alike", 3, 4, 5)
def odd_outputs(b: GraphBuilder, x: str) -> Sequence[str]:
    y = b.add("relu", [x])
    return [x, y, y, b.add("identity", [x])]


def graph_of(name: str) -> tuple[Graph, tuple[int, ...]]:
    shape, build = CASES[name]
    b = GraphBuilder("case")
    x = b.input("x", ("n", *shape))
    outputs = build(b, x)
    return run_passes(b.build([outputs] if isinstance(outputs, str) else outputs), verify=True), shape


def check(graph: Graph, inputs: list[Any]) -> None:
    """One and two threads give the same bits, and what the reference gives."""
    expected = run_reference(graph, {value.name: x for value, x in zip(graph.inputs, inputs)})
    found = []
    for threads in (1, 2):
        made = Session(graph, SessionOptions(num_threads=threads))(*inputs)
        found.append(made if isinstance(made, tuple) else (made,))
    for alone, shared, wanted in zip(*found, expected):
        assert alone.shape == wanted.shape
        scale = max(float(np.std(wanted)), 1e-3 * float(np.abs(wanted).max()))
        np.testing.assert_allclose(alone, wanted, rtol=2e-6, atol=1e-5 * scale)
        np.testing.assert_array_equal(alone, shared)


@pytest.mark.parametrize("name", CASES)
def test_matches_the_reference(name: str) -> None:
    graph, shape = graph_of(name)
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        check(graph, [x])


def test_several_inputs() -> None:
    b = GraphBuilder("inputs")
    x, y = b.input("x", ("n", 5, 6, 7)), b.input("y", ("n", 5, 6, 7))
    graph = run_passes(b.build([b.add("add", [mapped(b, x, 5), y]), b.add("concat", [y, x], axis=3)]), verify=True)
    for batch in (1, 3):
        check(graph, [weights(batch, 5, 6, 7, seed=s) for s in (1, 2)])


def test_a_constant_as_an_output() -> None:
    b = GraphBuilder("constant")
    x, c = b.input("x", ("n", 3)), b.constant("c", weights(1, 4))
    check(run_passes(b.build([b.add("relu", [x]), c]), verify=True), [weights(1, 3)])


def test_a_constant_joined_to_an_image() -> None:
    b = GraphBuilder("token")
    x, token = b.input("x", (1, 4, 5)), b.constant("token", weights(1, 1, 5))
    graph = run_passes(b.build([b.add("concat", [token, b.add("relu", [x])], axis=1)]), verify=True)
    check(graph, [weights(1, 4, 5)])


def test_every_rule_has_a_case() -> None:
    covered = {node.op for name in CASES for node in graph_of(name)[0].nodes}
    assert set(RULES) <= covered | {"identity", "reshape", "conv2d"}
