"""The manifest of a .sep file: a network as JSON, whose every value is checked for type and size when it is read.

It must not touch the tensors' bytes; nothing it reads is executed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sepcore.errors import FormatError, GraphError, OptionError
from sepcore.formats.description import Description
from sepcore.formats.pickle_vm import shown
from sepcore.formats.sep_head import read_manifest
from sepcore.formats.source import Source
from sepcore.image.preprocess import Preprocess
from sepcore.ir.graph import Graph, Node, Value

MAX_TOKENS = 1 << 20
"""Brackets and commas: bounds what a manifest of nothing but brackets may grow to in memory."""
MAX_TEXT = 1 << 12
MAX_SIDE = 1 << 16
MAX_ELEMENTS = 1 << 40
MAX_NESTING = 3
"""Of tuples in an attribute: ``pads`` is a tuple of pairs."""

DTYPES = ("bool", "uint8", "int8", "int32", "int64", "float32", "float64")
_INT64 = range(-(1 << 63), 1 << 63)
_INTEGER_DIGITS = 20
SPARE_BYTES = 4096
"""Zeros behind the packed weights of a level: kernels may load and prefetch past the last."""
_KEY = re.compile(r"[0-9a-f]{32}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_INFINITIES = {"inf": math.inf, "-inf": -math.inf}


class PackedWeights(NamedTuple):
    """The constants of a graph in the layouts that the kernels of one instruction set read.

    Attributes
    ----------
    shapes : of the inputs that they were chosen for.
    content : bytes, of which each block starts at a multiple of 64; SPARE_BYTES of zeros at the end.
    blocks : key -> offset and length.
    start : where the content is in a file, in bytes; 0 where it is in none.
    """

    shapes: tuple[tuple[int, ...], ...]
    content: NDArray[np.uint8]
    blocks: Mapping[str, tuple[int, int]]
    start: int = 0


@dataclass(frozen=True)
class SepNetwork:
    """A network as a .sep file holds it.

    Attributes
    ----------
    graph : after all passes.
    family, arch : what the network was recognised as.
    num_classes : 0 where the output is not one score per class.
    labels : one name per class, or None.
    writer : name and version of the program that wrote the file.
    packed : by instruction set, weights as its kernels read them; they may be those of another version of sepcore.
    """

    graph: Graph
    preprocess: Preprocess
    family: str
    arch: str
    num_classes: int
    labels: Sequence[str] | None
    writer: str
    packed: Mapping[str, PackedWeights] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a constant lies: elements ``dtype`` of ``shape`` from ``offset`` on, counted from the first tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    crc32: int

    @property
    def bytes(self) -> int:
        """Length in the file."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Block:
    """Packed weights of ``bytes`` bytes, ``offset`` bytes from the first of their level."""

    key: str
    offset: int
    bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Level:
    """The packed weights for one instruction set, and the input shapes they were chosen for."""

    isa: str
    shapes: tuple[tuple[int, ...], ...]
    blocks: tuple[Block, ...]


def encoded(network: SepNetwork, tensors: Sequence[Tensor], levels: Sequence[Level]) -> bytes:
    """The manifest of a verified network, whose constants and packed weights lie as ``tensors`` and ``levels`` say.

    Raises
    ------
    GraphError : an attribute has a value that the format has no form for.
    """
    graph = network.graph
    manifest = {
        "writer": network.writer,
        "family": network.family,
        "arch": network.arch,
        "num_classes": network.num_classes,
        "labels": None if network.labels is None else list(network.labels),
        "preprocess": asdict(network.preprocess),
        "graph": {
            "name": graph.name,
            "inputs": [_encoded_value(value) for value in graph.inputs],
            "outputs": list(graph.outputs),
            "nodes": [_encoded_node(node) for node in graph.nodes],
            "bounds": [{"length": name, "least": a, "most": b} for name, (a, b) in graph.bounds.items()],
        },
        "tensors": [asdict(tensor) for tensor in tensors],
        "packed": [asdict(level) for level in levels],
    }
    return json.dumps(manifest, separators=(",", ":"), allow_nan=False).encode("ascii")


def _encoded_value(value: Value) -> dict[str, object]:
    if value.dtype.name not in DTYPES:
        raise GraphError(f"input {value}: expected a dtype of {', '.join(DTYPES)}, found {value.dtype}")
    return {"name": value.name, "dtype": value.dtype.name, "shape": list(value.shape)}


def _encoded_node(node: Node) -> dict[str, object]:
    try:
        attrs = {name: _encoded_attribute(value) for name, value in node.attrs.items()}
    except TypeError as error:
        raise GraphError(f"{node.op} {node.name!r}: attributes: expected {error.args[0]}") from None
    return {
        "op": node.op,
        "name": node.name,
        "inputs": list(node.inputs),
        "outputs": list(node.outputs),
        "attrs": attrs,
        "source": node.source,
    }


