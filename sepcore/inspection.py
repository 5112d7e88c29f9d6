"""What a model file holds and what becomes of it: its tensors, its graph before and after the passes, its plan.

It must not run a network, compile a kernel or print.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sepcore.errors import OptionError
from sepcore.formats.checkpoint import read_checkpoint
from sepcore.formats.sniff import ONNX, SEPCORE, TORCH_EXPORT, TORCHSCRIPT, sniff
from sepcore.formats.source import Source
from sepcore.formats.zip_archive import read_directory
from sepcore.ir.dump import Row, rows
from sepcore.ir.graph import Graph, Node, Value
from sepcore.ir.infer import infer_shapes, specialise
from sepcore.ir.ops.activation import OPERATORS as ACTIVATIONS
from sepcore.ir.verify import verify
from sepcore.opening import Network, locate, opened_network, picture_shapes, rewritten
from sepcore.passes import run_shape_passes
from sepcore.plan import Program, WeightStore, plan
from sepcore.runtime.session import chosen_isa
from sepcore.runtime.threads import num_threads

# Between a depthwise and a pointwise convolution these keep the map's shape and mix no pixels. A product is the gate of
# a squeeze-and-excite block, or the second half of an activation that a file spells out.
_BETWEEN = frozenset({row.name for row in ACTIVATIONS} | {"mul", "batch_norm", "channel_shuffle", "identity"})


@dataclass(frozen=True)
class Entry:
    """A tensor of a file, or a member of an archive; dtype and shape are None where only the size is known."""

    name: str
    bytes: int
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Opened:
    """A network whose input shapes are all decided.

    Attributes
    ----------
    format : a constant of :mod:`sepcore.formats.sniff`.
    shapes : per input; one image where the network takes any number.
    """

    path: str
    format: str
    network: Network
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class SeparableBlock:
    """A depthwise convolution and the pointwise one that reads it, beside the dense convolution they stand for.

    Attributes
    ----------
    depthwise, pointwise : names of the nodes.
    kernel : height and width of the depthwise window.
    ic, oc : channels that go in and come out.
    parameters, macs : of the two; weights alone, as the biases stay the same.
    dense_parameters, dense_macs : of one convolution with that window from ``ic`` to ``oc`` channels, for the same
        output map (Howard et al., MobileNets, 2017, section 3.1).
    """

    depthwise: str
    pointwise: str
    kernel: tuple[int, int]
    ic: int
    oc: int
    parameters: int
    macs: int
    dense_parameters: int
    dense_macs: int

    @property
    def saving(self) -> float:
        """How many times more the dense convolution would compute."""
        return self.dense_macs / self.macs


@dataclass(frozen=True)
class Plan:
    """A program, and the bytes of packed weights that it reads."""

    program: Program
    weight_bytes: int


def list_file(file: str | os.PathLike[str]) -> tuple[str, list[Entry]]:
    """The format of a file, and its tensors; of a zip archive that holds more than tensors, its members.

    Parameters
    ----------
    file : a model file, or the name of a model.

    Raises
    ------
    FormatError : the file is broken, hostile or of no known format.
    OSError : it is missing or cannot be read.
    """
    path = locate(file, None)[0]
    kind = sniff(path)
    if kind in (TORCH_EXPORT, TORCHSCRIPT):
        with Source(path) as source:
            return kind, [Entry(record.name, record.size) for record in read_directory(source).records.values()]
    return kind, list(_tensors(path, kind))


def _tensors(path: Path, kind: str) -> Iterator[Entry]:
    for name, tensor in _constants(path, kind).items():
        if isinstance(tensor, np.ndarray):
            yield Entry(name, tensor.nbytes, str(tensor.dtype), tensor.shape)
        else:
            yield Entry(name, 0, f"unreadable ({tensor.reason})")


def _constants(path: Path, kind: str) -> Mapping[str, Any]:
    """Arrays by name; of an ONNX file also what stands for a tensor that cannot be read."""
    if kind == ONNX:
        from sepcore.formats.onnx.decode import decode

        return decode(path).constants
    if kind == SEPCORE:
        from sepcore.formats.sep import read_sep

        return read_sep(path).graph.constants
    return read_checkpoint(path).tensors


def open_network(
    file: str | os.PathLike[str],
    *,
    arch: str | None = None,
    input_size: int | None = None,
    **overrides: Any,
) -> Opened:
    """The network of a file as it stands there, before any pass.

    Parameters
    ----------
    file : a model file, or the name of a model.
    input_size : side of the input map; default: the network's own.
    arch, overrides : as :func:`sepcore.load` takes them.

    Raises
    ------
    OptionError : the network takes another input size.
    Also what :func:`sepcore.load` raises for a file that cannot be read.
    """
    network = opened_network(file, None, arch, None, None, input_size, overrides)
    verify(network.graph)
    path = locate(file, None)[0]
    shapes = picture_shapes(network.graph, network.preprocess.input_size)
    for value in network.graph.inputs:
        taken = shapes[value.name][2:]
        if input_size is not None and len(value.shape) == 4 and taken != (input_size, input_size):
            raise OptionError(f"input_size: {file} takes {value}, found {input_size}")
    return Opened(str(path), sniff(path), network, shapes)


def fused(opened: Opened) -> Graph:
    """The graph after all passes, for the shapes of ``opened``: what a plan is made from."""
    return run_shape_passes(specialise(rewritten(opened.network).graph, opened.shapes))


def planned(graph: Graph) -> Plan:
    """The program for a graph that :func:`fused` returned, on this CPU and with the threads a session would take.

    Raises
    ------
    UnsupportedModelError : the graph holds what no kernel computes.
    PlanError : no kernel covers the shape of a node.
    """
    weights = WeightStore()
    values = infer_shapes(graph, {})
    program = plan(graph, values, isa=chosen_isa().name, batch=1, threads=num_threads(), weights=weights)
    return Plan(program, weights.bytes)


def separable_blocks(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> list[SeparableBlock]:
    """The depthwise-separable blocks of a graph, in order.

    Activations, normalisation, gates and channel shuffles may lie between the two convolutions; a depthwise
    convolution belongs to the first pointwise one that reads it.
    """
    values = infer_shapes(graph, shapes)
    makers = graph.producers()
    listed = {row.node.name: row for row in rows(graph, shapes)}
    taken: set[str] = set()
    found = []
    for node in graph.nodes:
        if not _is_pointwise(node, values):
            continue
        depthwise = _depthwise_before(node, makers, values)
        if depthwise is not None and depthwise.name not in taken:
            taken.add(depthwise.name)
            found.append(_block(listed[depthwise.name], listed[node.name], values))
    return found


def _lengths(values: Mapping[str, Value], name: str) -> tuple[int, ...]:
    return tuple(int(length) for length in values[name].shape)


def _is_pointwise(node: Node, values: Mapping[str, Value]) -> bool:
    return (
        node.op == "conv2d"
        and node.attrs.get("groups", 1) == 1
        and _lengths(values, node.inputs[1])[2:] == (1, 1)
        and tuple(node.attrs.get("strides", (1, 1))) == (1, 1)
    )


def _is_depthwise(node: Node, values: Mapping[str, Value]) -> bool:
    if node.op != "conv2d":
        return False
    channels = _lengths(values, node.inputs[0])[1]
    return channels > 1 and node.attrs.get("groups", 1) == channels


def _depthwise_before(pointwise: Node, makers: Mapping[str, Node], values: Mapping[str, Value]) -> Node | None:
    """The depthwise convolution whose map, scaled or activated at most, ``pointwise`` reads."""
    map_shape = values[pointwise.inputs[0]].shape
    open_values, seen = [pointwise.inputs[0]], set[str]()
    while open_values:
        name = open_values.pop()
        maker = makers.get(name)
        if maker is None or name in seen:
            continue
        seen.add(name)
        if _is_depthwise(maker, values):
            return maker
        if maker.op in _BETWEEN:
            open_values.extend(n for n in reversed(maker.inputs) if n and values[n].shape == map_shape)
    return None


def _block(depthwise: Row, pointwise: Row, values: Mapping[str, Value]) -> SeparableBlock:
    window, mix = (_lengths(values, row.node.inputs[1]) for row in (depthwise, pointwise))
    ic, oc = _lengths(values, depthwise.node.inputs[0])[1], mix[0]
    images, _, height, width = _lengths(values, pointwise.node.output)
    dense = ic * oc * window[2] * window[3]
    return SeparableBlock(
        depthwise.node.name,
        pointwise.node.name,
        (window[2], window[3]),
        ic,
        oc,
        prod(window) + prod(mix),
        (depthwise.macs or 0) + (pointwise.macs or 0),
        dense,
        dense * images * height * width,
    )
