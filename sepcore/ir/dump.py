"""Writes a graph out for people and programs: as a text table, as JSON, as a Graphviz drawing.

It must not change a graph, nor be read back: what it writes is a view.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sepcore.ir.graph import Graph, Node, Value
from sepcore.ir.infer import calls
from sepcore.ir.ops import operator_of
from sepcore.ir.ops.operator import shape_text

Shapes = Mapping[str, Sequence[int]]
"""Concrete shape per graph input."""


@dataclass(frozen=True)
class Row:
    """What is said of one node.

    ``attrs`` are those that differ from the operator's defaults; ``parameters`` counts the elements of its constants.
    ``outputs`` and ``macs`` are None where no shapes were given.
    """

    node: Node
    attrs: Mapping[str, Any]
    parameters: int
    outputs: tuple[Value, ...] | None
    macs: int | None


def rows(graph: Graph, shapes: Shapes | None = None) -> list[Row]:
    """One row per node, in order; with output shapes and multiply-accumulates for inputs of ``shapes``.

    A constant that several nodes read counts for the first of them.

    Raises
    ------
    GraphError
        If the shapes do not fit the graph.
    """
    costs: dict[str, tuple[tuple[Value, ...], int]] = {}
    if shapes is not None:
        costs = {call.node.name: (outs, call.operator.macs(call, outs)) for call, outs in calls(graph, shapes)}
    found, counted = [], set[str]()
    for node in graph.nodes:
        mine = {name for name in node.inputs if name in graph.constants} - counted
        counted |= mine
        defaults = {name: attribute.default for name, attribute in operator_of(node).attributes.items()}
        attrs = {name: value for name, value in node.attrs.items() if value != defaults.get(name)}
        parameters = sum(graph.constants[name].size for name in mine)
        outputs, macs = costs.get(node.name, (None, None))
        found.append(Row(node, attrs, parameters, outputs, macs))
    return found


def to_text(graph: Graph, shapes: Shapes | None = None) -> str:
    """A table with one line per node and a line of totals."""
    listed = rows(graph, shapes)
    lines = [["node", "op", "inputs", "output", "parameters", "MACs", "attributes"]]
    for row in listed:
        activations = [name for name in row.node.inputs if name and name not in graph.constants]
        outputs = row.node.outputs if row.outputs is None else [shape_text(value.shape) for value in row.outputs]
        attrs = " ".join(f"{name}={_attribute_text(value)}" for name, value in row.attrs.items())
        lines.append(
            [row.node.name, row.node.op, ", ".join(activations), ", ".join(outputs), *_counts(row), attrs],
        )
    parameters = sum(row.parameters for row in listed)
    macs = "" if shapes is None else f"{sum(row.macs or 0 for row in listed):,}"
    lines.append([f"{len(listed)} nodes", "", "", ", ".join(graph.outputs), f"{parameters:,}", macs, ""])
    if shapes is None:
        lines = [line[:5] + line[6:] for line in lines]
    inputs = ", ".join(map(str, _inputs(graph, shapes)))
    return f"{_printable(f'{graph.name}({inputs})')}\n{_aligned(lines)}\n"


def _inputs(graph: Graph, shapes: Shapes | None) -> list[Value]:
    """The graph's inputs, with the given shapes."""
    return [
        Value(value.name, tuple((shapes or {}).get(value.name, value.shape)), value.dtype) for value in graph.inputs
    ]


def _printable(text: str) -> str:
    """``text`` on one line; names come from files and may hold what a terminal obeys."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _counts(row: Row) -> tuple[str, str]:
    return f"{row.parameters:,}" if row.parameters else "", f"{row.macs:,}" if row.macs else ""


def _attribute_text(value: Any) -> str:
    return (str(np.dtype(value)) if isinstance(value, type) else str(value)).replace(" ", "")


def _aligned(lines: list[list[str]]) -> str:
    """Columns of equal width, those of numbers flush right, with rules below the heading and above the totals."""
    lines = [[_printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    right = {i for i, name in enumerate(lines[0]) if name in ("parameters", "MACs")}
    text = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, text))
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])


def to_json(graph: Graph, shapes: Shapes | None = None) -> str:
    """The graph as JSON: inputs, outputs, nodes in order, and shape and dtype of each constant (no content).

    Infinite attributes are the strings "inf" and "-inf", for which JSON has no number.
    """
    document = {
        "name": graph.name,
        "inputs": [_value_json(value) for value in _inputs(graph, shapes)],
        "outputs": list(graph.outputs),
        "nodes": [_row_json(row) for row in rows(graph, shapes)],
        "constants": [_value_json(Value(name, a.shape, a.dtype)) for name, a in graph.constants.items()],
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _row_json(row: Row) -> dict[str, Any]:
    node = row.node
    found: dict[str, Any] = {
        "name": node.name,
        "op": node.op,
        "inputs": list(node.inputs),
        "outputs": list(node.outputs) if row.outputs is None else [_value_json(value) for value in row.outputs],
        "attributes": {name: _attribute_json(value) for name, value in row.attrs.items()},
        "parameters": row.parameters,
        "source": node.source,
    }
    return found if row.macs is None else {**found, "macs": row.macs}


def _value_json(value: Value) -> dict[str, Any]:
    return {"name": value.name, "shape": list(value.shape), "dtype": str(value.dtype)}


def _attribute_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_attribute_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(np.dtype(value))


def to_dot(graph: Graph, shapes: Shapes | None = None) -> str:
    """The graph in Graphviz's language: a box per node, an arrow per value, with its shape where it is known."""
    listed = rows(graph, shapes)
    known = {value.name: value for row in listed for value in row.outputs or ()}
    known.update((value.name, value) for value in _inputs(graph, shapes))
    makers = {name: f"n{i}" for i, row in enumerate(listed) for name in row.node.outputs}
    lines = [f"digraph {_quoted(graph.name)} {{", "  node [shape=box fontname=monospace];"]
    for i, value in enumerate(graph.inputs):
        makers[value.name] = f"i{i}"
        lines.append(f"  i{i} [label={_quoted(value.name)} shape=oval];")
    for i, row in enumerate(listed):
        lines.append(f"  n{i} [label={_quoted(row.node.op, row.node.name)}];")
        lines.extend(_arrow(makers, known, name, f"n{i}") for name in row.node.inputs if name in makers)
    for i, name in enumerate(graph.outputs):
        lines.append(f"  o{i} [label={_quoted(name)} shape=oval];")
        if name in makers:
            lines.append(_arrow(makers, known, name, f"o{i}"))
    return "\n".join([*lines, "}"]) + "\n"


def _arrow(makers: Mapping[str, str], known: Mapping[str, Value], name: str, reader: str) -> str:
    label = f" [label={_quoted(shape_text(known[name].shape))}]" if name in known else ""
    return f"  {makers[name]} -> {reader}{label};"


def _quoted(*lines: str) -> str:
    """A Graphviz string of several lines."""
    escaped = (_printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
