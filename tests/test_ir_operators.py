"""Shape rules, meaning and cost of the operators, on examples small enough to be checked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sepcore.errors import GraphError
from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.infer import calls, infer_shapes
from sepcore.ir.ops import OPERATORS
from sepcore.ir.reference import run_reference


def graph_of(op: str, arrays: list[np.ndarray | None], outputs: int = 1, **attrs: Any) -> tuple[Graph, dict[str, Any]]:
    """One node over inputs of these arrays, and what to feed it."""
    builder = GraphBuilder("net")
    names = ["" if a is None else builder.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    graph = builder.build(builder.add_multi(op, names, outputs, name="the_node", **attrs))
    return graph, {name: a for name, a in zip(names, arrays) if a is not None}


def run(op: str, arrays: list[Any], outputs: int = 1, **attrs: Any) -> list[Any]:
    """The outputs of one node as nested lists; Python numbers become float32."""
    given = [None if a is None else np.asarray(a, None if isinstance(a, np.ndarray) else np.float32) for a in arrays]
    graph, feeds = graph_of(op, given, outputs, **attrs)
    found = run_reference(graph, feeds)
    if all(a is None or a.dtype.kind == "f" for a in given):
        shapes = infer_shapes(graph, {})
        assert [shapes[name].shape for name in graph.outputs] == [array.shape for array in found]
    return [array.tolist() for array in found]


def refusal(op: str, shapes: list[tuple[int, ...]], outputs: int = 1, **attrs: Any) -> str:
    """What shape inference says against one node; it must name the node."""
    graph, _ = graph_of(op, [np.zeros(shape, np.float32) for shape in shapes], outputs, **attrs)
    with pytest.raises(GraphError) as caught:
        infer_shapes(graph, {})
    assert f"{op} 'the_node'" in str(caught.value)
    return str(caught.value)


# convolution

MAP = [[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]
CORNERS = [[[[1, 0], [0, 10]]]]


def test_conv2d() -> None:
    assert run("conv2d", [MAP, CORNERS]) == [[[[[51, 62], [84, 95]]]]]
    assert run("conv2d", [MAP, CORNERS, [100]]) == [[[[[151, 162], [184, 195]]]]]
    assert run("conv2d", [MAP, CORNERS], strides=(2, 1)) == [[[[[51, 62]]]]]
    assert run("conv2d", [MAP, CORNERS], dilation=(2, 2)) == [[[[[91]]]]]


def test_conv2d_padding_is_top_left_bottom_right() -> None:
    assert run("conv2d", [MAP, CORNERS], padding=(1, 0, 0, 0)) == [[[[[20, 30], [51, 62], [84, 95]]]]]
    assert run("conv2d", [MAP, CORNERS], padding=(0, 1, 0, 0)) == [[[[[40, 51, 62], [70, 84, 95]]]]]
    assert run("conv2d", [MAP, CORNERS], padding=(0, 0, 1, 0)) == [[[[[51, 62], [84, 95], [7, 8]]]]]
    assert run("conv2d", [MAP, CORNERS], padding=(0, 0, 0, 1)) == [[[[[51, 62, 3], [84, 95, 6]]]]]


def test_same_padding_puts_the_odd_element_last_and_same_lower_first() -> None:
    assert run("conv2d", [MAP, CORNERS], padding="same") == [[[[[51, 62, 3], [84, 95, 6], [7, 8, 9]]]]]
    assert run("conv2d", [MAP, CORNERS], padding="same_lower") == [[[[[10, 20, 30], [40, 51, 62], [70, 84, 95]]]]]
    assert run("conv2d", [MAP, CORNERS], padding="same", strides=(2, 2)) == [[[[[51, 3], [7, 9]]]]]
    window = [[[[1, 1, 1]]]]
    row = [[[[1, 2, 4, 8]]]]
    assert run("conv2d", [row, window], padding="same", strides=(1, 2)) == [[[[[7, 12]]]]]
    window = [[[[1, 1, 1, 1]]]]
    assert run("conv2d", [row, window], padding="same") == [[[[[7, 15, 14, 12]]]]]
    assert run("conv2d", [row, window], padding="same_lower") == [[[[[3, 7, 15, 14]]]]]
    window = [[[[1, 1, 1, 1, 1]]]]
    assert run("conv2d", [row, window], padding="same") == [[[[[7, 15, 15, 14]]]]]
    assert run("conv2d", [row, window], padding="same_lower") == [[[[[7, 15, 15, 14]]]]]


def test_grouped_conv2d() -> None:
    x = [[[[1]], [[2]], [[3]], [[4]]]]
    weight = [[[[1]], [[1]]], [[[1]], [[10]]]]
    assert run("conv2d", [x, weight], groups=2) == [[[[[3]], [[43]]]]]


def test_residual_is_added_before_the_activation() -> None:
    residual = [[[[-60, 0], [0, -100]]]]
    assert run("conv2d", [MAP, CORNERS, None, residual], activation=("relu",)) == [[[[[0, 62], [84, 0]]]]]
    assert run("conv2d", [MAP, CORNERS, [1], residual], activation=("clamp", -5.0, 70.0)) == [[[[[-5, 63], [70, -4]]]]]


def test_conv_transpose2d() -> None:
    x, weight = [[[[1, 2]]]], [[[[1, 10, 100]]]]
    assert run("conv_transpose2d", [x, weight]) == [[[[[1, 12, 120, 200]]]]]
    assert run("conv_transpose2d", [x, weight], strides=(1, 2)) == [[[[[1, 10, 102, 20, 200]]]]]
    assert run("conv_transpose2d", [x, weight], padding=(0, 1, 0, 0)) == [[[[[12, 120, 200]]]]]
    assert run("conv_transpose2d", [x, weight], padding=(0, 0, 0, 1)) == [[[[[1, 12, 120]]]]]
    extra = run("conv_transpose2d", [x, weight, [5]], strides=(2, 2), output_padding=(0, 1), activation=("relu",))
    assert extra == [[[[[6, 15, 107, 25, 205, 5]]]]]


def test_dilated_and_cropped_conv_transpose2d() -> None:
    weight = [[[[1, 10, 100]]]]
    assert run("conv_transpose2d", [[[[[1, 2]]]], weight], dilation=(1, 2)) == [[[[[1, 2, 10, 20, 100, 200]]]]]
    column = [[[[1], [2]]]]
    weight = [[[[1], [10], [100]]]]
    dilated = run("conv_transpose2d", [column, weight], dilation=(2, 1))
    assert dilated == [[[[[1], [2], [10], [20], [100], [200]]]]]
    cropped = run("conv_transpose2d", [column, weight], padding=(1, 0, 2, 0))
    assert cropped == [[[[[12]]]]]
    beyond = run("conv_transpose2d", [column, weight], strides=(3, 1), output_padding=(2, 0))
    assert beyond == [[[[[1], [10], [100], [2], [20], [200], [0], [0]]]]]
    batch = [[[[1]], [[2]]], [[[3]], [[4]]]]
    grouped = run("conv_transpose2d", [batch, [[[[1]], [[10]]], [[[1]], [[100]]]], [0, 0, 0, 5]], groups=2)
    assert grouped == [[[[[1]], [[10]], [[2]], [[205]]], [[[3]], [[30]], [[4]], [[405]]]]]


def test_refused_convolutions() -> None:
    assert "expected 8 channels (1 groups of 8), found 4" in refusal("conv2d", [(1, 4, 5, 5), (2, 8, 3, 3)])
    assert "divisible by 2 groups, found 3" in refusal("conv2d", [(1, 4, 5, 5), (3, 2, 3, 3)], groups=2)
    assert "a 3x3 window fits" in refusal("conv2d", [(1, 4, 2, 9), (2, 4, 3, 3)])
    assert "found 2x9, which is too small" in refusal("conv2d", [(1, 4, 2, 9), (2, 4, 3, 3)])
    assert "input bias: expected [2], found [3]" in refusal("conv2d", [(1, 4, 5, 5), (2, 4, 1, 1), (3,)])
    shapes = [(1, 4, 5, 5), (2, 4, 1, 1), (2,), (1, 2, 1, 1)]
    assert "input residual: expected [1, 2, 5, 5], found [1, 2, 1, 1]" in refusal("conv2d", shapes)
    assert "input x: expected 4 axes, found [4, 5, 5]" in refusal("conv2d", [(4, 5, 5), (2, 4, 1, 1)])
    assert "strides: expected two positive integers" in refusal("conv2d", [(1, 1, 5, 5), (1, 1, 1, 1)], strides=(0, 1))
    assert "padding" in refusal("conv2d", [(1, 1, 5, 5), (1, 1, 1, 1)], padding="valid")
    assert "activation" in refusal("conv2d", [(1, 1, 5, 5), (1, 1, 1, 1)], activation=("gelu",))
    assert "too small" in refusal("conv_transpose2d", [(1, 1, 1, 1), (1, 1, 2, 2)], padding=(1, 0, 1, 0))
    assert "3 channels, divisible by 1 groups, found 2" in refusal("conv_transpose2d", [(1, 2, 4, 4), (3, 1, 2, 2)])
    shapes = [(1, 3, 4, 4), (3, 1, 2, 2)]
    assert "divisible by 2 groups, found 3" in refusal("conv_transpose2d", shapes, groups=2)


def test_mixed_dtypes_are_refused() -> None:
    graph, _ = graph_of("add", [np.zeros(3, np.float32), np.zeros(3, np.int64)])
    with pytest.raises(GraphError, match="expected one dtype, found float32 and int64"):
        infer_shapes(graph, {})
    graph, _ = graph_of("exp", [np.zeros(3, np.int64)])
    with pytest.raises(GraphError, match="expected a floating dtype, found int64"):
        infer_shapes(graph, {})


# products


def test_products() -> None:
    assert run("linear", [[1, 2], [[1, 10], [0, 1]], [100, 0]], activation=("clamp", 0.0, 100.0)) == [[100, 2]]
    assert run("matmul", [[[1, 2], [3, 4]], [1, 10]]) == [[21, 43]]
    assert "a last axis of 3, found [2, 4]" in refusal("linear", [(2, 4), (5, 3)])
    assert "4 rows" in refusal("matmul", [(2, 4), (3, 5)])
    assert "broadcast" in refusal("matmul", [(2, 3, 4), (3, 4, 5)])
    assert "at least one axis each" in refusal("matmul", [(), (3,)])
    assert run("matmul", [[1, 10], [3, 4]]) == [43]
    assert run("matmul", [[1, 10], [[1, 2], [3, 4]]]) == [[31, 42]]
    assert run("matmul", [[[1, 10]], [[1, 2], [3, 4]]]) == [[[31, 42]]]


# pooling and reduction


def test_pools() -> None:
    assert run("max_pool2d", [MAP], kernel=(2, 2)) == [[[[[5, 6], [8, 9]]]]]
    assert run("max_pool2d", [[[[[-1]]]]], kernel=(2, 2), padding=(1, 1, 0, 0)) == [[[[[-1]]]]]
    assert run("max_pool2d", [MAP], kernel=(2, 2), strides=(2, 2), ceil_mode=True) == [[[[[5, 6], [8, 9]]]]]
    assert run("max_pool2d", [MAP], kernel=(2, 1), dilation=(2, 1)) == [[[[[7, 8, 9]]]]]
    assert run("avg_pool2d", [MAP], kernel=(2, 2)) == [[[[[3, 4], [6, 7]]]]]


def test_what_an_average_counts() -> None:
    row: list[Any] = [[[[[4, 8]]]]]
    common: dict[str, Any] = {"kernel": (1, 2), "padding": (0, 1, 0, 1)}
    assert run("avg_pool2d", row, **common) == [[[[[2, 6, 4]]]]]
    assert run("avg_pool2d", row, count_include_pad=False, **common) == [[[[[4, 6, 8]]]]]
    assert run("avg_pool2d", row, divisor=4, **common) == [[[[[1, 3, 2]]]]]
    # In ceil mode the last window reaches beyond the padding, and what lies there never counts.
    ceil: dict[str, Any] = {"kernel": (1, 2), "strides": (1, 2), "ceil_mode": True}
    assert run("avg_pool2d", [[[[[4, 8, 6]]]]], **ceil) == [[[[[6, 6]]]]]
    assert run("avg_pool2d", [[[[[4, 8]]]]], padding=(0, 1, 0, 0), **ceil) == [[[[[2, 8]]]]]


def test_the_last_window_of_ceil_mode_starts_in_the_map() -> None:
    row: list[Any] = [[[[[1, 2, 3, 4, 5]]]]]
    ceil: dict[str, Any] = {"kernel": (1, 2), "strides": (1, 3), "ceil_mode": True}
    # Windows at -1, 2 and, if it were not beyond the map, 5.
    assert run("max_pool2d", row, padding=(0, 1, 0, 1), **ceil) == [[[[[1, 4]]]]]
    # Windows at -2, 1 and 4; the last one is cut off.
    assert run("max_pool2d", row, padding=(0, 2, 0, 0), **ceil) == [[[[[float("-inf"), 3, 5]]]]]
    assert run("max_pool2d", row, **ceil) == [[[[[2, 5]]]]]


def test_adaptive_pools_overlap_where_they_must() -> None:
    row: list[Any] = [[[[[1, 2, 3, 4, 6]]]]]
    assert run("adaptive_avg_pool2d", row, output_size=(1, 3)) == [[[[[1.5, 3, 5]]]]]
    assert run("adaptive_max_pool2d", row, output_size=(1, 2)) == [[[[[3, 6]]]]]


def test_reductions() -> None:
    x = [[1, 2, 6], [4, 5, 9]]
    assert run("reduce_mean", [x], axes=(1,)) == [[3, 6]]
    assert run("reduce_sum", [x], axes=(0,), keepdims=True) == [[[5, 7, 15]]]
    assert run("reduce_max", [x], axes=(-1, 0)) == [9]
    assert run("reduce_min", [x], axes=(-1,)) == [[1, 4]]
    assert "distinct axes of 2" in refusal("reduce_mean", [(2, 3)], axes=(1, -1))
    assert "at least one axis" in refusal("reduce_mean", [(2, 3)], axes=())


def test_batch_norm_divides_by_the_root_of_variance_plus_eps() -> None:
    assert run("batch_norm", [[[3, 7]], [2, 1], [1, 0], [1, 5], [3, 1]], eps=1.0) == [
        [[3, pytest.approx(math.sqrt(2), rel=1e-6)]]
    ]
    assert "input var: expected [2], found [3]" in refusal("batch_norm", [(1, 2), (2,), (2,), (2,), (3,)], eps=0.1)
    assert "attribute eps: expected a number, found none" in refusal("batch_norm", [(1, 2), *[(2,)] * 4])


def test_softmax_of_large_numbers() -> None:
    assert run("softmax", [[1000, 1000]], axis=0) == [[0.5, 0.5]]
    assert run("log_softmax", [[0, -1000]], axis=-1) == [[0, -1000]]


# element by element


@pytest.mark.parametrize(
    ("op", "attrs", "x", "expected"),
    [
        ("relu", {}, [-1, 2], [0, 2]),
        ("clamp", {"lo": -1.0, "hi": 1.0}, [-3, 0.5, 3], [-1, 0.5, 1]),
        ("leaky_relu", {"slope": 0.5}, [-4, 4], [-2, 4]),
        ("hardswish", {}, [-4, -3, -1.5, 0, 3, 4], [0, 0, -0.375, 0, 3, 4]),
        ("hardsigmoid", {}, [-4, 0, 1.5, 4], [0, 0.5, 0.75, 1]),
        ("hardsigmoid", {"alpha": 0.25, "beta": 0.25}, [-4, 1, 4], [0, 0.5, 1]),
        ("sigmoid", {}, [-1000, 0, 1000], [0, 0.5, 1]),
        ("elu", {"alpha": 2.0}, [-1000, 3], [-2, 3]),
        ("softplus", {}, [-1000, 1000], [0, 1000]),
        ("gelu", {}, [-1000, 0, 1000], [0, 0, 1000]),
        ("silu", {}, [-1000, 0, 1000], [0, 0, 1000]),
        ("mish", {}, [-1000, 0, 1000], [0, 0, 1000]),
        ("round", {}, [0.5, 1.5, -2.5], [0, 2, -2]),
        ("sign", {}, [-3, 0, 2], [-1, 0, 1]),
        ("rsqrt", {}, [4, 0.25], [0.5, 2]),
        ("reciprocal", {}, [4, -0.5], [0.25, -2]),
    ],
)
def test_functions(op: str, attrs: dict[str, float], x: list[float], expected: list[float]) -> None:
    assert run(op, [x], **attrs) == [expected]


def test_integers_may_be_clamped_but_not_squashed() -> None:
    assert run("clamp", [np.array([-5, 2])], lo=0, hi=1) == [[0, 1]]
    assert run("relu", [np.array([-5, 2])]) == [[0, 2]]
    with pytest.raises(GraphError, match="expected a floating dtype"):
        infer_shapes(graph_of("silu", [np.array([1])])[0], {})


def test_prelu_has_a_slope_per_channel() -> None:
    assert run("prelu", [[[[-2], [4]], [[-2], [4]]], [0.5, 2]]) == [[[[-1], [4]], [[-1], [4]]]]
    assert run("prelu", [[[-2, -4]], [0.5, 2]]) == [[[-1, -8]]]
    assert "1 or 3 slopes, found 2" in refusal("prelu", [(1, 3, 2, 2), (2,)])
    assert "1 or 1 slopes, found 3" in refusal("prelu", [(3,), (3,)])


def test_binary_operators() -> None:
    assert run("sub", [[[1], [2]], [1, 10]]) == [[[0, -9], [1, -8]]]
    assert run("pow", [[2, 9], [3, 0.5]]) == [[8, 3]]
    assert run("div", [np.array([7, -7]), np.array([2])]) == [[3, -3]]
    assert run("floor_div", [np.array([7, -7]), np.array([2])]) == [[3, -4]]
    assert run("mod", [np.array([7, -7]), np.array([3])]) == [[1, 2]]
    assert run("less", [[1, 2, 3], [2]]) == [[True, False, False]]
    assert run("where", [np.array([True, False]), [1, 2], [10, 20]]) == [[1, 20]]
    assert run("div", [np.array([0, 0, 7]), np.array([2, -2, -2])]) == [[0, 0, -3]]
    assert "input cond: expected bool, found float32" in refusal("where", [(2,), (2,), (2,)])
    assert "expected bool, found float32" in refusal("logical_and", [(2,), (2,)])
    assert "expected bool, found float32" in refusal("logical_not", [(2,)])
    assert "broadcast, found [2, 3] and [4]" in refusal("add", [(2, 3), (4,)])


# layout


def test_joining_and_cutting() -> None:
    assert run("concat", [[[1], [2]], [[3, 4], [5, 6]]], axis=1) == [[[1, 3, 4], [2, 5, 6]]]
    assert run("split", [[1, 2, 3]], 2, axis=0, sizes=(1, 2)) == [[1], [2, 3]]
    assert run("slice", [[1, 2, 3, 4]], axes=(0,), starts=(-1,), ends=(-100,), steps=(-2,)) == [[4, 2]]
    assert "2 sizes with a sum of 3" in refusal("split", [(3,)], 2, axis=0, sizes=(1, 1))
    assert "differ in axis 0 only, found [2, 3] and [2, 4]" in refusal("concat", [(2, 3), (2, 4)], axis=0)
    assert "expected axes of length 1 or more, found [0]" in refusal("slice", [(3,)], axes=(0,), starts=(3,), ends=(9,))
    assert "other than 0" in refusal("slice", [(3,)], axes=(0,), starts=(0,), ends=(9,), steps=(0,))
    assert "1 starts, ends" in refusal("slice", [(3,)], axes=(0,), starts=(0, 1), ends=(9,))
    assert "ends None" in refusal("slice", [(3,)], axes=(0,), starts=(0,))
    assert "distinct axes of 1, found (1,)" in refusal("slice", [(3,)], axes=(1,), starts=(0,), ends=(1,))
    assert "distinct axes of 1, found (-2,)" in refusal("slice", [(3,)], axes=(-2,), starts=(0,), ends=(1,))
    assert "2 sizes with a sum of 3, found (1, 1, 1)" in refusal("split", [(3,)], 2, axis=0, sizes=(1, 1, 1))
    assert "differ in axis 1 only" in refusal("concat", [(2, 3), (4, 3)], axis=1)
    assert "differ in axis 0 only" in refusal("concat", [(2, 3), (2,)], axis=0)
    assert "differ in axis 0 only" in refusal("concat", [(2,), (2, 3)], axis=0)
    assert run("concat", [[[1, 2]], [[3, 4]], [[5, 6]]], axis=0) == [[[1, 2], [3, 4], [5, 6]]]


def test_reshapes() -> None:
    x = [[1, 2, 3], [4, 5, 6]]
    assert run("reshape", [x], shape=(3, -1)) == [[[1, 2], [3, 4], [5, 6]]]
    assert run("flatten", [x], start_axis=0) == [[1, 2, 3, 4, 5, 6]]
    assert run("unsqueeze", [[1, 2]], axes=(0, -1)) == [[[[1], [2]]]]
    assert run("squeeze", [[[[1], [2]]]], axes=(0, 1)) == [[[1], [2]]]
    assert run("transpose", [x], perm=(1, 0)) == [[[1, 4], [2, 5], [3, 6]]]
    assert run("expand", [[[1], [2]]], shape=(-1, 2)) == [[[1, 1], [2, 2]]]
    assert "a shape of the 6 elements of [2, 3], found [4, -1]" in refusal("reshape", [(2, 3)], shape=(4, -1))
    assert "found [-1, -1]" in refusal("reshape", [(2, 3)], shape=(-1, -1))
    assert "found [7]" in refusal("reshape", [(2, 3)], shape=(7,))
    assert "found [-2, -3]" in refusal("reshape", [(2, 3)], shape=(-2, -3))
    assert "found [-1, -2]" in refusal("reshape", [(2, 3)], shape=(-1, -2))
    assert "found [-1, 0]" in refusal("reshape", [(2, 3)], shape=(-1, 0))
    assert "found [0, 6]" in refusal("reshape", [(2, 3)], shape=(0, 6))
    assert run("flatten", [7], start_axis=0) == [[7]]
    assert "an axis up to 0, found 1" in refusal("flatten", [(2, 3)], start_axis=1, end_axis=0)
    assert "found [-1, 2, 3]" in refusal("expand", [(2, 3)], shape=(-1, 2, 3))
    assert run("expand", [[1, 2]], shape=(1,)) == [[1, 2]]
    assert "at most 32 axes, found 33" in refusal("unsqueeze", [(3,)], axes=tuple(range(32)))
    assert "all 2 axes" in refusal("transpose", [(2, 3)], perm=(0,))
    assert "broadcasts to, found [3, 3]" in refusal("expand", [(2, 3)], shape=(3, 3))
    assert "a shape, here or as an input, found neither" in refusal("reshape", [(2, 3)])


def test_pads() -> None:
    row = [[1, 2, 3]]
    assert run("pad", [row], pads=((0, 1), (1, 0)), value=9.0) == [[[9, 1, 2, 3], [9, 9, 9, 9]]]
    assert run("pad", [row], pads=((0, 0), (-1, 1))) == [[[2, 3, 0]]]
    assert run("pad", [row], pads=((0, 0), (2, 1)), mode="reflect") == [[[3, 2, 1, 2, 3, 2]]]
    assert run("pad", [row], pads=((0, 0), (2, 1)), mode="edge") == [[[1, 1, 1, 2, 3, 3]]]
    assert "less than 3" in refusal("pad", [(1, 3)], pads=((0, 0), (3, 0)), mode="reflect")
    assert "a pair per axis of 2" in refusal("pad", [(1, 3)], pads=((0, 0),))
    assert "a pair per axis of 2, found none" in refusal("pad", [(1, 3)])
    assert "none below 0 in mode 'edge'" in refusal("pad", [(1, 3)], pads=((0, 0), (-1, 0)), mode="edge")


def test_channel_shuffle() -> None:
    x = [[[[i]] for i in range(6)]]
    assert run("channel_shuffle", [x], groups=2) == [[[[[i]] for i in (0, 3, 1, 4, 2, 5)]]]
    assert "divisible by 4" in refusal("channel_shuffle", [(1, 6, 1, 1)], groups=4)


# resize


def test_nearest_resize() -> None:
    row: list[Any] = [[[[[1, 2, 3]]]]]
    asymmetric: dict[str, Any] = {"mode": "nearest", "coordinate": "asymmetric"}
    assert run("resize", row, output_size=(1, 6), **asymmetric) == [[[[[1, 1, 2, 2, 3, 3]]]]]
    assert run("resize", row, output_size=(1, 2), **asymmetric) == [[[[[1, 2]]]]]
    half: dict[str, Any] = {"mode": "nearest", "coordinate": "half_pixel", "output_size": (1, 6)}
    # Positions -0.25, 0.25, 0.75, ...
    assert run("resize", row, nearest_rounding="round_prefer_floor", **half) == [[[[[1, 1, 2, 2, 3, 3]]]]]
    assert run("resize", row, nearest_rounding="ceil", **half) == [[[[[1, 2, 2, 3, 3, 3]]]]]
    even: dict[str, Any] = {"mode": "nearest", "coordinate": "half_pixel", "output_size": (1, 1)}
    # Position 0.5.
    assert run("resize", [[[[[1, 2]]]]], nearest_rounding="round_prefer_floor", **even) == [[[[[1]]]]]
    assert run("resize", [[[[[1, 2]]]]], nearest_rounding="round_prefer_ceil", **even) == [[[[[2]]]]]


def test_bilinear_resize() -> None:
    row: list[Any] = [[[[[0, 8]]]]]
    half: dict[str, Any] = {"mode": "bilinear", "output_size": (1, 4)}
    assert run("resize", row, coordinate="half_pixel", **half) == [[[[[0, 2, 6, 8]]]]]
    assert run("resize", row, coordinate="asymmetric", **half) == [[[[[0, 4, 8, 8]]]]]
    corners = run("resize", row, mode="bilinear", coordinate="align_corners", output_size=(1, 5))
    assert corners == [[[[[0, 2, 4, 6, 8]]]]]
    single: dict[str, Any] = {"mode": "bilinear", "output_size": (1, 1)}
    assert run("resize", row, coordinate="half_pixel", **single) == [[[[[4]]]]]
    assert run("resize", row, coordinate="pytorch_half_pixel", **single) == [[[[[0]]]]]
    assert run("resize", row, coordinate="pytorch_half_pixel", **half) == [[[[[0, 2, 6, 8]]]]]
    assert run("resize", row, coordinate="align_corners", **single) == [[[[[0]]]]]
    column: list[Any] = [[[[[0, 10], [8, 18]]]]]
    tall = run("resize", column, mode="bilinear", coordinate="half_pixel", output_size=(4, 2))
    assert tall == [[[[[0, 10], [2, 12], [6, 16], [8, 18]]]]]


def test_scales_give_the_size_and_the_coordinates() -> None:
    row: list[Any] = [[[[[0, 1, 2, 3, 4]]]]]
    nearest: dict[str, Any] = {"mode": "nearest", "coordinate": "asymmetric"}
    # floor(5 * 0.7) = 3 outputs at positions 0, 1.43 and 2.86; by the ratio of the sizes it would be 0, 1.67, 3.33.
    assert run("resize", row, scales=(1.0, 0.7), **nearest) == [[[[[0, 1, 2]]]]]
    assert run("resize", row, output_size=(1, 3), **nearest) == [[[[[0, 1, 3]]]]]
    assert run("resize", row, output_size=(1, 3), scales=(1.0, 0.7), **nearest) == [[[[[0, 1, 2]]]]]
    assert "output_size or scales" in refusal("resize", [(1, 1, 2, 2)], **nearest)
    assert "leave something, found 1x0" in refusal("resize", [(1, 1, 2, 2)], scales=(0.5, 0.4), **nearest)


# shape arithmetic


def test_shape_arithmetic() -> None:
    assert run("shape", [np.zeros((2, 3), np.float32)]) == [[2, 3]]
    assert run("gather", [[1, 2, 3], np.array([[-1, 0]])]) == [[[3, 1]]]
    assert run("constant_of_shape", [np.array([2])], value=7.0, dtype="int64") == [[7, 7]]
    assert run("range", [np.array(1), np.array(6), np.array(2)]) == [[1, 3, 5]]
    assert run("cast", [[-1.7, 2.2]], dtype="int64") == [[-1, 2]]
    with pytest.raises(GraphError, match=r"-3 \.\.\. 2, found 3"):
        run("gather", [[1, 2, 3], np.array([3])])
    with pytest.raises(GraphError, match=r"-3 \.\.\. 2, found -4"):
        run("gather", [[1, 2, 3], np.array([-4, 0])])
    assert run("gather", [[[1, 2, 3], [4, 5, 6]], np.array([2, 0])], axis=-1) == [[[3, 1], [6, 4]]]
    assert run("constant_of_shape", [np.array([1, 2])]) == [[[0, 0]]]
    assert run("constant_of_shape", [np.array([0])]) == [[]]
    with pytest.raises(GraphError, match=r"no axis below 0, found \[2, -1\]"):
        run("constant_of_shape", [np.array([2, -1])])
    assert run("range", [np.array(3), np.array(0), np.array(-1)]) == [[3, 2, 1]]
    assert run("range", [np.array(3), np.array(0), np.array(1)]) == [[]]
    for bounds in ((1, 6, 0), (1.0, np.inf, 1.0), (np.nan, 2.0, 1.0)):
        with pytest.raises(GraphError, match="finite bounds and a step other than 0"):
            run("range", [np.array(bound) for bound in bounds])
    with pytest.raises(GraphError, match="integers along one axis"):
        run("constant_of_shape", [np.array(2)])
    with pytest.raises(GraphError, match="integers along one axis"):
        run("constant_of_shape", [np.array([2.0])])
    with pytest.raises(GraphError, match="input indices: expected integers, found float32"):
        run("gather", [[1, 2, 3], [0]])


# cost


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "expected"),
    [
        ("conv2d", [(2, 8, 5, 5), (4, 8, 3, 3)], {"strides": (2, 2)}, 2 * 4 * 2 * 2 * 8 * 9),
        ("conv2d", [(1, 8, 5, 5), (8, 1, 3, 3), (8,)], {"groups": 8}, 8 * 9 * 9),
        ("conv_transpose2d", [(1, 8, 5, 5), (8, 4, 2, 2)], {"strides": (2, 2)}, 8 * 25 * 4 * 4),
        ("linear", [(3, 10), (7, 10)], {}, 3 * 10 * 7),
        ("matmul", [(2, 3, 4), (4, 5)], {}, 2 * 3 * 4 * 5),
        ("relu", [(3, 10)], {}, 0),
    ],
)
def test_macs(op: str, shapes: list[tuple[int, ...]], attrs: dict[str, Any], expected: int) -> None:
    graph, _ = graph_of(op, [np.zeros(shape, np.float32) for shape in shapes], **attrs)
    ((call, outputs),) = calls(graph, {})
    assert call.operator.macs(call, outputs) == expected


def test_every_operator_is_in_the_docstring() -> None:
    from sepcore.ir import ops

    words = set((ops.__doc__ or "").replace(",", " ").replace(":", " ").split())
    assert set(OPERATORS) - words == set()
