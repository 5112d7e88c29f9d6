"""Whether a network gives the numbers it should: its kernels against the reference interpreter, layer by layer.

It must not print. What is tested runs on the kernels; what it is measured by, the same file or another, never does.
"""

from __future__ import annotations

import difflib
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, BinaryIO

import numpy as np

from sepcore.errors import FormatError, OptionError
from sepcore.formats.sniff import SAFETENSORS, TORCH_LEGACY, TORCH_ZIP, sniff
from sepcore.inspection import Opened, fused, open_network
from sepcore.ir.graph import Array, Graph, Node
from sepcore.ir.infer import infer_shapes
from sepcore.ir.reference import run_reference
from sepcore.opening import rewritten
from sepcore.runtime.session import Session

TOLERANCE = 1e-4
"""Of an output's standard deviation, or of a layer's largest value: what rounding in float32 stays well below."""

_SEED = 0
_INPUT_KEYS, _OUTPUT_KEYS = ("input", "x"), ("logits", "output")
_MAX_ARRAY_BYTES = 1 << 30

# What zipfile, its decompressors and numpy raise on a broken archive or array; RuntimeError: an encrypted one.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
    *(ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError, ValueError),
)


@dataclass(frozen=True)
class Difference:
    """How far the values of one layer or output lie apart.

    Attributes
    ----------
    name, reference_name : what the value is called in the file that is verified and in what it is measured by.
    op : the operator that makes it; "" for an output of the network.
    maximum : largest absolute difference; inf where only one is finite, or the shapes differ.
    relative : ``maximum`` over the standard deviation of the expected output; of a layer over its largest expected
        value, as a map may be zero but for a few pixels, and rounding goes with the largest.
    """

    name: str
    reference_name: str
    op: str
    shape: tuple[int, ...]
    maximum: float
    relative: float


