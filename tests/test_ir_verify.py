"""The verifier: each rule, broken once, is found and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sepcore.errors import GraphError
from sepcore.ir.graph import Graph, GraphBuilder, Node, Value, frozen
from sepcore.ir.ops.attributes import DTYPE
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify


def net() -> Graph:
    builder = GraphBuilder("net")
    builder.scope = "model.py:7"
    x = builder.input("x", ("n", 2, "h", "w"))
    w = builder.constant("w", np.ones((3, 2, 1, 1), np.float32))
    y = builder.add("relu", [builder.add("conv2d", [x, w], name="stem")], name="act")
    return builder.build([y])


def replaced(position: int, **changes: Any) -> Graph:
    graph = net()
    nodes = list(graph.nodes)
    nodes[position] = nodes[position].with_(**changes)
    return graph.with_(nodes=tuple(nodes))


def test_a_good_graph_passes() -> None:
    verify(net())


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (replaced(1, op="relu7"), "relu7 'act' (model.py:7): op: expected one of the graph's operators, found 'relu7'"),
        (
            replaced(1, inputs=("nowhere",)),
            "relu 'act' (model.py:7): inputs: expected values made before, found 'nowhere'",
        ),
        (replaced(1, inputs=("act:out",)), "found 'act:out'"),
        (replaced(1, inputs=("",)), "relu 'act' (model.py:7): input 0: expected a value, found none"),
        (replaced(1, inputs=("x", "x")), "inputs: expected (x), found 2"),
        (replaced(0, inputs=("x",)), "inputs: expected (x, weight, bias?, residual?), found 1"),
        (replaced(0, inputs=("x", "")), "conv2d 'stem' (model.py:7): input 1: expected a value, found none"),
        (replaced(1, outputs=("x",)), "outputs: expected values made once, found 'x'"),
        (replaced(1, outputs=("stem:out",)), "outputs: expected values made once, found 'stem:out'"),
        (replaced(1, outputs=("w",)), "outputs: expected values made once, found 'w'"),
        (replaced(1, outputs=("a", "b")), "outputs: expected 1, found 2"),
        (replaced(1, name="stem"), "name: expected a name of its own"),
        (replaced(1, attrs={"slope": 0.1}), "attributes: expected no attribute, found 'slope'"),
        (replaced(0, attrs={"stride": (1, 1)}), "found 'stride'"),
        (
            replaced(0, attrs={"strides": [1, 1]}),
            "attribute strides: expected two positive integers (y, x), found [1, 1]",
        ),
        (replaced(0, attrs={"strides": (1, 1.0)}), "attribute strides"),
        (replaced(0, attrs={"padding": (1, 1)}), "attribute padding: expected four integers"),
        (replaced(0, attrs={"padding": (0, 0, 0, -1)}), "attribute padding"),
        (replaced(0, attrs={"groups": True}), "attribute groups"),
        (replaced(0, attrs={"activation": ("relu", 1.0)}), "attribute activation"),
        (replaced(0, attrs={"activation": ("clamp", 0.0)}), "attribute activation"),
        (replaced(1, op="leaky_relu"), "attribute slope: expected a number, found none"),
        (replaced(1, op="leaky_relu", attrs={"slope": float("nan")}), "attribute slope: expected a number, found nan"),
        (replaced(1, op="cast", attrs={"dtype": "text"}), "attribute dtype"),
        (replaced(1, op="cast", attrs={"dtype": "complex64"}), "attribute dtype"),
        (replaced(1, op="leaky_relu", attrs={"slope": "steep"}), "attribute slope"),
        (replaced(1, op="leaky_relu", attrs={"slope": True}), "attribute slope"),
        (replaced(1, op="leaky_relu", attrs={"slope": None}), "attribute slope"),
        (replaced(1, op="gelu", attrs={"approximate": "erf"}), "expected 'none' or 'tanh', found 'erf'"),
        (replaced(1, op="gelu", attrs={"approximate": ["tanh"]}), "attribute approximate"),
        (
            replaced(1, op="channel_shuffle", attrs={"groups": 0}),
            "attribute groups: expected a positive integer, found 0",
        ),
        (replaced(1, op="transpose", attrs={"perm": [0, 1]}), "attribute perm: expected a tuple of integers"),
        (replaced(1, op="transpose", attrs={"perm": (0, True)}), "attribute perm"),
        (replaced(1, op="pad", attrs={"pads": [(0, 0)]}), "attribute pads"),
        (replaced(1, op="pad", attrs={"pads": ((0, 0), (1,))}), "attribute pads"),
        (replaced(1, op="resize", attrs={"scales": (2.0,)}), "attribute scales: expected two positive numbers"),
        (replaced(1, op="resize", attrs={"scales": [2.0, 2.0]}), "attribute scales"),
        (replaced(1, op="resize", attrs={"scales": (2.0, 0.0)}), "attribute scales"),
        (replaced(1, op="resize", attrs={"scales": ("2", "2")}), "attribute scales"),
        (replaced(0, attrs={"activation": "relu"}), "attribute activation"),
        (replaced(0, attrs={"activation": ()}), "attribute activation"),
        (replaced(0, attrs={"activation": ("clamp", "low", 6.0)}), "attribute activation"),
        (replaced(0, attrs={"padding": np.zeros(4)}), "attribute padding"),
        (replaced(1, outputs=("",)), "outputs: expected values made once, found ''"),
        (replaced(1, op="concat", inputs=("x", ""), attrs={"axis": 0}), "input 1: expected a value, found none"),
        (net().with_(inputs=(Value("", (1,)),)), "expected a name of its own"),
        (net().with_(inputs=(Value("x", (1,) * 33),)), "input 'x': expected at most 32 axes"),
        (net().with_(outputs=("nowhere",)), "net: output: expected a value of the graph, found 'nowhere'"),
        (net().with_(outputs=()), "outputs: expected at least one"),
        (net().with_(inputs=(Value("x", (1, 2, 0, 3)),)), "axes of length 1 or more"),
        (net().with_(inputs=(Value("w", (1,)), *net().inputs)), "found one that is taken"),
        (net().with_(constants={"w": np.ones(3, np.float32)}), "constant 'w': expected a read-only array"),
        (net().with_(constants={"w": frozen(np.ones(3, np.float16))}), "found float16"),
        (net().with_(constants={"w": [1.0]}), "found list"),
    ],
)
def test_a_broken_rule_is_named(graph: Graph, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert message in str(caught.value)


def test_nodes_in_the_wrong_order_are_found() -> None:
    graph = net()
    with pytest.raises(GraphError, match=r"'act'.*values made before, found 'stem:out'"):
        verify(graph.with_(nodes=graph.nodes[::-1]))


def test_the_interpreter_refuses_inputs_that_do_not_fit() -> None:
    graph, x = net(), np.zeros((1, 2, 3, 3), np.float32)
    assert run_reference(graph, {"x": x}, ["stem:out"])[0].shape == (1, 3, 3, 3)
    with pytest.raises(GraphError, match=r"expected x: float32\[n, 2, h, w\], found float64\[1, 2, 3, 3\]"):
        run_reference(graph, {"x": x.astype(np.float64)})
    with pytest.raises(GraphError, match=r"found float32\[1, 1, 3, 3\]"):
        run_reference(graph, {"x": x[:, :1]})
    with pytest.raises(GraphError, match="input 'x': expected an array, found none"):
        run_reference(graph, {})
    with pytest.raises(GraphError, match="found 'nowhere'"):
        run_reference(graph, {"x": x}, ["nowhere"])


def test_the_interpreter_keeps_wanted_values_and_drops_the_rest() -> None:
    graph, x = net(), np.full((1, 2, 1, 1), -2, np.float32)
    conv, act, again = run_reference(graph, {"x": x}, ["stem:out", "act:out", "x"])
    assert conv.tolist() == [[[[-4]], [[-4]], [[-4]]]]
    assert act.tolist() == [[[[0]], [[0]], [[0]]]]
    assert again is x or np.array_equal(again, x)


def test_a_node_without_a_source_is_named_by_op_and_name() -> None:
    graph = net().with_(nodes=(Node("relu", "lonely", (), ("y",)),), outputs=("y",))
    with pytest.raises(GraphError, match=r"^relu 'lonely': inputs: expected \(x\), found 0$"):
        verify(graph)


@pytest.mark.parametrize("dtype", [None, "", "1" * 30, ",", "{'a': 1}", "f8,", "complex64", "O", 7, object(), "U3"])
def test_what_is_no_numbers_dtype_is_refused(dtype: object) -> None:
    assert not DTYPE.kind.accepts(dtype)


@pytest.mark.parametrize("dtype", ["float32", "bool", "int64", np.float16, np.dtype("uint8"), bool, int, float])
def test_numbers_dtypes_are_taken(dtype: object) -> None:
    assert DTYPE.kind.accepts(dtype)
