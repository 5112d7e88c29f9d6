"""Turn an exported program into a graph of sepcore's operators; what cannot be is reported all at once.

It must not know any ATen operator: what each becomes is said in :mod:`sepcore.formats.torch_export.ops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepcore.errors import FormatError, UnsupportedModelError
from sepcore.formats.torch_export.aliasing import SAME, VIEWS, Aliases
from sepcore.formats.torch_export.call import (
    GRAPH_DTYPES,
    INT64,
    AtenCall,
    Operand,
    UnsupportedError,
    Value,
    brief,
    value_name,
)
from sepcore.formats.torch_export.ops import OPERATORS, SCATTERS, is_assertion, refusal
from sepcore.formats.torch_export.ops.custom import users_row
from sepcore.formats.torch_export.program import Argument, AtenGraph, AtenNode, Program, Ref, Subgraph
from sepcore.ir.graph import Array, Graph, Node, frozen, rebuilt
from sepcore.ir.graph import Value as GraphInput

UNSUPPORTED = "unsupported"
"""Stands in the unfinished graph for a node that cannot be expressed: what no output needs is dropped unreported."""

_REGIONS = {"higher_order.wrap_with_set_grad_enabled": 0, "higher_order.wrap_with_autocast": 2}
"""Operators that run a graph of their own, and the position of the argument that says whether they change its rules.

