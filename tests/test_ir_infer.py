"""Shape inference, constant propagation and specialisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sepcore.errors import GraphError
from sepcore.ir.graph import Graph, GraphBuilder, Value
from sepcore.ir.infer import infer_shapes, specialise
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify
from sepcore.passes.fold_constants import fold_constants


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def ints(builder: GraphBuilder, *values: int) -> str:
    return builder.constant("ints", np.array(values))


def scalar(builder: GraphBuilder, value: int) -> str:
    return builder.constant("int", np.array(value))


def length(builder: GraphBuilder, x: str, axis: int) -> str:
    """The length of an axis, without axes, as an exporter spells it."""
    return builder.add("gather", [builder.add("shape", [x]), scalar(builder, axis)], axis=0)


def listed(builder: GraphBuilder, *lengths: str) -> str:
    return builder.add("concat", [builder.add("unsqueeze", [one], axes=(0,)) for one in lengths], axis=0)


def test_symbolic_axes_are_bound_and_carried_through() -> None:
    builder = GraphBuilder("net")
    x = builder.input("x", ("n", 3, "h", "w"))
    w = builder.constant("w", noise(8, 3, 3, 3))
    y = builder.add("conv2d", [x, w], strides=(2, 2), padding=(1, 1, 1, 1))
    values = infer_shapes(builder.build([y]), {"x": (2, 3, 15, 8)})
    assert values["x"] == Value("x", (2, 3, 15, 8))
    assert values["w"] == Value("w", (8, 3, 3, 3))
    assert values[y] == Value(y, (2, 8, 8, 4))


@pytest.mark.parametrize(
    ("shape", "found"),
    [((2, 3, 8), r"\[2, 3, 8\]"), ((2, 4, 8, 8), r"\[2, 4, 8, 8\]"), ((0, 3, 8, 8), r"\[0, 3, 8, 8\]")],
)
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...], found: str) -> None:
    builder = GraphBuilder("net")
    x = builder.input("x", ("n", 3, "h", "w"))
    graph = builder.build([builder.add("relu", [x])])
    with pytest.raises(GraphError, match=rf"input: expected x: float32\[n, 3, h, w\].*found {found}"):
        infer_shapes(graph, {"x": shape})
    with pytest.raises(GraphError, match="expected a shape, found none"):
        infer_shapes(graph, {})


def test_one_symbol_is_one_length() -> None:
    builder = GraphBuilder("net")
    a, b = builder.input("a", ("n", 3)), builder.input("b", ("n", 4))
    graph = builder.build([builder.add("concat", [a, b], axis=1)])
    assert infer_shapes(graph, {"a": (2, 3), "b": (2, 4)})[graph.outputs[0]].shape == (2, 7)
    with pytest.raises(GraphError, match=r"b: float32\[n, 4\], n = 2, found \[3, 4\]"):
        infer_shapes(graph, {"a": (2, 3), "b": (3, 4)})


def view_graph() -> Graph:
    """x.view(n, -1, h * w), as exported with symbolic axes, and the size doubled by integer arithmetic for a resize."""
    builder = GraphBuilder("net")
    x = builder.input("x", ("n", 4, "h", "w"))
    n, h, w = (length(builder, x, axis) for axis in (0, 2, 3))
    target = listed(builder, n, scalar(builder, -1), builder.add("mul", [h, w]))
    flat = builder.add("reshape", [x, target])
    half = builder.add("floor_div", [h, scalar(builder, 2)])
    size = listed(builder, half, builder.add("add", [w, w]))
    resized = builder.add("resize", [x, size], mode="nearest", coordinate="asymmetric")
    cut = builder.add("slice", [x, listed(builder, half), listed(builder, h)], axes=(2,))
    shape = builder.add("cast", [builder.add("shape", [flat])], dtype="float32")
    return builder.build([flat, resized, cut, shape])


@pytest.mark.parametrize("size", [(2, 4, 6, 5), (1, 4, 3, 3)])
def test_shapes_that_a_graph_computes_are_followed(size: tuple[int, ...]) -> None:
    n, c, h, w = size
    graph = view_graph()
    verify(graph)
    values = infer_shapes(graph, {"x": size})
    expected = [(n, c, h * w), (n, c, h // 2, 2 * w), (n, c, h - h // 2, w), (3,)]
    assert [values[name].shape for name in graph.outputs] == expected
    special = specialise(graph, {"x": size})
    verify(special)
    assert [node.op for node in special.nodes] == ["reshape", "resize", "slice"]
    assert all(len(node.inputs) == 1 for node in special.nodes)
    x = noise(*size)
    for found, wanted in zip(run_reference(special, {"x": x}), run_reference(graph, {"x": x})):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(special.constants[graph.outputs[3]], np.array(expected[0], np.float32))


def test_a_size_that_leaves_nothing_is_an_error_that_names_the_node() -> None:
    with pytest.raises(GraphError, match=r"resize 'resize': input size: expected two positive integers.*\(0, 2\)"):
        infer_shapes(view_graph(), {"x": (1, 4, 1, 1)})


def test_a_shape_that_depends_on_data_is_an_error_that_names_the_node() -> None:
    builder = GraphBuilder("net")
    x, target = builder.input("x", (6,)), builder.input("target", (2,), np.int64)
    graph = builder.build([builder.add("reshape", [x, target], name="view")])
    with pytest.raises(GraphError, match="reshape 'view': input shape: expected a value that follows from the input"):
        infer_shapes(graph, {})
    assert run_reference(graph, {"x": noise(6), "target": np.array([2, 3])})[0].shape == (2, 3)


def test_zero_and_minus_one_in_a_reshape_input() -> None:
    builder = GraphBuilder("net")
    x = builder.input("x", ("n", 3, 4))
    graph = builder.build([builder.add("reshape", [x, ints(builder, 0, -1)])])
    assert infer_shapes(graph, {"x": (5, 3, 4)})[graph.outputs[0]].shape == (5, 12)


def test_integer_arrays_may_be_empty_on_the_way() -> None:
    builder = GraphBuilder("net")
    x = builder.input("x", ("n", 3))
    empty = builder.add("slice", [builder.add("shape", [x])], axes=(0,), starts=(2,), ends=(9,))
    target = builder.add("concat", [empty, ints(builder, -1)], axis=0)
    graph = builder.build([builder.add("reshape", [x, target])])
    assert infer_shapes(graph, {"x": (2, 3)})[graph.outputs[0]].shape == (6,)


def test_only_small_values_are_computed_ahead() -> None:
    def computed(elements: int) -> bool:
        builder = GraphBuilder("net")
        x = builder.input("x", (1,))
        big = builder.add("expand", [builder.constant("one", np.ones(1, np.float32))], shape=(elements,))
        return "expand" not in [node.op for node in specialise(builder.build([builder.add("add", [x, big])]), {}).nodes]

    assert computed(1 << 14)
    assert not computed((1 << 14) + 1)


def test_constants_that_are_big_do_not_count_as_known() -> None:
    def computed(elements: int) -> bool:
        builder = GraphBuilder("net")
        big = builder.constant("big", np.ones(elements, np.float32))
        graph = builder.build([builder.add("reduce_sum", [big], axes=(0,))])
        return not specialise(graph, {}).nodes

    assert computed(1 << 14)
    assert not computed((1 << 14) + 1)


def test_pads_by_arithmetic() -> None:
    builder = GraphBuilder("net")
    x = builder.input("x", ("n", "l"))
    pads = listed(builder, scalar(builder, 0), scalar(builder, 1), scalar(builder, 0), length(builder, x, 1))
    special = specialise(builder.build([builder.add("pad", [x, pads])]), {"x": (2, 3)})
    (node,) = special.nodes
    assert node.inputs == ("x",)
    assert node.attrs["pads"] == ((0, 0), (1, 3))


def test_an_input_shape_that_is_no_shape_is_refused() -> None:
    builder = GraphBuilder("net")
    x, target = builder.input("x", (6,)), builder.constant("target", np.array([[2, 3]]))
    with pytest.raises(GraphError, match="integers along one axis"):
        infer_shapes(builder.build([builder.add("reshape", [x, target])]), {})
    builder = GraphBuilder("net")
    x, size = builder.input("x", (1, 1, 2, 2)), ints(builder, 4)
    y = builder.add("resize", [x, size], mode="nearest", coordinate="asymmetric")
    with pytest.raises(GraphError, match=r"two positive integers \(y, x\), found \(4,\)"):
        infer_shapes(builder.build([y]), {})
    builder = GraphBuilder("net")
    x = builder.input("x", (6,))
    with pytest.raises(GraphError, match=r"0 only where x \[6\] has an axis, found \[6, 0\]"):
        infer_shapes(builder.build([builder.add("reshape", [x, ints(builder, 6, 0)])]), {})


def test_nothing_big_is_computed_ahead() -> None:
    builder = GraphBuilder("net")
    huge = builder.add("constant_of_shape", [ints(builder, 2**40, 2**20)], dtype="int64")
    graph = builder.build([builder.add("reduce_max", [huge], axes=(0, 1))])
    assert infer_shapes(graph, {})[huge].shape == (2**40, 2**20)
    builder = GraphBuilder("net")
    hollow = builder.add("constant_of_shape", [ints(builder, 0, 2**62)], dtype="int64")
    with pytest.raises(GraphError, match="axes of length 1 or more"):
        infer_shapes(builder.build([hollow]), {})


def test_no_window_slides_over_constants_ahead_of_time() -> None:
    """Its output is small, but its padding and kernel are not."""
    builder = GraphBuilder("net")
    x = builder.constant("x", np.ones((1, 1, 1, 1), np.float32))
    wide = builder.add("max_pool2d", [x], kernel=(1, 2**40), padding=(0, 2**39, 0, 2**39))
    graph = builder.build([wide])
    assert infer_shapes(graph, {})[wide].shape == (1, 1, 1, 2)
    assert len(specialise(graph, {}).nodes) == 1
    assert fold_constants(graph).nodes == graph.nodes


def static_node(op: str, attrs: dict[str, Any], shape: tuple[int, ...] = (2, 4, 6, 8)) -> Any:
    """Operator and attributes that one node has after specialisation; its meaning must not change."""
    builder = GraphBuilder("net")
    graph = builder.build([builder.add(op, [builder.input("x", ("n", *shape[1:]))], **attrs)])
    special = specialise(graph, {"x": shape})
    verify(special)
    assert special.inputs == (Value("x", shape),)
    x = noise(*shape)
    np.testing.assert_allclose(run_reference(special, {"x": x})[0], run_reference(graph, {"x": x})[0], atol=1e-7)
    (node,) = special.nodes
    return node.op, dict(node.attrs)


WHOLE = {"axes": (2, 3), "keepdims": True}
POOL = {
    "kernel": (2, 4),
    "strides": (2, 4),
    "padding": (0, 0, 0, 0),
    "dilation": (1, 1),
    "ceil_mode": False,
}


@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [
        ("adaptive_avg_pool2d", {"output_size": (1, 1)}, ("reduce_mean", WHOLE)),
        ("adaptive_max_pool2d", {"output_size": (1, 1)}, ("reduce_max", WHOLE)),
        ("avg_pool2d", {"kernel": (6, 8)}, ("reduce_mean", WHOLE)),
        ("max_pool2d", {"kernel": (6, 8), "strides": (3, 3)}, ("reduce_max", WHOLE)),
        (
            "adaptive_avg_pool2d",
            {"output_size": (3, 2)},
            ("avg_pool2d", {**POOL, "count_include_pad": True, "divisor": None}),
        ),
        ("adaptive_max_pool2d", {"output_size": (3, 2)}, ("max_pool2d", POOL)),
        ("adaptive_avg_pool2d", {"output_size": (4, 2)}, ("adaptive_avg_pool2d", {"output_size": (4, 2)})),
        (
            "max_pool2d",
            {"kernel": (3, 3), "strides": (2, 2), "padding": "same"},
            ("max_pool2d", {**POOL, "kernel": (3, 3), "strides": (2, 2), "padding": (0, 0, 1, 1)}),
        ),
        ("flatten", {}, ("reshape", {"shape": (2, 192)})),
        ("unsqueeze", {"axes": (-1,)}, ("reshape", {"shape": (2, 4, 6, 8, 1)})),
        ("reshape", {"shape": (-1, 16)}, ("reshape", {"shape": (24, 16)})),
        ("expand", {"shape": (3, -1, -1, -1, -1)}, ("expand", {"shape": (3, 2, 4, 6, 8)})),
        ("softmax", {"axis": -1}, ("softmax", {"axis": 3})),
        ("reduce_mean", {"axes": (-1, 2)}, ("reduce_mean", {"axes": (2, 3), "keepdims": False})),
        ("clamp", {"lo": 0.0}, ("clamp", {"lo": 0.0, "hi": float("inf")})),
        ("cast", {"dtype": "float64"}, ("cast", {"dtype": np.dtype(np.float64)})),
        (
            "slice",
            {"axes": (-1,), "starts": (-1,), "ends": (-100,), "steps": (-3,)},
            (
                "slice",
                {"axes": (0, 1, 2, 3), "starts": (0, 0, 0, 7), "ends": (2, 4, 6, -9), "steps": (1, 1, 1, -3)},
            ),
        ),
    ],
)
def test_nodes_become_static(op: str, attrs: dict[str, Any], expected: tuple[str, dict[str, Any]]) -> None:
    assert static_node(op, attrs) == expected


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("avg_pool2d", {"kernel": (6, 8), "divisor": 3}),
        ("avg_pool2d", {"kernel": (6, 8), "padding": (1, 0, 0, 0), "strides": (9, 9)}),
        ("avg_pool2d", {"kernel": (5, 8), "strides": (9, 9)}),
        ("avg_pool2d", {"kernel": (6, 8), "padding": (0, 0, 6, 0), "strides": (7, 9)}),
        ("adaptive_avg_pool2d", {"output_size": (3, 3)}),
    ],
)
def test_other_poolings_stay(op: str, attrs: dict[str, Any]) -> None:
    assert static_node(op, attrs)[0] == op


def test_same_padding_becomes_numbers() -> None:
    builder = GraphBuilder("net")
    x = builder.input("x", ("n", 1, "h", "w"))
    y = builder.add("conv2d", [x, builder.constant("w", noise(1, 1, 3, 5))], strides=(2, 2), padding="same")
    special = specialise(builder.build([y]), {"x": (1, 1, 8, 9)})
    assert special.nodes[0].attrs["padding"] == (0, 2, 1, 2)
