"""What the graph entry of a .pt2 file says, as plain Python values: inputs, nodes, outputs and every value's type.

It must not know any ATen operator. The schema is PyTorch's torch/_export/serde/schema.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sepcore.formats.torch_export.expression import length_name
from sepcore.formats.torch_export.fields import Field
from sepcore.formats.torch_export.origin import origin
from sepcore.formats.torch_tensors import MAX_RANK
from sepcore.ir.graph import Dim

SCHEMA_MAJORS = (7, 8)
"""Schema versions that are understood: 7 is PyTorch 2.5's, 8 that of 2.6 to 2.13. A new minor version is compatible."""

MAX_NODES = 1 << 16
MAX_SUBGRAPHS_DEEP = 8

_SUPPOSED_LEAST = 2
_UNBOUNDED = 1 << 31

STRIDED = 7
"""The layout of dense tensors."""

SCALAR_TYPES: Mapping[int, str] = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
"""Number of an element type in a file -> PyTorch's name."""


@dataclass(frozen=True, slots=True)
class Ref:
    """An argument that is a value of the graph: a tensor or a symbolic number."""

    name: str


@dataclass(frozen=True, slots=True)
class ScalarType:
    """An argument that is an element type."""

    name: str


@dataclass(frozen=True, slots=True)
class Word:
    """An argument that is of no use here: a memory format, a device ..."""

    kind: str


Argument = Any
"""None, bool, int, float, str, Ref, ScalarType, Word, Subgraph, or a tuple of these."""


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """Element type (PyTorch's name), shape and strides that a file declares for a tensor; its axes may be symbolic."""

    dtype: str
    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class AtenNode:
    """One operation.

    Attributes
    ----------
    target : the operator and its overload, such as ``aten.conv2d.default``.
    name : that of its first output.
    arguments : by name in the operator's schema; those that have their default value may be missing.
    outputs : the values it makes; "" for one that is None.
    source : where the exporter says it comes from.
    """

    target: str
    name: str
    arguments: Mapping[str, Argument]
    outputs: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class AtenGraph:
    """A graph, or one that a node of another runs.

    Attributes
    ----------
    inputs : arguments; those that are values are named here.
    outputs : arguments.
    nodes : in the order they run.
    tensors : declared types of the tensors.
    hints : example lengths of the symbolic ones, by the length's name.
    symbols : symbolic integers and the names of their lengths.
    scalars : symbolic numbers of other types and PyTorch's name of the type.
    """

    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    nodes: tuple[AtenNode, ...]
    tensors: Mapping[str, TensorMeta]
    hints: Mapping[str, int]
    symbols: Mapping[str, Dim]
    scalars: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Subgraph:
    """An argument that is a graph."""

    name: str
    graph: AtenGraph