Gradients never matter here; autocast does, where it is on.
"""

_COUNTER = "num_batches_tracked"
"""The buffer of BatchNorm that training alone reads."""


@dataclass(frozen=True)
class Translation:
    """A graph without the elements of its weights.

    Attributes
    ----------
    graph : the graph; its constants are those that its nodes brought along.
    weights, constants : name of a constant of the graph -> key under which the file keeps its elements.
    declared : what the file says of values of the graph.
    hints : example lengths of the symbolic ones.
    """

    graph: Graph
    weights: Mapping[str, str]
    constants: Mapping[str, str]
    declared: Mapping[str, Operand]
    hints: Mapping[str, int]


def translate(path: str, name: str, program: Program) -> Translation:
    """The graph, called ``name``, of an exported program.

    Raises
    ------
    FormatError : a node breaks the rules of its operator, or reads a value that is not made before it.
    UnsupportedModelError : some nodes have no equivalent; lists them all.
    """
    return _Translator(path, program).translation(name)


class _Translator:
    """Implements :class:`sepcore.formats.torch_export.call.Names`."""

    def __init__(self, path: str, program: Program) -> None:
        self._path = path
        self._program = program
        self._graph = program.graph
        self._scope = ""
        self._aliases = Aliases(SCATTERS)
        self._nodes: list[Node] = []
        self._constants: dict[str, Array] = {}
        self._lifted: dict[int, str] = {}
        self._taken: dict[str, int] = {}
        self._problems = list(program.problems)
        self._declared: dict[str, Operand] = {}
        self._hints = dict(program.graph.hints)

    def translation(self, name: str) -> Translation:
        """The whole graph."""
        inputs = [self._bind_input(argument) for argument in self._program.user_inputs if isinstance(argument, Ref)]
        weights = self._bind_lifted(self._program.weights)
        constants = self._bind_lifted(self._program.constants)
        for node in self._graph.nodes:
            self._translate(node)
        outputs = tuple(self._output(argument) for argument in self._program.user_outputs if argument is not None)
        for key, _ in self._program.mutated:
            self._refuse_state(key)
        bounds = self._bounds(inputs)
        graph = rebuilt(Graph(name, tuple(inputs), outputs, (), {}, bounds), self._nodes, self._constants)
        problems = self._problems + [str(node.attrs["reason"]) for node in graph.nodes if node.op == UNSUPPORTED]
        if problems:
            raise UnsupportedModelError(self._path, list(dict.fromkeys(problems)))
        made = {output for node in graph.nodes for output in node.outputs}
        live = made.union(outputs, *(node.inputs for node in graph.nodes), (value.name for value in inputs))
        return Translation(
            graph,
            {name: key for name, key in weights.items() if name in live},
            {name: key for name, key in constants.items() if name in live},
            {name: operand for name, operand in self._declared.items() if name in live},
            self._hints,
        )

    # What is there before the first node, and after the last

    def _bounds(self, inputs: Sequence[GraphInput]) -> dict[str, tuple[int, int]]:
        """What the inputs' lengths must lie between; how many images there are does not matter to any of them."""
        images = {value.shape[0] for value in inputs if value.shape}
        lengths = {length for value in inputs for length in value.shape} - images
        return {name: pair for name, pair in self._program.bounds.items() if name in lengths}

    def _bind_input(self, ref: Ref) -> GraphInput:
        operand, reason = self._declaration(ref.name)
        if ref.name not in self._graph.tensors:
            reason = "a number, where only tensors can be given"
        if reason:
            self._problems.append(f"input '{brief(ref.name)}': {reason}")
        operand = self._bind(ref.name, replace(operand, name=self.fresh(ref.name)))
        return GraphInput(operand.name, operand.shape, operand.dtype)

    def _bind_lifted(self, keys: Mapping[str, str]) -> dict[str, str]:
        """Bind the graph inputs that are parameters, buffers or constants, under the module's own names for them."""
        found = {}
        for name, key in keys.items():
            operand, reason = self._declaration(name)
            if reason:
                self._bind(name, replace(operand, name=self._dummy(f"tensor '{brief(key)}': {reason}", ())))
                continue
            operand = self._bind(name, replace(operand, name=self.fresh(key)))
            self._lifted[self._aliases.memory(name)] = key
            found[operand.name] = key
        return found

    def _declaration(self, name: str) -> tuple[Operand, str]:
        """What the file declares of a graph input, and why no graph can have it ("" where it can)."""
        operand = self._announced(name)
        if operand is None:
            raise FormatError(self._path, f"graph input '{brief(name)}'", "a declared type", "none")
        return operand, self._unreadable(name)

    def _announced(self, name: str) -> Operand | None:
        """What the file declares of the value ``name``, without a name; None where it declares nothing."""
        if name in self._graph.tensors:
            meta = self._graph.tensors[name]
            dtype = GRAPH_DTYPES.get(meta.dtype, np.dtype(np.float32))
            return Operand("", meta.shape, dtype, strides=meta.strides)
        if name in self._graph.symbols:
            return Operand("", (), INT64, self._graph.symbols[name])
        if name in self._graph.scalars:
            return Operand("", (), GRAPH_DTYPES[self._graph.scalars[name]])
        return None

    def _unreadable(self, name: str) -> str:
        """Why no graph can have a value of the declared type; "" where it can."""
        meta = self._graph.tensors.get(name)
        return f"elements of type {meta.dtype}" if meta is not None and meta.dtype not in GRAPH_DTYPES else ""

    def _bind(self, name: str, operand: Operand) -> Operand:
        self._check_unbound(name)
        self._aliases.bind(name, operand)
        self._declared.setdefault(operand.name, operand)
        return operand

    def _check_unbound(self, name: str) -> None:
        if self._aliases.get(name) is not None:
            raise FormatError(self._path, f"value '{brief(name)}'", "one node or input that makes it", "two")

    def _output(self, argument: Argument) -> str:
        if isinstance(argument, Ref):
            operand = self._aliases.get(argument.name)
            if operand is None:
                raise FormatError(self._path, "the outputs", "values of the graph", f"'{brief(argument.name)}'")
            return operand.name
        if isinstance(argument, (bool, int, float)):
            name = self.fresh("output")
            self.constant(name, np.asarray(argument))
            return name
        self._problems.append(f"an output that is neither a tensor nor a number: {argument!r}"[:200])
        return self._dummy("", ())

    def _refuse_state(self, key: str) -> None:
        problem = f"buffer '{brief(key)}': every run changes it, and a graph keeps no state; export after model.eval()"
        if key.rpartition(".")[2] != _COUNTER and problem not in self._problems:
            self._problems.append(problem)

    # Nodes

    def _translate(self, node: AtenNode) -> None:
        """Add what ``node`` becomes, or what says why it cannot be."""
        if is_assertion(node.target):
            return
        call = AtenCall(self._path, node, [self._announced(name) if name else None for name in node.outputs], self)
        if _is_plain_region(node):
            self._inline(call)
            return
        target, in_place = _functional(node)
        made: Sequence[Value | None] = ()
        reason = ""
        try:
            made = self._made(call, target)
        except UnsupportedError as error:
            reason = str(error)
            call.made.clear()
        if reason and not node.outputs:
            self._problems.append(_problem(node, reason))
        values: list[Value | None] = []
        for position, name in enumerate(node.outputs):
            value = made[position] if position < len(made) else None
            if value is None and name:
                problem = _problem(node, reason or f"output {position} is used, which is not computed")
                value = self._dummy(problem, self._inputs(call))
            values.append(value)
        self._claim(call, values, target, in_place)

    def _made(self, call: AtenCall, target: str) -> Sequence[Value | None]:
        for name in call.node.outputs:
            if self._unreadable(name):
                raise UnsupportedError(self._unreadable(name))
        row = OPERATORS.get(target) or users_row(call.node.target)
        if row is None:
            raise UnsupportedError(refusal(call.node.target))
        made = row(call)
        return (made,) if isinstance(made, (str, Operand)) else made

    def _inputs(self, call: AtenCall) -> tuple[str, ...]:
        """All values that a node reads, whatever for."""
        found = []
        for name, argument in call.node.arguments.items():
            for item in argument if isinstance(argument, tuple) else (argument,):
                if isinstance(item, Ref):
                    found.append(self.operand(call, name, item).name)
        return tuple(found)

    def _dummy(self, problem: str, inputs: tuple[str, ...]) -> str:
        name = self.fresh(UNSUPPORTED)
        self._nodes.append(Node(UNSUPPORTED, name, inputs, (name,), {"reason": problem}))
        return name

    def _claim(self, call: AtenCall, values: Sequence[Value | None], target: str, in_place: bool) -> None:
        """Bind the node's outputs to the values it has made, and give those the file's names."""
        base = call.node.arguments.get("self")
        shared = self._scope + base.name if isinstance(base, Ref) and (target in VIEWS or target in SAME) else ""
        fresh = {name for node in call.made for name in node.outputs}
        names: dict[str, str] = {}
        bound: list[tuple[str, Operand]] = []
        for position, (output, value) in enumerate(zip(call.node.outputs, values)):
            if not output or value is None:
                continue
            name = value_name(value)
            if shared and target in VIEWS and name not in fresh and name not in names.values():
                name = call.emit("identity", value)
                fresh.add(name)
            if name in fresh and name not in names:
                names[name] = self.fresh(self._scope + output)
            declared = self._announced(output)
            if declared is None:
                raise call.error(f"output {position}", "a declared type", "none")
            bound.append((self._scope + output, replace(declared, name=names.get(name, name))))
        self._add(call, names)
        for output, operand in bound:
            self._check_unbound(output)
            self._declared.setdefault(operand.name, operand)
            if in_place and isinstance(base, Ref):
                self._write(self._scope + base.name, operand.name)
                self._aliases.bind_view(output, operand, self._scope + base.name, None)
            elif shared:
                self._aliases.bind_view(output, operand, shared, call if target in VIEWS else None)
            else:
                self._aliases.bind(output, operand)

    def _add(self, call: AtenCall, names: Mapping[str, str]) -> None:
        """Add the nodes that a call has made; ``names`` are the values that the file names."""
        for node in call.made:
            outputs = tuple(names.get(name, name) for name in node.outputs)
            inputs = tuple(names.get(name, name) for name in node.inputs)
            named = next((names[name] for name in node.outputs if name in names), node.name)
            self._nodes.append(node.with_(name=named, inputs=inputs, outputs=outputs))
        call.made.clear()

    def _write(self, name: str, content: str) -> None:
        """Let the tensor ``name`` and all that share its memory have new content."""
        memory = self._aliases.memory(name)
        if memory in self._lifted:
            self._refuse_state(self._lifted[memory])
        calls, lost = self._aliases.write(name, content)
        for call in calls:
            self._add(call, {})
        for other in lost:
            operand = self._aliases.get(other)
            assert operand is not None
            reason = (
                f"value '{brief(other)}': an in-place operation changes what it shares memory with; export with "
                "run_decompositions(), or write the module without in-place operations on views"
            )
            self._aliases.lose(other, replace(operand, name=self._dummy(reason, ())))

    def _inline(self, call: AtenCall) -> None:
        """Put the nodes of the graph that a node runs in its place."""
        arguments = list(call.node.arguments.values())
        position, region = next((i, argument) for i, argument in enumerate(arguments) if isinstance(argument, Subgraph))
        inner, scope, outer = region.graph, self._scope, self._graph
        prefix = self.fresh(f"{scope}{region.name}") + "/"
        given_inputs = arguments[position + 1 :]
        if len(inner.inputs) != len(given_inputs) or len(inner.outputs) != len(call.node.outputs):
            raise call.error("arguments", "as many inputs and outputs as the graph has", "another number")
        for given, wanted in zip(given_inputs, inner.inputs):
            if isinstance(given, Ref) and isinstance(wanted, Ref):
                operand = self.operand(call, wanted.name, given)
                self._check_unbound(prefix + wanted.name)
                self._aliases.bind_view(prefix + wanted.name, operand, scope + given.name, None)
        self._enter(prefix, inner)
        for node in inner.nodes:
            self._translate(node)
        made = [
            self.operand(call, "output", argument) if isinstance(argument, Ref) else None for argument in inner.outputs
        ]
        self._enter(scope, outer)
        for name, argument, value in zip(call.node.outputs, inner.outputs, made):
            if name and isinstance(argument, Ref) and value is not None:
                self._check_unbound(scope + name)
                self._aliases.bind_view(scope + name, value, prefix + argument.name, None)

    def _enter(self, scope: str, graph: AtenGraph) -> None:
        self._scope, self._graph = scope, graph
        self._hints = {**graph.hints, **self._hints}

    # Names

    def operand(self, call: AtenCall, argument: str, ref: Ref) -> Operand:
        """The value that ``ref`` names in the file; an error where there is none before the node."""
        found = self._aliases.get(self._scope + ref.name)
        if found is None:
            raise call.error(f"argument '{argument}'", "a value made before the node", f"'{ref.name[:80]}'")
        return found

    def fresh(self, stem: str) -> str:
        """A value or node name that nothing else has."""
        name = stem
        while name in self._taken:
            self._taken[stem] = self._taken.get(stem, 1) + 1
            name = f"{stem}_{self._taken[stem]}"
        self._taken[name] = 1
        return name

    def constant(self, name: str, array: Array) -> None:
        """Add a constant."""
        self._constants[name] = frozen(array)


def _is_plain_region(node: AtenNode) -> bool:
    """Whether a node runs a graph of its own in which the usual rules hold."""
    arguments = list(node.arguments.values())
    position = _REGIONS.get(node.target, len(arguments))
    graphs = any(isinstance(argument, Subgraph) for argument in arguments)
    return graphs and position < len(arguments) and (arguments[position] is False or position == 0)


def _problem(node: AtenNode, reason: str) -> str:
    return f"{brief(node.target)} '{brief(node.name)}': {brief(reason)}" + (f" ({node.source})" if node.source else "")


def _functional(node: AtenNode) -> tuple[str, bool]:
    """The operator without side effect that computes what ``node`` does, and whether the node writes to its input."""
    name, _, overload = node.target.rpartition(".")
    if name.endswith("_") and not name.endswith("__"):
        target = f"{name[:-1]}.{overload}"
        return target, target not in SAME
    return node.target, False
