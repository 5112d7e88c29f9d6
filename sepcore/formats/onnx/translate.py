"""Turn the nodes of an ONNX model into a graph of sepcore's operators; what cannot be is reported all at once.

It must not know any ONNX operator: what each becomes is said in :mod:`sepcore.formats.onnx.ops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from sepcore.errors import FormatError, UnsupportedModelError
from sepcore.formats.onnx.elements import known_elements
from sepcore.formats.onnx.model import DEFAULT_DOMAIN, OnnxModel, OnnxNode, Unreadable, shown
from sepcore.formats.onnx.ops import OPERATORS, refusal
from sepcore.formats.onnx.ops.custom import users_row
from sepcore.formats.onnx.shapes import partial_shapes
from sepcore.formats.onnx.step import Lost, LostInputError, Operand, Step, UnsupportedError
from sepcore.ir.graph import Array, Graph, Node, Value, frozen, rebuilt
from sepcore.ir.ops import custom
from sepcore.ir.reference import called, evaluate

OPSETS = range(11, 24)
"""Versions of ONNX's own operators that are understood."""

_NEVER_FOLDED = frozenset(
    ("conv2d", "conv_transpose2d", "linear", "matmul", "max_pool2d", "avg_pool2d", "resize", "erf", "gelu")
)
"""Too slow for the reference interpreter on arrays of any size; no exporter writes them on constants."""

_FOLDED_ELEMENTS = 1 << 20
_FOLDED_PER_ELEMENT = 64
"""Elements that folding may read and make: so many, and so many more for each element of the file's constants."""


def translate(model: OnnxModel, nodes: Sequence[OnnxNode]) -> Graph:
    """The graph that a model describes.

    Parameters
    ----------
    model : the file.
    nodes : its nodes in topological order, without calls of the file's own functions.

    Raises
    ------
    FormatError : a node breaks the rules of its operator.
    UnsupportedModelError : some nodes have no equivalent; lists them all.
    """
    return _Translation(model, nodes).graph()


