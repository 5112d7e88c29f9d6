"""sepcore as a backend of the package onnx, so that onnx's own node tests can be run against it.

It must not repair anything: a model is given to the reader as an exporter would have written it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnx.backend.base import Backend, BackendRep

import sepcore
from sepcore.formats.onnx import read_onnx
from sepcore.formats.onnx.translate import OPSETS
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify

PARAMETERS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2, 3, 4),
    "Clip": (1, 2),
    "Conv": (1, 2),
    "CumSum": (1,),
    "ConvTranspose": (1, 2),
    "Dropout": (1, 2),
    "GatherND": (1,),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), (1,)),
    "ReduceSumSquare": (1,),
    "Resize": (1, 2, 3),
    "Slice": (3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
}
"""Inputs that an exporter writes as constants, and sepcore wants so. The node tests give them beside the input data."""

WIDENED_SINCE: dict[str, int] = dict.fromkeys(
    (
        *(
            "Cast",
            "CastLike",
            "Celu",
            "Constant",
            "ConstantOfShape",
            "DepthToSpace",
            "Einsum",
            "Flatten",
            "Identity",
            "Mod",
            "OneHot",
            "Pad",
        ),
        *("Range", "Reshape", "Shape", "Size", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze"),
    ),
    OPSETS.stop - 1,
)
"""Operators that got element types, or attributes for those, after the newest opset that sepcore reads, and nothing
else: their tests are run as that opset."""


class SepcoreBackend(Backend):  # type: ignore[misc]
    """The entry that onnx's test runner asks for: the kernels, as any user calls them."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        return Prepared(model, _loaded)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


class InterpreterBackend(SepcoreBackend):
    """The reader alone, with the reference interpreter."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        return Prepared(model, _interpreted)


Arrays = Mapping[str, NDArray[Any]]


class Prepared(BackendRep):  # type: ignore[misc]
    """A model that waits for the values of its parameters."""

    def __init__(self, model: ModelProto, run: Callable[[Path, Arrays], list[NDArray[Any]]]) -> None:
        self._model = model
        self._run = run

    def run(self, inputs: Sequence[NDArray[Any]], **kwargs: Any) -> list[NDArray[Any]]:
        """Write the model with its parameters as initialisers, and run the file on the other inputs."""
        model = ModelProto()
        model.CopyFrom(self._model)
        _set_opset(model)
        given = {value.name: np.asarray(array) for value, array in zip(model.graph.input, inputs)}
        for name in parameters(model) & given.keys():
            model.graph.initializer.append(numpy_helper.from_array(given.pop(name), name))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            return self._run(path, given)


def _loaded(path: Path, given: Arrays) -> list[NDArray[Any]]:
    net = sepcore.load(path)
    outputs = net(*(given[value.name] for value in net.inputs))
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _interpreted(path: Path, given: Arrays) -> list[NDArray[Any]]:
    graph = read_onnx(path)
    verify(graph)
    return run_reference(graph, {value.name: given[value.name] for value in graph.inputs})


def parameters(model: ModelProto) -> set[str]:
    """Names of the inputs that are given as initialisers."""
    return {
        node.input[position]
        for node in model.graph.node
        for position in PARAMETERS.get(node.op_type, ())
        if position < len(node.input)
    }


def _set_opset(model: ModelProto) -> None:
    """Name an opset that sepcore reads, where it defines all of the model's operators as the model's own does."""
    (opset,) = (entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    operators = {node.op_type for node in model.graph.node}
    if opset.version < OPSETS.start and all(
        onnx.defs.get_schema(op, OPSETS.start).since_version <= opset.version for op in operators
    ):
        opset.version = OPSETS.start
    newer = OPSETS.stop - 1
    if opset.version > newer and all(
        op in WIDENED_SINCE or onnx.defs.get_schema(op, opset.version).since_version <= newer for op in operators
    ):
        opset.version = newer
