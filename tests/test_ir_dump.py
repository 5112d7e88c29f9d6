"""Listings of a graph: the table, the JSON document and the drawing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sepcore.errors import GraphError
from sepcore.ir.dump import rows, to_dot, to_json, to_text
from sepcore.ir.graph import Graph, GraphBuilder


def net() -> Graph:
    builder = GraphBuilder("tiny")
    x = builder.input("x", ("n", 3, "h", "w"))
    w = builder.constant("w", np.zeros((8, 3, 3, 3), np.float32))
    builder.scope = "features.0"
    y = builder.add("conv2d", [x, w, builder.constant("b", np.zeros(8, np.float32))], name="stem", strides=(2, 2))
    y = builder.add("cast", [builder.add("clamp", [y], lo=0.0)], dtype=np.float64)
    return builder.build([builder.add("reduce_mean", [y], name='say "mean"', axes=(2, 3))])


SHAPES = {"x": (1, 3, 9, 9)}


def test_table_with_shapes() -> None:
    assert to_text(net(), SHAPES).splitlines() == [
        "tiny(x: float32[1, 3, 9, 9])",
        "node        op           inputs     output          parameters   MACs  attributes",
        "-" * 84,
        "stem        conv2d       x          [1, 8, 4, 4]           224  3,456  strides=(2,2)",
        "clamp       clamp        stem:out   [1, 8, 4, 4]                       lo=0.0",
        "cast        cast         clamp:out  [1, 8, 4, 4]                       dtype=float64",
        'say "mean"  reduce_mean  cast:out   [1, 8]                             axes=(2,3)',
        "-" * 84,
        '4 nodes                             say "mean":out         224  3,456',
    ]


def test_table_without_shapes_names_the_values() -> None:
    text = to_text(net())
    assert "MACs" not in text
    assert "stem:out" in text
    assert "[1, 8" not in text


def test_shared_constants_count_once() -> None:
    builder = GraphBuilder("twice")
    x, c = builder.input("x", (4,)), builder.constant("c", np.zeros(4, np.float32))
    graph = builder.build([builder.add("mul", [builder.add("add", [x, c]), c])])
    assert [row.parameters for row in rows(graph)] == [4, 0]


def test_json() -> None:
    document = json.loads(to_json(net(), SHAPES))
    assert document["inputs"] == [{"name": "x", "shape": [1, 3, 9, 9], "dtype": "float32"}]
    assert document["outputs"] == ['say "mean":out']
    assert document["constants"][0] == {"name": "w", "shape": [8, 3, 3, 3], "dtype": "float32"}
    assert document["nodes"][0] == {
        "name": "stem",
        "op": "conv2d",
        "inputs": ["x", "w", "b"],
        "outputs": [{"name": "stem:out", "shape": [1, 8, 4, 4], "dtype": "float32"}],
        "attributes": {"strides": [2, 2]},
        "parameters": 224,
        "source": "features.0",
        "macs": 8 * 4 * 4 * 27,
    }
    assert document["nodes"][2]["attributes"] == {"dtype": "float64"}
    plain = json.loads(to_json(net()))
    assert plain["inputs"][0]["shape"] == ["n", 3, "h", "w"]
    assert plain["nodes"][0]["outputs"] == ["stem:out"]
    assert "macs" not in plain["nodes"][0]


def test_json_has_no_infinity() -> None:
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 1, 3, 3))
    y = builder.add("pad", [x], pads=((0, 0), (0, 0), (1, 1), (0, 0)), value=float("-inf"))
    (node,) = json.loads(to_json(builder.build([y])))["nodes"]
    assert node["attributes"]["value"] == "-inf"


def test_drawing() -> None:
    lines = to_dot(net(), SHAPES).splitlines()
    assert lines[0] == 'digraph "tiny" {'
    assert '  i0 [label="x" shape=oval];' in lines
    assert '  n0 [label="conv2d\\nstem"];' in lines
    assert '  n3 [label="reduce_mean\\nsay \\"mean\\""];' in lines
    assert '  i0 -> n0 [label="[1, 3, 9, 9]"];' in lines
    assert '  n0 -> n1 [label="[1, 8, 4, 4]"];' in lines
    assert '  n3 -> o0 [label="[1, 8]"];' in lines
    assert lines[-1] == "}"
    assert sum("->" in line for line in lines) == 5


def test_names_cannot_steer_a_terminal() -> None:
    builder = GraphBuilder("evil\x1b[2J")
    graph = builder.build([builder.add("relu", [builder.input("x\n", (1,))], name="a\rb")])
    for text in (to_text(graph), to_dot(graph)):
        assert "\x1b" not in text
        assert "\r" not in text
    assert "evil?[2J(x?: float32[1])" in to_text(graph)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GraphError, match="too small"):
        to_text(net(), {"x": (1, 3, 2, 2)})