@dataclass(frozen=True)
class Verdict:
    """What a comparison found.

    Attributes
    ----------
    layers : every layer that both have, in order; none where only outputs are known.
    outputs : the network's outputs, as an ordinary call gives them.
    unmatched : layers of the verified file for which the other has none.
    """

    tolerance: float
    layers: tuple[Difference, ...]
    outputs: tuple[Difference, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether all outputs agree within the tolerance."""
        return all(output.relative <= self.tolerance for output in self.outputs)

    @property
    def first(self) -> Difference | None:
        """The first layer that differs by more than the tolerance."""
        return next((layer for layer in self.layers if not layer.relative <= self.tolerance), None)


@dataclass(frozen=True)
class Computed:
    """What another runtime makes of an input: outputs in order, and values inside by the names they have there."""

    outputs: Sequence[Array]
    layers: Mapping[str, Array]


Reference = Callable[[Opened, Sequence[Array]], Computed]
"""Runs the network of a file somewhere else."""


@dataclass(frozen=True)
class _Layer:
    """A value that a node of a fused graph makes; two of the same ``key`` may be compared."""

    node: Node
    name: str
    size: int
    key: Hashable


def verify_file(
    file: str | os.PathLike[str],
    against: str | os.PathLike[str] | Reference | None = None,
    *,
    tolerance: float = TOLERANCE,
    input_size: int | None = None,
    **overrides: Any,
) -> Verdict:
    """Run ``file`` on the kernels and hold its values against what they should be.

    Parameters
    ----------
    file : a model file, or the name of a model.
    against : another file of the same network, which the reference interpreter runs on the same input; or an .npz file
        with an ``input`` (or ``x``) and its ``logits`` (or ``output``); or what runs ``file`` in another runtime, as
        :func:`sepcore.export.in_torch` gives it; None for ``file`` itself.
    tolerance : of ``relative`` in :class:`Difference`.
    input_size : side of the input map; default: the network's own.
    overrides : as :func:`sepcore.load` takes them; for ``against`` too where it is a state dict.

    Raises
    ------
    OptionError : the two take different inputs.
    FormatError : the .npz file is broken or lacks an array.
    Also what :func:`sepcore.load` raises for a file that cannot be read or run.
    """
    opened = open_network(file, input_size=input_size, **overrides)
    if isinstance(against, (str, os.PathLike)) and _is_npz(against):
        return _against_arrays(opened, against, tolerance)
    rng = np.random.default_rng(_SEED)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in opened.shapes.values()]
    if callable(against):
        return _against_computed(opened, against(opened, arrays), arrays, tolerance)
    other = opened
    if against is not None:
        described = overrides if _is_state_dict(against) else {}
        other = _for_shapes(open_network(against, **described), opened)
    return _against_graph(opened, other, arrays, tolerance)


def difference(name: str, reference_name: str, op: str, found: Array, expected: Array) -> Difference:
    """Compare two arrays; equal infinities, and NaN in both, count as no difference."""
    if found.shape != expected.shape:
        return Difference(name, reference_name, op, found.shape, np.inf, np.inf)
    a, b = found.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(a - b))
    maximum = float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
    finite = b[np.isfinite(b)]
    largest = float(np.abs(finite).max(initial=0.0))
    # Of a single or constant value the deviation says nothing; then its size is the measure.
    scale = (float(finite.std()) if finite.size and not op else 0.0) or largest
    relative = maximum / scale if scale else (np.inf if maximum else 0.0)
    return Difference(name, reference_name, op, found.shape, maximum, float(relative))


def _against_graph(opened: Opened, other: Opened, arrays: Sequence[Array], tolerance: float) -> Verdict:
    """Outputs are held against the graph as the file has it, so that no pass is its own judge; layers after them."""
    expected_outputs = _interpreted(other.network.graph, arrays)
    outputs = _called(opened, arrays)
    if len(outputs) != len(expected_outputs):
        found = f"{len(outputs)} as of {opened.path}"
        raise OptionError(f"{other.path}: outputs: expected {found}, found {len(expected_outputs)}")
    layers, unmatched = _compared_layers(fused(opened), fused(other), arrays)
    names = zip(opened.network.graph.outputs, other.network.graph.outputs)
    compared = tuple(
        difference(name, reference_name, "", array, expected)
        for (name, reference_name), array, expected in zip(names, outputs, expected_outputs)
    )
    return Verdict(tolerance, layers, compared, unmatched)


def _against_computed(opened: Opened, expected: Computed, arrays: Sequence[Array], tolerance: float) -> Verdict:
    outputs = _called(opened, arrays)
    if len(outputs) != len(expected.outputs):
        raise OptionError(f"{opened.path}: outputs: expected {len(expected.outputs)}, found {len(outputs)}")
    graph = fused(opened)
    known, unmatched = [], []
    for layer in _layers(graph):
        # A family names its values after the modules that make them, with a suffix.
        name = layer.name.removesuffix(":out")
        size = expected.layers[name].size if name in expected.layers else None
        known.append((layer, name)) if size == layer.size else unmatched.append(layer.node.name)
    found = _layer_values(graph, [layer.name for layer, _ in known], arrays)
    layers = tuple(
        difference(layer.node.name, name, layer.node.op, array, expected.layers[name].reshape(array.shape))
        for (layer, name), array in zip(known, found.values())
    )
    compared = tuple(
        difference(name, name, "", array, wanted)
        for name, array, wanted in zip(opened.network.graph.outputs, outputs, expected.outputs)
    )
    return Verdict(tolerance, layers, compared, tuple(unmatched))


def _compared_layers(
    graph: Graph, reference: Graph, arrays: Sequence[Array]
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """The differences of the layers that both graphs have, and the names of those that only ``graph`` has."""
    pairs, unmatched = _matched(_layers(graph), _layers(reference))
    found = _layer_values(graph, [layer.name for layer, _ in pairs], arrays)
    wanted = dict.fromkeys(layer.name for _, layer in pairs)
    expected = dict(zip(wanted, _interpreted(reference, arrays, list(wanted))))
    layers = tuple(difference(a.node.name, b.node.name, a.node.op, found[a.name], expected[b.name]) for a, b in pairs)
    return layers, unmatched


def _interpreted(graph: Graph, arrays: Sequence[Array], names: Sequence[str] | None = None) -> list[Array]:
    return run_reference(graph, {value.name: array for value, array in zip(graph.inputs, arrays)}, names)


def _called(opened: Opened, arrays: Sequence[Array]) -> list[Array]:
    """The outputs that an ordinary call gives."""
    outputs = Session(rewritten(opened.network).graph)(*arrays)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _layer_values(graph: Graph, names: Sequence[str], arrays: Sequence[Array]) -> dict[str, Array]:
    """Values inside a fused graph, computed by the kernels of a program that hands them out."""
    if not names:
        return {}
    outputs = Session(graph.with_(outputs=tuple(names)))(*arrays)
    return dict(zip(names, outputs if isinstance(outputs, tuple) else (outputs,)))


def _layers(graph: Graph) -> list[_Layer]:
    values = infer_shapes(graph, {})
    float32 = np.dtype(np.float32)
    found = []
    for node in graph.nodes:
        for index, name in enumerate(node.outputs):
            shape = tuple(map(int, values[name].shape))
            key = (node.op, shape, node.attrs.get("activation") is None, _has_residual(node), index)
            if values[name].dtype == float32:
                found.append(_Layer(node, name, prod(shape), key))
    return found


def _has_residual(node: Node) -> bool:
    return node.op == "conv2d" and len(node.inputs) > 3 and bool(node.inputs[3])


def _matched(found: list[_Layer], expected: list[_Layer]) -> tuple[list[tuple[_Layer, _Layer]], tuple[str, ...]]:
    """Layers of equal operator and shape, paired in order, and the names of those of ``found`` without a partner."""
    matcher = difflib.SequenceMatcher(None, [a.key for a in found], [b.key for b in expected], autojunk=False)
    blocks = matcher.get_matching_blocks()
    pairs = [(found[block.a + i], expected[block.b + i]) for block in blocks for i in range(block.size)]
    paired = {layer.name for layer, _ in pairs}
    return pairs, tuple(layer.node.name for layer in found if layer.name not in paired)


def _for_shapes(other: Opened, opened: Opened) -> Opened:
    """``other`` with the input shapes of ``opened``, matched in order."""
    wanted = list(opened.shapes.values())
    inputs = other.network.graph.inputs
    fits = len(inputs) == len(wanted) and all(
        len(value.shape) == len(shape)
        and all(isinstance(length, str) or length == given for length, given in zip(value.shape, shape))
        for value, shape in zip(inputs, wanted)
    )
    if not fits:
        shapes = ", ".join(map(str, wanted))
        raise OptionError(f"{other.path}: inputs: expected {shapes} as {opened.path} takes, found {_listed(other)}")
    return replace(other, shapes={value.name: shape for value, shape in zip(inputs, wanted)})


def _listed(opened: Opened) -> str:
    return ", ".join(map(str, opened.network.graph.inputs))


def _is_state_dict(path: str | os.PathLike[str]) -> bool:
    return os.path.isfile(path) and sniff(path) in (TORCH_ZIP, TORCH_LEGACY, SAFETENSORS)


def _is_npz(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a zip archive of NumPy arrays alone."""
    if not os.path.isfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except _BROKEN:
        return False  # the readers of model files say what is wrong with it


def _against_arrays(opened: Opened, path: str | os.PathLike[str], tolerance: float) -> Verdict:
    given, expected = read_arrays(path)
    inputs = opened.network.graph.inputs
    if len(inputs) != 1:
        raise OptionError(f"{opened.path}: an .npz file has one input; the network takes {_listed(opened)}")
    outputs = _called(opened, [given])
    if len(outputs) != 1:
        raise OptionError(f"{opened.path}: an .npz file has one output; the network gives {len(outputs)}")
    name = opened.network.graph.outputs[0]
    return Verdict(tolerance, (), (difference(name, str(path), "", outputs[0], expected),))


def read_arrays(path: str | os.PathLike[str]) -> tuple[Array, Array]:
    """Input (float32) and expected output of an .npz file; nothing in it is unpickled.

    Raises
    ------
    FormatError : the file is broken, holds more than 1 GiB per array, or lacks an array.
    OSError : the file is missing or may not be read.
    """
    with open(path, "rb") as stream:
        try:
            given, expected = _read_arrays(str(path), stream)
        except FormatError:
            raise
        except _BROKEN as error:
            raise FormatError(str(path), "content", "arrays that numpy.savez wrote", str(error)[:200]) from None
    if given.dtype != np.float32:
        raise FormatError(str(path), "input", "float32", str(given.dtype))
    return given, expected


def _read_arrays(path: str, stream: BinaryIO) -> tuple[Array, Array]:
    with zipfile.ZipFile(stream) as archive:
        largest = max((info.file_size for info in archive.infolist()), default=0)
    if largest > _MAX_ARRAY_BYTES:
        raise FormatError(path, "an array", f"at most {_MAX_ARRAY_BYTES} bytes", str(largest))
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as arrays:
        return _array(path, arrays, _INPUT_KEYS), _array(path, arrays, _OUTPUT_KEYS)


def _array(path: str, arrays: Mapping[str, Any], keys: Sequence[str]) -> Array:
    for key in keys:
        if key in arrays:
            array = arrays[key]
            # numpy hands out the bytes of a member that is no array.
            if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                found = str(array.dtype) if isinstance(array, np.ndarray) else "no array"
                raise FormatError(path, key, "floating-point numbers", found)
            return array
    raise FormatError(path, "arrays", f"one named {' or '.join(keys)}", ", ".join(arrays) or "none")