class _Translation:
    """Implements :class:`sepcore.formats.onnx.step.Sink`."""

    def __init__(self, model: OnnxModel, nodes: Sequence[OnnxNode]) -> None:
        self._model = model
        self._onnx_nodes = nodes
        self._nodes: list[Node] = []
        self._problems: list[str] = []
        self._constants: dict[str, Array] = {}
        self._known: dict[str, Operand | Lost] = {}
        self._outputs = set(model.outputs)
        self._used = self._outputs.union(*(node.inputs for node in nodes))
        self._taken: dict[str, int] = {}
        given = sum(array.size for array in model.constants.values() if isinstance(array, np.ndarray))
        self._foldable = _FOLDED_ELEMENTS + _FOLDED_PER_ELEMENT * given

    def graph(self) -> Graph:
        """The whole graph."""
        self._check_opset()
        for name in (*self._model.inputs, *self._model.constants, *self._used):
            self._taken[name] = 1
        for node in self._onnx_nodes:
            self._taken.update(dict.fromkeys((node.name, *node.outputs), 1))
        for name, value in self._model.inputs.items():
            self._known[name] = self._input(value) if isinstance(value, Value) else self._lost("input", name, value)
        for name, array in self._model.constants.items():
            self._known[name] = (
                self._lost("initializer", name, array) if isinstance(array, Unreadable) else self.constant(name, array)
            )
        for node in self._onnx_nodes:
            self._translate(node)
        for name in self._model.outputs:
            if name not in self._known:
                raise FormatError(self._model.path, f"output {shown(name)}", "a value that something makes", "none")
        if self._problems:
            raise UnsupportedModelError(self._model.path, self._problems)
        inputs = tuple(value for value in self._model.inputs.values() if isinstance(value, Value))
        graph = Graph(self._model.name, inputs, self._model.outputs, (), {})
        return rebuilt(graph, self._nodes, self._constants)

    def _check_opset(self) -> None:
        for opset in {node.opset for node in self._onnx_nodes if node.domain == DEFAULT_DOMAIN}:
            if opset is not None and opset not in OPSETS:
                problem = (
                    f"opset {opset} of ai.onnx: sepcore reads {OPSETS.start} to {OPSETS.stop - 1}; export with "
                    "torch.onnx.export(..., opset_version=18), or convert the file with onnx.version_converter"
                )
                raise UnsupportedModelError(self._model.path, [problem])

    def _input(self, value: Value) -> Operand:
        shape = tuple(length if isinstance(length, int) else None for length in value.shape)
        return Operand(value.name, shape, value.dtype)

    def _lost(self, kind: str, name: str, found: Unreadable) -> Lost:
        if name in self._used:
            self._problems.append(f"{kind} {shown(name)}: {found.reason}")
        return Lost()

    def _translate(self, node: OnnxNode) -> None:
        """Add what ``node`` becomes, or the reason why it cannot be."""
        step = Step(self._model.path, node, [self._known[name] if name else None for name in node.inputs], self)
        made: Sequence[Operand] = ()
        try:
            made = self._made(step)
            for position, name in enumerate(node.outputs[len(made) :], len(made)):
                if name in self._used:
                    raise UnsupportedError(f"output {position} ({shown(name)}) is used, which is not computed")
        except UnsupportedError as error:
            source = f" ({node.source})" if node.source else ""
            self._problems.append(f"{node.title}: {error}{source}")
            made = ()
        except LostInputError:
            made = ()
        for name in node.outputs[len(made) :]:
            self._known[name] = Lost()
        self._bind(step, [(name, operand) for name, operand in zip(node.outputs, made) if name])

    def _made(self, step: Step) -> Sequence[Operand]:
        node = step.node
        row = OPERATORS.get(node.op) if node.domain == DEFAULT_DOMAIN else users_row(node)
        if row is None:
            raise UnsupportedError(refusal(node))
        count = len(node.inputs)
        if not row.least <= count <= row.most:
            allowed = f"{row.least}" if row.least == row.most else f"{row.least} to {row.most}"
            raise step.error("inputs", allowed, str(count))
        made = row.translate(step)
        unread = step.unread_attributes()
        if unread:
            raise UnsupportedError(f"attribute {shown(unread[0])} is not known")
        return [made] if isinstance(made, Operand) else made

    def _bind(self, step: Step, bound: Sequence[tuple[str, Operand]]) -> None:
        """Add the step's nodes, with the file's names for the values that the file names and the node of the first."""
        names: dict[str, str] = {}
        fresh = {name for node in step.made for name in node.outputs}
        for name, operand in bound:
            if operand.name in fresh and operand.name not in names:
                names[operand.name] = name
                self._known[name] = operand.named(name)
            elif name in self._outputs:
                step.made.append(Node("identity", self.fresh(step.node.name), (operand.name,), (name,)))
                self._known[name] = operand.named(name)
            else:
                self._known[name] = operand
        first = next(iter(names), None)
        for node in step.made:
            title = step.node.name if first in node.outputs else node.name
            inputs = tuple([names.get(name, name) for name in node.inputs])
            outputs = tuple([names.get(name, name) for name in node.outputs])
            self._nodes.append(Node(node.op, title, inputs, outputs, node.attrs, node.source))

    def fresh(self, stem: str) -> str:
        """A value or node name that nothing else has."""
        name = stem
        while name in self._taken:
            self._taken[stem] = self._taken.get(stem, 1) + 1
            name = f"{stem}_{self._taken[stem]}"
        self._taken[name] = 1
        return name

    def constant(self, name: str, array: Array) -> Operand:
        """Add a constant."""
        self._constants[name] = frozen(array)
        return Operand(name, array.shape, array.dtype, self._constants[name])

    def fold(self, node: Node, operands: Sequence[Operand | None]) -> list[Array] | None:
        """The node's outputs, where all its inputs are constants and it is cheap enough to compute them now."""
        arrays = [None if operand is None else operand.content for operand in operands]
        computable = all(array is not None for array, operand in zip(arrays, operands) if operand is not None)
        if not computable or node.op in _NEVER_FOLDED or custom.find(node.op) is not None:
            return None
        call = called(node, arrays)
        tensors = call.operator.infer(call)
        size = sum(prod(shape) for shape, _ in tensors) + sum(array.size for array in arrays if array is not None)
        if size > self._foldable:
            return None
        self._foldable -= size
        return evaluate(call, arrays, tensors)

    def infer(self, node: Node, operands: Sequence[Operand | None]) -> list[Operand]:
        """What is known of the node's outputs."""
        tensors = partial_shapes(node.op, operands, node.attrs)
        elements = known_elements(node.op, operands, node.attrs)
        return [Operand(name, shape, dtype, elements=elements) for name, (shape, dtype) in zip(node.outputs, tensors)]
