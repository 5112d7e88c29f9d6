"""Read an ONNX file into plain Python values, checking everything that does not depend on an operator's meaning.

It must not know operators. Protobuf is parsed by the package ``onnx``; nothing else of that package is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepcore.errors import FormatError, SepcoreError
from sepcore.formats.onnx.external import ExternalFiles
from sepcore.formats.onnx.model import (
    DEFAULT_DOMAIN,
    MAX_RANK,
    Function,
    OnnxModel,
    OnnxNode,
    Reference,
    Unreadable,
    shown,
)
from sepcore.formats.onnx.origin import origin
from sepcore.formats.onnx.tensors import MAX_LENGTH, UnreadableTypeError, element_type, read_tensor
from sepcore.formats.onnx.wire import check_wire
from sepcore.formats.source import Source
from sepcore.ir.graph import Array, Dim, Value

MAX_BYTES = 2**31 - 1
"""Protobuf's own limit for one message; weights beyond it lie in external data."""

_NO_NAMES = frozenset(("", "main_graph", "torch_jit", "torch-jit-export"))
"""What PyTorch's exporters call every graph; the file's name says more."""


def decode(path: str | os.PathLike[str]) -> OnnxModel:
    """Read an ONNX file.

    Raises
    ------
    FormatError : the file is broken or hostile.
    SepcoreError : the package ``onnx`` is not installed.
    OSError : the file is missing or may not be read.
    """
    return _Decoder(os.fspath(path), _parsed(os.fspath(path))).model()


def _parsed(path: str) -> Any:
    """The file as a ModelProto; its bytes are not kept."""
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
        from onnx import ModelProto
    except ImportError as error:
        raise SepcoreError(
            f'{path}: reading ONNX needs the package onnx: pip install "sepcore[onnx]" (import failed: {error})'
        ) from None
    with Source(path) as source:
        if source.size > MAX_BYTES:
            raise source.error("size", f"at most {MAX_BYTES} bytes", str(source.size))
        content = source.read(0, source.size)
    check_wire(path, content)
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise FormatError(
            path, "content", "an ONNX model (protobuf)", f"what protobuf cannot decode: {error}"
        ) from None
    return model


