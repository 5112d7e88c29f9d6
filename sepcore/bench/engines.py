"""One small class per inference runtime: how it loads a file for so many threads, and what its timed call is.

A runtime is imported by name when it is used, in a process of its own; nothing here is imported by the rest of the
package. Precision is pinned to float32 where a runtime would choose another, and said in ``precision``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sepcore.errors import OptionError

Array = NDArray[np.float32]


class Engine(ABC):
    """A network loaded by one runtime.

    Parameters
    ----------
    path : a file of the runtime's format.
    threads : that one call may use.
    shape : of the input, (n, c, h, w).

    Attributes
    ----------
    name, package, distribution : what ``--against`` calls it, its module, and the name its version is kept under.
    suffix : of its files.
    precision : what it computes with.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    distribution: ClassVar[str]
    suffix: ClassVar[str]
    precision: str = "float32"

    @abstractmethod
    def __init__(self, path: str, threads: int, shape: tuple[int, ...]) -> None: ...

    def prepare(self, x: Array) -> Any:
        """The input in the runtime's own layout and type; not timed."""
        return x

    @abstractmethod
    def run(self, x: Any) -> Any:
        """One inference, to the output the runtime gives by itself; what is timed."""

    def array(self, output: Any) -> Array:
        """What ``run`` gave as an array, to be compared; not timed."""
        return np.array(output, np.float32)


class Sepcore(Engine):
    """This package, on its own threads."""

    name, package, distribution, suffix = "sepcore", "sepcore", "sepcore", ""
    threading = "pool"

    def __init__(self, path: str, threads: int, shape: tuple[int, ...]) -> None:
        from sepcore.api import load

        self._model = load(path, num_threads=threads, threading=self.threading)

    def run(self, x: Any) -> Any:
        return self._model(x)


class SepcorePrange(Sepcore):
    """This package, on Numba's threads."""

    name, threading = "sepcore-prange", "prange"


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU provider, all graph optimisations on, one operator at a time."""

    name, package, distribution, suffix = "onnxruntime", "onnxruntime", "onnxruntime", ".onnx"

    def __init__(self, path: str, threads: int, shape: tuple[int, ...]) -> None:
        runtime = import_module(self.package)
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, x: Any) -> Any:
        return self._session.run(None, {self._input: x})

    def array(self, output: Any) -> Array:
        return np.array(output[0], np.float32)


class OpenVino(Engine):
    """OpenVINO's CPU plugin for least latency; by itself it computes with bfloat16 where the CPU has it."""

    name, package, distribution, suffix = "openvino", "openvino", "openvino", ".onnx"

    def __init__(self, path: str, threads: int, shape: tuple[int, ...]) -> None:
        core = import_module(self.package).Core()
        model = core.read_model(path)
        model.reshape(list(shape))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = core.compile_model(model, "CPU", settings)
        # What it says it will do, not what it was asked for.
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(hint, hint)
        self._request = compiled.create_infer_request()

    def run(self, x: Any) -> Any:
        return self._request.infer(x, share_inputs=True, share_outputs=True)

    def array(self, output: Any) -> Array:
        return np.array(output[0], np.float32)


class LiteRt(Engine):
    """LiteRT with XNNPACK; its models are channels-last."""

    name, package, distribution, suffix = "litert", "ai_edge_litert", "ai-edge-litert", ".tflite"

    def __init__(self, path: str, threads: int, shape: tuple[int, ...]) -> None:
        interpreter = import_module("ai_edge_litert.interpreter").Interpreter
        self._model = interpreter(model_path=path, num_threads=threads)
        wanted = self._model.get_input_details()[0]
        declared = tuple(int(n) for n in wanted["shape"])
        last = (shape[0], *shape[2:], shape[1])
        fitting = [s for s in (shape, last) if s[1:] == declared[1:]]
        if not fitting:
            raise OptionError(f"{path}: expected an input of shape {shape} or {last}, found {declared}")
        if wanted["dtype"] != np.float32:
            raise OptionError(f"{path}: expected a float32 input, found {np.dtype(wanted['dtype'])}")
        self._shape = fitting[0]
        self._model.resize_tensor_input(wanted["index"], list(self._shape))
        self._model.allocate_tensors()
        self._input, self._output = wanted["index"], self._model.get_output_details()[0]["index"]

    def prepare(self, x: Array) -> Any:
        return x if x.shape == self._shape else np.ascontiguousarray(x.transpose(0, 2, 3, 1))

    def run(self, x: Any) -> Any:
        self._model.set_tensor(self._input, x)
        self._model.invoke()
        return self._model.get_tensor(self._output)


class Ncnn(Engine):
    """ncnn: NAME.param with NAME.bin beside it, one image a call; by itself it keeps maps in 16 bits."""

    name, package, distribution, suffix = "ncnn", "ncnn", "ncnn", ".param"

    def __init__(self, path: str, threads: int, shape: tuple[int, ...]) -> None:
        if shape[0] != 1:
            raise OptionError(f"ncnn takes one image a call: expected batch 1, found {shape[0]}")
        self._ncnn = import_module(self.package)
        self._net = self._ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        weights = str(Path(path).with_suffix(".bin"))
        if self._net.load_param(path) or self._net.load_model(weights):
            raise OptionError(f"ncnn cannot load {path} and {weights}")
        self._input, self._output = self._net.input_names()[0], self._net.output_names()[0]

    def prepare(self, x: Array) -> Any:
        return self._ncnn.Mat(x[0]).clone()  # a Mat of an array does not keep it alive

    def run(self, x: Any) -> Any:
        extractor = self._net.create_extractor()
        refused = extractor.input(self._input, x)
        failed, output = extractor.extract(self._output)
        if refused or failed:
            raise OptionError(f"ncnn cannot run the network on an input of {x.c}x{x.h}x{x.w}")
        return output


class Torch(Engine):
    """PyTorch running an exported program as it stands; PyTorch reads the file, so it must be one that is trusted."""

    name, package, distribution, suffix = "torch", "torch", "torch", ".pt2"

    def __init__(self, path: str, threads: int, shape: tuple[int, ...]) -> None:
        self._torch = import_module(self.package)
        self._torch.set_num_threads(threads)
        self._torch.set_float32_matmul_precision("highest")
        self._module = self._torch.export.load(path).module()

    def prepare(self, x: Array) -> Any:
        return self._torch.from_numpy(x)

    def run(self, x: Any) -> Any:
        with self._torch.inference_mode():
            return self._module(x)


PEERS: Mapping[str, type[Engine]] = MappingProxyType(
    {peer.name: peer for peer in (LiteRt, OnnxRuntime, OpenVino, Ncnn, Torch)}
)
OURS: Mapping[str, type[Engine]] = MappingProxyType({engine.name: engine for engine in (Sepcore, SepcorePrange)})
ENGINES: Mapping[str, type[Engine]] = MappingProxyType({**OURS, **PEERS})
