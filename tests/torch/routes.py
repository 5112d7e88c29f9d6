"""The networks of the real-data folder as PyTorch modules, and the three routes on which PyTorch exports them.

It must not compute what a network should give: that lies beside the weights.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import timm
import torch
import torch.nn.functional as F
import torchvision
from networks import golden
from torch import Tensor, nn

from sepcore.formats.checkpoint import Checkpoint, read_checkpoint
from sepcore.ir.graph import Graph
from sepcore.models import recognise

ROUTES = (".pt2", "onnx by TorchScript", "onnx by torch.export")

GOLDEN = (
    *("tv__mobilenet_v2", "tv__mobilenet_v3_small", "tv__mobilenet_v3_large", "tv__mnasnet0_5", "tv__mnasnet1_0"),
    *("tv__efficientnet_b0", "tv__shufflenet_v2_x1_0", "timm__mobilenetv1_100", "timm__mobilenetv2_050"),
    *("timm__mobilenetv3_small_100", "timm__mobilenetv4_conv_small", "timm__mobilenetv4_conv_medium"),
    *("timm__mobileone_s0", "timm__ghostnet_100", "timm__efficientnet_lite0"),
)
WEIGHTS = (
    *("mobilenet_v2", "mobilenetv1_x0.25_leaky", "mcunet_320kb", "mobilenetv1_0.75_samepad"),
    "mobilenet_v3_small_samepad",
)
STATE_DICTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenet_v2": ("mobilenet_v2.pth", {}),
    "mobilenetv1_x0.25_leaky": ("mobilenetv1_x0.25_leaky.legacy.pth.tar", {"leaky_slope": 0.1}),
    "mcunet_320kb": ("mcunet_320kb.legacy.pth", {}),
}
"""Files of weights alone, and what has to be said beside them."""


@dataclass(frozen=True)
class Known:
    """A network, inputs for it, and what PyTorch made of those.

    Attributes
    ----------
    state_dict : the graph that the weights alone are recognised as; None where there is no such file.
    pairs : float32 inputs (n, 3, h, w) and logits (n, 1000); the first at the size that the network is made for.
    """

    module: nn.Module
    state_dict: Graph | None
    pairs: list[tuple[np.ndarray, np.ndarray]]


def known(name: str, data_dir: Path) -> Known:
    """A network of :data:`GOLDEN` or :data:`WEIGHTS`."""
    return _golden(name, data_dir) if name in GOLDEN else _real(name, data_dir)


def export(module: nn.Module, x: np.ndarray, route: str, folder: Path, opened: tuple[int, ...] = (0,)) -> Path:
    """Write ``module`` on one of :data:`ROUTES`, with the axes ``opened`` of its input open."""
    example, dim = (torch.from_numpy(x),), torch.export.Dim
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    path = folder / ("net.pt2" if route == ".pt2" else "net.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if route == ".pt2":
            program = torch.export.export(module, example, dynamic_shapes=(dict.fromkeys(opened, dim.AUTO),))
            torch.export.save(program, path)
        elif route == "onnx by TorchScript":
            axes = {"x": {axis: f"d{axis}" for axis in opened}}
            torch.onnx.export(module, example, str(path), dynamo=False, input_names=["x"], dynamic_axes=axes)
        else:
            shapes = (dict.fromkeys(opened, dim.DYNAMIC),)
            torch.onnx.export(module, example, str(path), dynamo=True, dynamic_shapes=shapes, verbose=False)
    return path


def _golden(name: str, data_dir: Path) -> Known:
    recipes, path = golden(data_dir), str(data_dir / "golden" / f"{name}.npz")
    state = recipes.state_dict(path)
    source, _, arch = name.partition("__")
    create = torchvision.models.get_model if source == "tv" else timm.create_model
    module = create(arch)
    tensors: Any = {key: torch.from_numpy(np.array(array)) for key, array in state.items()}
    module.load_state_dict(_Versioned(tensors) if "mnasnet" in arch else tensors)
    graph = recognise(Checkpoint(path, "golden", state, {})).graph
    return Known(module.eval(), graph, list(zip(recipes.inputs(path), recipes.logits(path))))


class _Versioned(OrderedDict[str, Tensor]):
    """torchvision loads no MNASNet that does not say its version: the first had another stem."""

    _metadata: ClassVar = {"": {"version": 2}}


def _real(name: str, data_dir: Path) -> Known:
    trained = json.loads((data_dir / "reference" / "models.json").read_text())[name]
    pixels = np.load(data_dir / "reference" / f"crops{trained['input']}.npy") / 255
    x = ((pixels - trained["mean"]) / trained["std"]).transpose(0, 3, 1, 2).astype(np.float32)
    with np.load(data_dir / "reference" / f"{name}.npz") as reference:
        logits = reference["logits"]
    graph = None
    if name in STATE_DICTS:
        file, said = STATE_DICTS[name]
        graph = recognise(read_checkpoint(data_dir / "weights" / file), **said).graph
    return Known(_real_module(name, data_dir / "weights"), graph, [(np.ascontiguousarray(x), logits)])


def _real_module(name: str, weights: Path) -> nn.Module:
    if name == "mobilenet_v2":
        module = torchvision.models.mobilenet_v2()
        module.load_state_dict(torch.load(weights / "mobilenet_v2.pth", weights_only=True))
        return module.eval()
    if name == "mobilenet_v3_small_samepad":
        return _same_padded(onnx.load(str(weights / f"{name}.onnx")))
    return Loaded(torch.export.load(weights / f"{name}.pt2"))


class Loaded(nn.Module):
    """A program out of a file; PyTorch's own module of it refuses to be put into eval mode, which exporters do."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.inner = program.module()

    def train(self, mode: bool = True) -> Loaded:
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class SamePadded(nn.Module):
    """A convolution that pads by TensorFlow's rule."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.conv.kernel_size[::-1], self.conv.stride[::-1]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return self.conv(F.pad(x, pads))


def _same_padded(proto: onnx.ModelProto) -> nn.Module:
    """torchvision's MobileNetV3-Small with the folded weights of an ONNX file, in the order of its layers."""
    module = torchvision.models.mobilenet_v3_small()
    arrays = {
        tensor.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
        for tensor in proto.graph.initializer
    }
    layers = [node for node in proto.graph.node if node.op_type in ("Conv", "Gemm")]
    for (path, layer), node in zip(list(_layers(module)), layers, strict=True):
        weight, bias = (arrays[name] for name in node.input[1:])
        made: nn.Module = nn.Linear(*weight.shape[::-1]) if isinstance(layer, nn.Linear) else SamePadded(_biased(layer))
        inner: Any = made if isinstance(layer, nn.Linear) else made.conv
        inner.weight.data, inner.bias.data = weight, bias
        _replace(module, path, made)
    for path, layer in list(module.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            _replace(module, path, nn.Identity())
    return module.eval()


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((path, layer) for path, layer in module.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))


def _biased(layer: Any) -> nn.Conv2d:
    return nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, groups=layer.groups)


def _replace(module: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)