class _Decoder:
    """Reads one ModelProto."""

    def __init__(self, path: str, proto: Any) -> None:
        self._path = path
        self._proto = proto
        self._files = ExternalFiles(path)
        self._node_names: dict[str, int] = {}

    def model(self) -> OnnxModel:
        """The whole file."""
        if not self._proto.HasField("graph") or not self._proto.ir_version:
            raise self._error("model", "ir_version and a graph", "a message without them")
        graph = self._proto.graph
        opsets = self._opsets(self._proto.opset_import)
        constants = self._constants(graph)
        inputs = self._inputs(graph.input, set(constants))
        outputs = tuple(value.name for value in graph.output)
        if not outputs or "" in outputs or len(set(outputs)) < len(outputs):
            raise self._error("outputs", "at least one, each of a name of its own", ", ".join(map(shown, outputs[:9])))
        nodes = self._nodes(graph.node, opsets)
        name = Path(self._path).stem if graph.name in _NO_NAMES else graph.name
        return OnnxModel(self._path, name, inputs, constants, outputs, nodes, self._functions())

    def _error(self, where: str, expected: str, found: str) -> FormatError:
        return FormatError(self._path, where, expected, found)

    def _opsets(self, imports: Iterable[Any]) -> dict[str, int]:
        opsets: dict[str, int] = {}
        for entry in imports:
            domain = _domain(entry.domain)
            if opsets.setdefault(domain, entry.version) != entry.version:
                found = f"{opsets[domain]} and {entry.version}"
                raise self._error(f"opset_import of {shown(domain or 'ai.onnx')}", "one version", found)
        return opsets

    def _constants(self, graph: Any) -> dict[str, Array | Unreadable]:
        constants: dict[str, Array | Unreadable] = {}
        for tensor in graph.initializer:
            if not tensor.name or tensor.name in constants:
                raise self._error(f"initializer {shown(tensor.name)}", "a name of its own", "none or one that is taken")
            constants[tensor.name] = self._tensor(tensor, f"initializer {shown(tensor.name)}")
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            if not name or name in constants:
                raise self._error(f"sparse_initializer {shown(name)}", "a name of its own", "none or one that is taken")
            constants[name] = Unreadable("sparse initializers are not supported")
        return constants

    def _tensor(self, tensor: Any, where: str) -> Array | Unreadable:
        try:
            return read_tensor(self._path, tensor, where, self._files)
        except UnreadableTypeError as error:
            return Unreadable(str(error))

    def _inputs(self, infos: Sequence[Any], constants: set[str]) -> dict[str, Value | Unreadable]:
        """The inputs that have no initialiser (older files list those as inputs too)."""
        inputs: dict[str, Value | Unreadable] = {}
        for info in infos:
            if not info.name or info.name in inputs:
                raise self._error(f"input {shown(info.name)}", "a name of its own", "none or one that is taken")
            if info.name not in constants:
                inputs[info.name] = self._input(info)
        return inputs

    def _input(self, info: Any) -> Value | Unreadable:
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            return Unreadable(f"expected a tensor, found {kind or 'no type'}")
        if not info.type.tensor_type.HasField("shape"):
            return Unreadable("expected a tensor of known rank, found one without a shape")
        try:
            row = element_type(self._path, f"input {shown(info.name)}", info.type.tensor_type.elem_type)
        except UnreadableTypeError as error:
            return Unreadable(str(error))
        return Value(info.name, self._shape(info.name, info.type.tensor_type.shape.dim), row.dtype)

    def _shape(self, name: str, dims: Sequence[Any]) -> tuple[Dim, ...]:
        """Axis lengths; those of zero or less are how some tools write an open one."""
        if len(dims) > MAX_RANK or any(dim.dim_value > MAX_LENGTH for dim in dims):
            found = f"{len(dims)} axes of {', '.join(str(dim.dim_value) for dim in dims[:MAX_RANK])}"
            raise self._error(f"input {shown(name)}", f"at most {MAX_RANK} axes of at most {MAX_LENGTH}", found)
        return tuple(
            int(dim.dim_value) if dim.dim_value > 0 else dim.dim_param or f"{name}.{axis}"
            for axis, dim in enumerate(dims)
        )

    def _nodes(self, protos: Iterable[Any], opsets: dict[str, int]) -> tuple[OnnxNode, ...]:
        return tuple(self._node(position, proto, opsets) for position, proto in enumerate(protos))

    def _node(self, position: int, proto: Any, opsets: dict[str, int]) -> OnnxNode:
        if not proto.op_type:
            raise self._error(f"node {position}", "an operator", "none")
        domain = _domain(proto.domain)
        if domain == DEFAULT_DOMAIN and domain not in opsets:
            raise self._error("opset_import", "a version of ai.onnx", "none")
        name = self._unique(proto.name or f"{proto.op_type}_{position}")
        return OnnxNode(
            op=proto.op_type,
            domain=domain,
            overload=proto.overload if "overload" in proto.DESCRIPTOR.fields_by_name else "",
            name=name,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes=self._attributes(f"node {shown(name)}", proto.attribute),
            opset=opsets.get(domain),
            source=origin(proto),
        )

    def _unique(self, name: str) -> str:
        stem = name
        while name in self._node_names:
            self._node_names[stem] += 1
            name = f"{stem}_{self._node_names[stem]}"
        self._node_names[name] = 1
        return name

    def _attributes(self, where: str, protos: Iterable[Any]) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        for proto in protos:
            if not proto.name or proto.name in attributes:
                raise self._error(
                    f"{where}, attribute {shown(proto.name)}", "a name of its own", "none or one that is taken"
                )
            attributes[proto.name] = self._attribute(f"{where}, attribute {shown(proto.name)}", proto)
        return attributes

    def _attribute(self, where: str, proto: Any) -> Any:
        if proto.ref_attr_name:
            return Reference(proto.ref_attr_name)
        kind = _ATTRIBUTE_KINDS.get(proto.type)
        if kind is None:
            raise self._error(where, "a type", str(proto.type))
        field, read = kind
        if read == "plain":
            found = getattr(proto, field)
            return found if isinstance(found, int) else tuple(found)
        if read == "decimal":
            return shortest(proto.f)
        if read == "decimals":
            return tuple(map(shortest, proto.floats))
        if read == "text":
            return self._text(where, proto.s)
        if read == "texts":
            return tuple(self._text(where, text) for text in proto.strings)
        if read == "tensor":
            return self._tensor(proto.t, where)
        return Unreadable(f"{field} attributes are not supported")

    def _text(self, where: str, text: bytes) -> str:
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            raise self._error(where, "UTF-8 text", repr(text[:40])) from None

    def _functions(self) -> dict[tuple[str, str, str], Function]:
        functions: dict[tuple[str, str, str], Function] = {}
        for proto in self._proto.functions:
            overload = proto.overload if "overload" in proto.DESCRIPTOR.fields_by_name else ""
            key = (_domain(proto.domain), proto.name, overload)
            if not proto.name or key in functions:
                raise self._error(f"function {shown(proto.name)}", "a name of its own", "none or one that is taken")
            functions[key] = Function(
                name=proto.name,
                inputs=tuple(proto.input),
                outputs=tuple(proto.output),
                defaults=self._attributes(f"function {shown(proto.name)}", proto.attribute_proto),
                nodes=self._nodes(proto.node, self._opsets(proto.opset_import)),
            )
        return functions


def shortest(number: float) -> float:
    """The shortest decimal number that float32 rounds to ``number``: what the exporter was given, as 0.1 or 1e-5."""
    return float(str(np.float32(number)))


def _domain(name: str) -> str:
    return DEFAULT_DOMAIN if name == "ai.onnx" else name


_ATTRIBUTE_KINDS = {
    1: ("f", "decimal"),
    2: ("i", "plain"),
    3: ("s", "text"),
    4: ("t", "tensor"),
    5: ("graph", ""),
    6: ("floats", "decimals"),
    7: ("ints", "plain"),
    8: ("strings", "texts"),
    9: ("tensors", ""),
    10: ("graphs", ""),
    11: ("sparse_tensor", ""),
    12: ("sparse_tensors", ""),
    13: ("type", ""),
    14: ("types", ""),
}
"""AttributeProto.AttributeType -> the field it lies in, and how that is read. Source: onnx/onnx.proto."""