@dataclass(frozen=True)
class Program:
    """An exported program.

    Attributes
    ----------
    graph : the graph; its inputs are the user's and, by other names, the parameters, buffers and constants.
    weights, constants : graph input -> key under which the file keeps its elements.
    user_inputs : graph inputs that the caller gives, in order.
    user_outputs : what the caller gets: arguments.
    mutated : (buffer or parameter, value that it is set to) for each that a run changes.
    problems : inputs and outputs that are of no known kind.
    bounds : the least and the greatest number that a symbolic length may be, where the exporter says so.
    """

    graph: AtenGraph
    weights: Mapping[str, str]
    constants: Mapping[str, str]
    user_inputs: tuple[Argument, ...]
    user_outputs: tuple[Argument, ...]
    mutated: tuple[tuple[str, str], ...]
    problems: tuple[str, ...] = field(default=())
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def parse_program(root: Field) -> Program:
    """The exported program that a graph entry holds.

    Raises
    ------
    FormatError : a field is missing or of the wrong type, or the schema version is not known.
    """
    version = root.member("schema_version").member("major")
    if version.integer() not in SCHEMA_MAJORS:
        expected = " or ".join(map(str, SCHEMA_MAJORS))
        raise version.error(f"{expected} (PyTorch 2.5 to 2.13); export with one of those")
    module = root.member("graph_module")
    graph = _graph(module.member("graph"), 0)
    signature = module.member("signature")
    weights: dict[str, str] = {}
    constants: dict[str, str] = {}
    user_inputs: list[Argument] = []
    problems: list[str] = []
    for spec in signature.member("input_specs").elements():
        kind, content = spec.variant()
        if kind == "user_input":
            user_inputs.append(parse_argument(content.member("arg")))
        elif kind == "parameter":
            weights[_named(content)] = content.member("parameter_name").name()
        elif kind == "buffer":
            kept = weights if _persistent(content) else constants
            kept[_named(content)] = content.member("buffer_name").name()
        elif kind == "tensor_constant":
            constants[_named(content)] = content.member("tensor_constant_name").name()
        elif kind != "constant_input":
            problems.append(f"an input of the kind {kind[:80]!r}")
    mutated, user_outputs = [], []
    for spec in signature.member("output_specs").elements():
        kind, content = spec.variant()
        if kind == "user_output":
            user_outputs.append(parse_argument(content.member("arg")))
        elif kind in ("buffer_mutation", "parameter_mutation"):
            key = content.member(f"{kind.removesuffix('_mutation')}_name").name()
            mutated.append((key, _named(content)))
        elif kind not in ("user_input_mutation", "token"):
            problems.append(f"an output of the kind {kind[:80]!r}")
    return Program(
        graph,
        weights,
        constants,
        tuple(user_inputs),
        tuple(user_outputs),
        tuple(mutated),
        tuple(problems),
        _bounds(root),
    )


def _bounds(root: Field) -> dict[str, tuple[int, int]]:
    """What the lengths were found to lie between; that they are above one PyTorch only supposes."""
    found = root.optional("range_constraints")
    bounds = {}
    for name, entry in () if found is None else found.members():
        least, most = entry.optional("min_val"), entry.optional("max_val")
        smallest = 1 if least is None or least.integer() <= _SUPPOSED_LEAST else least.integer()
        greatest = _UNBOUNDED if most is None else min(most.integer(), _UNBOUNDED)
        if (smallest, greatest) != (1, _UNBOUNDED):
            bounds[name] = (smallest, greatest)
    return bounds


def _named(content: Field) -> str:
    return content.member("arg").member("name").name()


def _persistent(content: Field) -> bool:
    given = content.optional("persistent")
    return given is None or given.flag()


def _graph(source: Field, depth: int) -> AtenGraph:
    hints: dict[str, int] = {}
    tensors = {name: _tensor_meta(meta, hints) for name, meta in source.member("tensor_values").members()}
    symbols = {name: _length(meta, hints) for name, meta in source.member("sym_int_values").members()}
    nodes = source.member("nodes").elements()
    if len(nodes) > MAX_NODES:
        raise source.error(f"at most {MAX_NODES} nodes", str(len(nodes)))
    return AtenGraph(
        tuple(parse_argument(argument) for argument in source.member("inputs").elements()),
        tuple(parse_argument(argument) for argument in source.member("outputs").elements()),
        tuple(_node(node, depth) for node in nodes),
        tensors,
        hints,
        symbols,
        {**_names(source, "sym_float_values", "float64"), **_names(source, "sym_bool_values", "bool")},
    )


def _names(source: Field, member: str, dtype: str) -> dict[str, str]:
    """The names under a member that older files do not have."""
    found = source.optional(member)
    return {} if found is None else {name: dtype for name, _ in found.members()}


def _tensor_meta(meta: Field, hints: dict[str, int]) -> TensorMeta:
    sizes = meta.member("sizes").elements()
    if len(sizes) > MAX_RANK:
        raise meta.error(f"at most {MAX_RANK} axes", str(len(sizes)))
    return TensorMeta(
        parse_scalar_type(meta.member("dtype")),
        tuple(_length(size, hints) for size in sizes),
        tuple(_length(stride, {}) for stride in meta.member("strides").elements()),
    )