def _encoded_attribute(value: Any) -> object:
    """``value`` in JSON; what JSON has no form for becomes an object of one member that says its type."""
    if isinstance(value, tuple):
        return [_encoded_attribute(item) for item in value]
    if isinstance(value, (np.dtype, type)) and np.dtype(value).name in DTYPES:
        return {"dtype": np.dtype(value).name}
    if isinstance(value, float) and math.isinf(value):
        return {"float": "inf" if value > 0 else "-inf"}
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int) and value in _INT64):
        return value
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    raise TypeError(f"numbers, words, dtypes or tuples of them, found {shown(value)}")


def decoded(path: str, manifest: bytes) -> tuple[SepNetwork, list[Tensor], list[Level]]:
    """The network that a manifest describes, still without constants, and where these lie; the graph is not verified.

    Raises
    ------
    FormatError : a value is missing, one too many, or of another type or size than the format says.
    """
    root = _root(path, manifest)
    about = _description(root)
    graph, tensors, packed = root["graph"], root["tensors"], root["packed"]
    network = SepNetwork(
        _graph(graph), about.preprocess, about.family, about.arch, about.num_classes, about.labels, about.writer
    )
    return network, [_tensor(tensor) for tensor in tensors.elements()], _levels(packed)


def read_description(path: str | os.PathLike[str]) -> Description:
    """What a .sep file says of its network, without its graph and tensors, which are not looked at.

    Raises
    ------
    FormatError, OSError : as :func:`sepcore.formats.sep.read_sep`, of what is looked at.
    """
    with Source(path) as source:
        return _description(_root(source.path, read_manifest(source)[0]))


def _root(path: str, manifest: bytes) -> dict[str, _Field]:
    names = ("writer", "family", "arch", "num_classes", "labels", "preprocess", "graph", "tensors", "packed")
    return dict(zip(names, _Field(path, "manifest", _parsed(path, manifest)).members(*names)))


def _description(root: Mapping[str, _Field]) -> Description:
    num_classes = root["num_classes"].integer(0, MAX_ELEMENTS)
    labels = root["labels"]
    names = None if labels.value is None else [label.text() for label in labels.elements()]
    if names is not None and len(names) != num_classes:
        raise labels.error(f"{num_classes} names, one per class", str(len(names)))
    return Description(
        _preprocess(root["preprocess"]),
        root["family"].text(),
        root["arch"].text(),
        num_classes,
        names,
        root["writer"].text(),
    )


def _parsed(path: str, manifest: bytes) -> object:
    if sum(map(manifest.count, (b"[", b"{", b","))) > MAX_TOKENS:
        raise FormatError(path, "manifest", f"at most {MAX_TOKENS} values", "more")
    try:
        return json.loads(
            manifest.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError:
        raise FormatError(path, "manifest", "JSON of moderate depth", "brackets nested too deeply") from None
    except ValueError as error:
        raise FormatError(path, "manifest", "JSON in UTF-8", str(error)[:200]) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key that stands there twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _INTEGER_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]}")
    return number


@dataclass(slots=True)
class _Field:
    """One value of the manifest and where it stands; handed out only once it has the type that is asked for."""

    path: str
    key: str | int
    value: Any
    within: _Field | None = None

    @property
    def where(self) -> str:
        """The way to this value, for messages; not kept, as a manifest has thousands of values."""
        if self.within is None:
            return str(self.key)
        return self.within.where + (f"[{self.key}]" if isinstance(self.key, int) else f".{self.key[:80]}")

    def error(self, expected: str, found: str | None = None) -> FormatError:
        return FormatError(self.path, self.where, expected, shown(self.value) if found is None else found)

    def members(self, *names: str) -> tuple[_Field, ...]:
        """The members of an object that has exactly these."""
        if not isinstance(self.value, dict) or self.value.keys() != set(names):
            found = f"an object of {', '.join(self.value)}"[:200] if isinstance(self.value, dict) else None
            raise self.error(f"an object of {', '.join(names)}", found)
        return tuple(_Field(self.path, name, self.value[name], self) for name in names)

    def elements(self, count: int | None = None) -> list[_Field]:
        if not isinstance(self.value, list) or (count is not None and len(self.value) != count):
            raise self.error("an array" if count is None else f"an array of {count}")
        return [_Field(self.path, i, item, self) for i, item in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str) or len(self.value) > MAX_TEXT:
            raise self.error(f"a text of at most {MAX_TEXT} characters")
        return self.value

    def name(self) -> str:
        if not self.text():
            raise self.error("a name")
        return self.text()

    def texts(self) -> tuple[str, ...]:
        return tuple(field.text() for field in self.elements())

    def integer(self, least: int, most: int) -> int:
        if type(self.value) is not int or not least <= self.value <= most:
            raise self.error(f"an integer from {least} to {most}")
        return self.value

    def integers(self, least: int, most: int) -> tuple[int, ...]:
        return tuple(field.integer(least, most) for field in self.elements())

    def number(self) -> float:
        if type(self.value) not in (int, float):
            raise self.error("a number")
        return float(self.value)

    def dtype(self) -> str:
        if not isinstance(self.value, str) or self.value not in DTYPES:
            raise self.error(f"a dtype of {', '.join(DTYPES)}")
        return self.value


