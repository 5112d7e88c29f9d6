"""Put the nodes of the functions that a file defines in the place of their calls.

It must not know operators, nor let a small file grow without bounds.
"""

from __future__ import annotations

from collections.abc import Iterator

from sepcore.errors import FormatError
from sepcore.formats.onnx.model import DEFAULT_DOMAIN, Function, OnnxModel, OnnxNode, Reference, shown

MAX_NODES = 1 << 16
"""Nodes, calls and arguments of calls that a model may have once its functions are expanded."""

MAX_CHARACTERS = 1 << 25
"""Length of all names that the expansion may make up."""

MAX_DEPTH = 32

_Key = tuple[str, str, str]


def expanded(model: OnnxModel) -> tuple[OnnxNode, ...]:
    """The nodes of ``model`` with no calls of its functions left.

    Raises
    ------
    FormatError
        If a function calls itself, does not make one of its outputs, or the expansion goes beyond ``MAX_NODES``.
    """
    return tuple(_Expansion(model).nodes(model.nodes, ()))


class _Expansion:
    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._visited = 0
        self._characters = 0

    def nodes(self, nodes: tuple[OnnxNode, ...], within: tuple[_Key, ...]) -> Iterator[OnnxNode]:
        """``nodes``, expanded; ``within`` names the functions that are being expanded."""
        for node in nodes:
            key = (node.domain, node.op, node.overload)
            function = self._model.functions.get(key)
            self._account(node, function)
            for name, value in node.attributes.items():
                if isinstance(value, Reference):
                    raise self._error(
                        node, f"attribute {shown(name)} with a value", "a reference outside of a function"
                    )
            if function is None:
                yield node
            elif key in within or len(within) == MAX_DEPTH:
                found = "itself" if key in within else f"{MAX_DEPTH} others"
                raise self._error(node, "calls that come to an end", f"{shown(function.name)} within {found}")
            else:
                yield from self.nodes(self._body(node, function), (*within, key))

    def _account(self, node: OnnxNode, function: Function | None) -> None:
        self._visited += 1
        if function is not None:
            self._visited += len(function.inputs) + len(function.outputs)
            values = sum(1 + len(inner.inputs) + len(inner.outputs) for inner in function.nodes)
            self._characters += len(node.name) * values
        if self._visited > MAX_NODES or self._characters > MAX_CHARACTERS:
            raise self._error(node, f"a model of at most {MAX_NODES} nodes", "more, once its functions are expanded")

    def _error(self, node: OnnxNode, expected: str, found: str) -> FormatError:
        return FormatError(self._model.path, f"node {node.title}", expected, found)

    def _body(self, call: OnnxNode, function: Function) -> tuple[OnnxNode, ...]:
        """The function's nodes, with values and attributes of this call."""
        if len(call.inputs) > len(function.inputs) or len(call.outputs) > len(function.outputs):
            expected = f"at most {len(function.inputs)} inputs and {len(function.outputs)} outputs"
            raise self._error(call, expected, f"{len(call.inputs)} and {len(call.outputs)}")
        given = dict.fromkeys(function.inputs, "") | dict(zip(function.inputs, call.inputs))
        names = {"": "", **given}
        copies = []
        made = {name for node in function.nodes for name in node.outputs}
        for inner, outer in zip(function.outputs, call.outputs):
            if inner in made and inner not in names:
                names[inner] = outer or f"{call.name}/{inner}"
            elif inner in names:
                copies.append((inner, outer))
            else:
                raise self._error(call, f"function {shown(function.name)} to make its outputs", f"no {shown(inner)}")

        def renamed(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(names.setdefault(value, f"{call.name}/{value}") for value in values)

        body = [
            node.with_(
                name=f"{call.name}/{node.name}",
                inputs=renamed(node.inputs),
                outputs=renamed(node.outputs),
                attributes=_resolved(node, call, function),
                source=node.source or call.source,
            )
            for node in function.nodes
        ]
        body += [
            call.with_(
                op="Identity",
                domain=DEFAULT_DOMAIN,
                overload="",
                name=f"{call.name}/{inner}",
                inputs=(names[inner],),
                outputs=(outer,),
                attributes={},
                opset=None,
            )
            for inner, outer in copies
            if outer
        ]
        return tuple(body)


def _resolved(node: OnnxNode, call: OnnxNode, function: Function) -> dict[str, object]:
    """The node's attributes, those that refer to the function's taken from the call; one with no value is absent."""
    resolved = {}
    for name, value in node.attributes.items():
        if isinstance(value, Reference):
            if value.name in call.attributes:
                resolved[name] = call.attributes[value.name]
            elif value.name in function.defaults:
                resolved[name] = function.defaults[value.name]
        else:
            resolved[name] = value
    return resolved