def parse_scalar_type(source: Field) -> str:
    """PyTorch's name of the element type that a number stands for."""
    if source.integer() not in SCALAR_TYPES:
        raise source.error("the number of an element type")
    return SCALAR_TYPES[source.integer()]


def _length(source: Field, hints: dict[str, int]) -> Dim:
    """A length, or the name of a symbolic one, whose hint is noted."""
    kind, content = source.variant()
    if kind == "as_int":
        return content.integer()
    if kind != "as_expr":
        raise source.error("a length 'as_int' or 'as_expr'", repr(kind[:80]))
    name = length_name(content.member("expr_str").name())
    hint = content.optional("hint")
    if hint is not None:
        hint_kind, number = hint.variant()
        if hint_kind == "as_int":
            hints.setdefault(name, number.integer())
    return name


def _node(source: Field, depth: int) -> AtenNode:
    arguments: dict[str, Argument] = {}
    for given in source.member("inputs").elements():
        # Operators that take a graph have no schema: their arguments have no names.
        name = given.member("name").text() or str(len(arguments))
        if name in arguments:
            raise given.error("an argument of its own name", f"'{name}' twice")
        arguments[name] = parse_argument(given.member("arg"), depth)
    outputs = tuple(name for output in source.member("outputs").elements() for name in _made(output))
    own = source.optional("name")
    name = next(filter(None, outputs), "") if own is None else own.name()
    target = source.member("target").name().removeprefix("torch.ops.")
    return AtenNode(target, name or target, arguments, outputs, origin(source.member("metadata")))


def _made(output: Field) -> Iterator[str]:
    """The names in an output; "" for one that is None."""
    argument = parse_argument(output)
    for item in argument if isinstance(argument, tuple) else (argument,):
        if item is not None and not isinstance(item, Ref):
            raise output.error("names of values")
        yield "" if item is None else item.name


def parse_argument(source: Field, depth: int = 0) -> Argument:
    """One argument of a node, or input or output of a graph."""
    kind, content = source.variant()
    if kind in _PLAIN:
        return _PLAIN[kind](content)
    if kind in _LISTS:
        return tuple(_LISTS[kind](item) for item in content.elements())
    if kind == "as_graph":
        if depth == MAX_SUBGRAPHS_DEEP:
            raise source.error(f"graphs at most {MAX_SUBGRAPHS_DEEP} deep", "more")
        return Subgraph(content.member("name").name(), _graph(content.member("graph"), depth + 1))
    return Word(kind[:80])


def _reference(source: Field) -> Ref:
    return Ref(source.member("name").name())


def _symbolic(source: Field) -> Argument:
    """A symbolic number by name, or a plain one among such."""
    kind, content = source.variant()
    if kind == "as_name":
        return Ref(content.name())
    if kind in ("as_int", "as_float", "as_bool"):
        return _PLAIN[kind](content)
    raise source.error("'as_name' or a number", repr(kind[:80]))


def _optional_tensor(source: Field) -> Argument:
    kind, content = source.variant()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return _reference(content)
    raise source.error("'as_tensor' or 'as_none'", repr(kind[:80]))


_PLAIN: dict[str, Any] = {
    "as_none": lambda content: None,
    "as_tensor": _reference,
    "as_optional_tensor": _optional_tensor,
    "as_int": Field.integer,
    "as_float": Field.number,
    "as_bool": Field.flag,
    "as_string": Field.text,
    "as_sym_int": _symbolic,
    "as_sym_float": _symbolic,
    "as_sym_bool": _symbolic,
    "as_scalar_type": lambda content: ScalarType(parse_scalar_type(content)),
}
_LISTS: dict[str, Any] = {
    "as_tensors": _reference,
    "as_optional_tensors": _optional_tensor,
    "as_ints": Field.integer,
    "as_floats": Field.number,
    "as_bools": Field.flag,
    "as_strings": Field.text,
    "as_sym_ints": _symbolic,
    "as_sym_floats": _symbolic,
    "as_sym_bools": _symbolic,
}