def _graph(field: _Field) -> Graph:
    name, inputs, outputs, nodes, bounds = field.members("name", "inputs", "outputs", "nodes", "bounds")
    return Graph(
        name.text(),
        tuple(_value(item) for item in inputs.elements()),
        outputs.texts(),
        tuple(_node(item) for item in nodes.elements()),
        {},
        _bounds(bounds),
    )


def _bounds(field: _Field) -> dict[str, tuple[int, int]]:
    found = {}
    for item in field.elements():
        length, least, most = item.members("length", "least", "most")
        found[length.name()] = (least.integer(1, MAX_ELEMENTS), most.integer(1, MAX_ELEMENTS))
    return found


def _value(field: _Field) -> Value:
    name, dtype, shape = field.members("name", "dtype", "shape")
    lengths = tuple(
        axis.name() if isinstance(axis.value, str) else axis.integer(1, MAX_ELEMENTS) for axis in shape.elements()
    )
    return Value(name.name(), lengths, np.dtype(dtype.dtype()))


def _node(field: _Field) -> Node:
    op, name, inputs, outputs, attrs, source = field.members("op", "name", "inputs", "outputs", "attrs", "source")
    if not isinstance(attrs.value, dict):
        raise attrs.error("an object")
    return Node(
        op.name(),
        name.name(),
        inputs.texts(),
        outputs.texts(),
        {key: _attribute(_Field(field.path, key, item, attrs)) for key, item in attrs.value.items()},
        source.text(),
    )


def _attribute(field: _Field, depth: int = 0) -> Any:
    value = field.value
    if isinstance(value, list):
        if depth == MAX_NESTING:
            raise field.error(f"arrays nested at most {MAX_NESTING} deep")
        return tuple(_attribute(item, depth + 1) for item in field.elements())
    if isinstance(value, dict):
        return _typed(field, value)
    # Only words: an operator may take a text for the name of a dtype, and numpy's parser is not made for hostile ones.
    if isinstance(value, str) and not _WORD.fullmatch(value):
        raise field.error("a word of a-z, 0-9 and _")
    if type(value) is int and value not in _INT64:
        raise field.error("an integer of 64 bits")
    return value


def _typed(field: _Field, value: Mapping[str, object]) -> Any:
    if value.keys() == {"dtype"}:
        return np.dtype(field.members("dtype")[0].dtype())
    if value.keys() == {"float"} and isinstance(value["float"], str) and value["float"] in _INFINITIES:
        return _INFINITIES[value["float"]]
    raise field.error("a dtype or an infinite float", f"an object of {', '.join(value)}"[:200])


def _preprocess(field: _Field) -> Preprocess:
    size, resize, crop, interpolation, mean, std = field.members(
        "input_size", "resize", "crop", "interpolation", "mean", "std"
    )
    height, width = size.elements(2)
    mean_red, mean_green, mean_blue = mean.elements(3)
    std_red, std_green, std_blue = std.elements(3)
    try:
        return Preprocess(
            (height.integer(1, MAX_SIDE), width.integer(1, MAX_SIDE)),
            None if resize.value is None else resize.integer(1, MAX_SIDE),
            crop.text(),
            interpolation.text(),
            (mean_red.number(), mean_green.number(), mean_blue.number()),
            (std_red.number(), std_green.number(), std_blue.number()),
        )
    except OptionError as error:
        raise field.error("steps that a picture can take", str(error)[:300]) from None


def _tensor(field: _Field) -> Tensor:
    name, dtype, shape, offset, crc32 = field.members("name", "dtype", "shape", "offset", "crc32")
    lengths = shape.integers(0, MAX_ELEMENTS)
    # An axis of no elements must not hide others that no array could have.
    if len(lengths) > 32 or math.prod(max(length, 1) for length in lengths) > MAX_ELEMENTS:
        raise shape.error(f"at most 32 axes and {MAX_ELEMENTS} elements")
    return Tensor(name.name(), dtype.dtype(), lengths, offset.integer(0, MAX_ELEMENTS), crc32.integer(0, (1 << 32) - 1))


def _levels(field: _Field) -> list[Level]:
    levels = [_level(level) for level in field.elements()]
    if len({level.isa for level in levels}) != len(levels):
        raise field.error("one level for each instruction set", "two of one")
    return levels


def _level(field: _Field) -> Level:
    isa, shapes, blocks = field.members("isa", "shapes", "blocks")
    if not _WORD.fullmatch(isa.text()):
        raise isa.error("a word of a-z, 0-9 and _")
    if not blocks.elements():
        raise blocks.error("blocks", "none")
    return Level(
        isa.text(),
        tuple(shape.integers(1, MAX_ELEMENTS) for shape in shapes.elements()),
        tuple(_block(block) for block in blocks.elements()),
    )


def _block(field: _Field) -> Block:
    key, offset, size, crc32 = field.members("key", "offset", "bytes", "crc32")
    if not _KEY.fullmatch(key.text()):
        raise key.error("32 hexadecimal digits")
    return Block(
        key.text(), offset.integer(0, MAX_ELEMENTS), size.integer(1, MAX_ELEMENTS), crc32.integer(0, (1 << 32) - 1)
    )
