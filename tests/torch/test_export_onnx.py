"""Networks and operators through both of PyTorch's ONNX exporters, held against PyTorch's own numbers.

Needs torch, torchvision, timm, onnx and onnxscript.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sepcore.formats.onnx import read_onnx
from sepcore.ir.graph import Graph
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),
]

EXPORTERS = ("script", "dynamo")
BATCH, SIZE = (0,), (0, 2, 3)
"""Axes of the input that are left open."""


def export(
    module: nn.Module, inputs: Sequence[Tensor], path: Path, exporter: str, opset: int, opened: tuple[int, ...] = ()
) -> Graph:
    """The graph that sepcore reads from what an exporter makes of ``module``."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    names = [f"x{position}" for position in range(len(inputs))]
    arguments: dict[str, Any] = {"opset_version": opset, "input_names": names, "dynamo": exporter == "dynamo"}
    if exporter == "dynamo":
        arguments["verbose"] = False
        if opened:
            axes = dict.fromkeys(opened, torch.export.Dim.DYNAMIC)
            each = (axes,) * len(inputs)
            arguments["dynamic_shapes"] = (each,) if isinstance(module, Lambda) else each
    elif opened:
        arguments["dynamic_axes"] = {name: {axis: f"d{axis}" for axis in opened} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, tuple(inputs), str(path), **arguments)
    graph = read_onnx(path)
    verify(graph)
    return graph


class Lambda(nn.Module):  # type: ignore[misc, unused-ignore]
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def flat(found: Any) -> list[NDArray[Any]]:
    """The tensors in what a module returns, in order."""
    if isinstance(found, Tensor):
        return [found.numpy()]
    values = found.values() if isinstance(found, dict) else found
    return [array for value in values for array in flat(value)]


def expect_same(graph: Graph, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Fail unless every output is PyTorch's, within 1e-4 of its standard deviation."""
    with torch.no_grad():
        expected = flat(module(*inputs))
    found = run_reference(graph, {value.name: x.numpy() for value, x in zip(graph.inputs, inputs)})
    assert len(found) == len(expected)
    for array, wanted in zip(found, expected):
        assert array.shape == wanted.shape
        spread = wanted.std() if wanted.size > 1 and wanted.std() > 0 else max(abs(float(wanted.mean())), 1.0)
        assert np.abs(array.astype(np.float64) - wanted).max() <= 1e-4 * spread


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prepared(module: nn.Module) -> nn.Module:
    """``module`` in evaluation mode, with statistics that a BatchNorm cannot get away with ignoring."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            mean, variance = torch.randn(part.num_features, generator=generator), torch.rand(part.num_features)
            part.running_mean, part.running_var = mean * 0.1, variance + 0.5
    return module.eval()


# Networks


def torchvision_model(name: str) -> nn.Module:
    from torchvision import models  # type: ignore[import-not-found, unused-ignore]

    factory = getattr(models, name, None) or getattr(models.segmentation, name)
    extra = {"weights_backbone": None} if name in dir(models.segmentation) else {}
    made: nn.Module = factory(weights=None, **extra)
    return made


def timm_model(name: str) -> nn.Module:
    import timm  # type: ignore[import-not-found, unused-ignore]

    made: nn.Module = timm.create_model(name, pretrained=False)
    return made


NETWORKS: tuple[tuple[Callable[[str], nn.Module], str, int], ...] = (
    (torchvision_model, "mobilenet_v2", 64),
    (torchvision_model, "mobilenet_v3_large", 64),
    (torchvision_model, "mnasnet0_5", 64),
    (torchvision_model, "efficientnet_b0", 64),
    (torchvision_model, "shufflenet_v2_x0_5", 64),
    (torchvision_model, "squeezenet1_1", 64),
    (torchvision_model, "resnet18", 64),
    (torchvision_model, "convnext_tiny", 64),
    (torchvision_model, "lraspp_mobilenet_v3_large", 96),
    (torchvision_model, "deeplabv3_mobilenet_v3_large", 96),
    (timm_model, "mobilenetv1_100", 64),
    (timm_model, "mobilenetv4_conv_small", 64),
    (timm_model, "tf_mobilenetv3_small_075", 96),
    (timm_model, "tf_efficientnet_lite0", 64),
    (timm_model, "mobileone_s0", 64),
    (timm_model, "ghostnet_100", 64),
    (timm_model, "mixnet_s", 64),
    (timm_model, "lcnet_050", 64),
    (timm_model, "rexnet_100", 64),
    (timm_model, "nf_regnet_b0", 64),
    (timm_model, "convnextv2_atto", 64),
)

ROUTES = (("script", 17, BATCH), ("dynamo", 18, BATCH))


@pytest.mark.parametrize(("exporter", "opset", "opened"), ROUTES, ids=lambda found: str(found))
@pytest.mark.parametrize(("make", "name", "size"), NETWORKS, ids=lambda found: found if isinstance(found, str) else "")
def test_networks(
    make: Callable[[str], nn.Module], name: str, size: int, exporter: str, opset: int, opened: tuple[int, ...],
    tmp_path: Path,
) -> None:  # fmt: skip
    module = prepared(make(name))
    graph = export(module, [noise(2, 3, size, size)], tmp_path / "net.onnx", exporter, opset, opened)
    expect_same(graph, module, [noise(3, 3, size, size, seed=5)])


@pytest.mark.parametrize(
    ("exporter", "opset"), [*(("script", n) for n in range(13, 21)), *(("dynamo", n) for n in (18, 20, 23))]
)
def test_opsets(exporter: str, opset: int, tmp_path: Path) -> None:
    module = prepared(torchvision_model("mobilenet_v3_small"))
    graph = export(module, [noise(2, 3, 64, 64)], tmp_path / "net.onnx", exporter, opset)
    expect_same(graph, module, [noise(2, 3, 64, 64)])


@pytest.mark.parametrize(
    ("make", "name", "exporters"),
    [
        (torchvision_model, "mobilenet_v3_small", EXPORTERS),
        (torchvision_model, "shufflenet_v2_x0_5", EXPORTERS),
        (torchvision_model, "lraspp_mobilenet_v3_large", EXPORTERS),
        # torch.export takes two minutes over the symbolic padding of this one.
        (timm_model, "tf_mobilenetv3_small_075", ("script",)),
    ],
    ids=lambda found: found if isinstance(found, str) else "",
)
def test_open_sizes(make: Callable[[str], nn.Module], name: str, exporters: tuple[str, ...], tmp_path: Path) -> None:
    module = prepared(make(name))
    for exporter in exporters:
        graph = export(module, [noise(2, 3, 96, 96)], tmp_path / "net.onnx", exporter, 18, SIZE)
        for size in ((96, 96), (64, 129)):
            expect_same(graph, module, [noise(1, 3, *size)])


def test_constants_that_are_not_folded_and_batch_norm_that_is_kept(tmp_path: Path) -> None:
    module = prepared(torchvision_model("mobilenet_v2"))
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (noise(1, 3, 64, 64),), str(path), dynamo=False, opset_version=17, do_constant_folding=False,
            keep_initializers_as_inputs=True, training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    graph = read_onnx(path)
    assert sum(node.op == "batch_norm" for node in graph.nodes) == 52
    expect_same(graph, module, [noise(1, 3, 64, 64)])


# Operators

MAP = (2, 8, 7, 9)

MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution, asymmetric kernel": (lambda: nn.Conv2d(8, 6, (3, 5), (2, 1), (1, 2)), MAP),
    "convolution, dilated and grouped": (lambda: nn.Conv2d(8, 12, 3, dilation=2, groups=4, padding=2, bias=False), MAP),
    "convolution, same": (lambda: nn.Conv2d(8, 6, 4, padding="same"), MAP),
    "convolution, reflected": (lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect"), MAP),
    "convolution in one dimension": (lambda: nn.Conv1d(8, 6, 3, padding=1), (2, 8, 9)),
    "transposed convolution": (
        lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        MAP,
    ),
    "transposed convolution, dilated": (lambda: nn.ConvTranspose2d(8, 6, (2, 3), stride=(3, 2), dilation=2), MAP),
    "linear over the last axis": (lambda: nn.Linear(9, 5), MAP),
    "linear": (lambda: nn.Linear(9, 5, bias=False), (3, 9)),
    "bilinear head": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(504, 4), nn.Softmax(1)), MAP),
    "max pooling, ceil": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), MAP),
    "max pooling, dilated": (lambda: nn.MaxPool2d(2, 1, dilation=2), MAP),
    "average pooling, ceil": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), MAP),
    "average pooling without padding": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), MAP),
    "adaptive average pooling": (lambda: nn.AdaptiveAvgPool2d(1), MAP),
    "adaptive average pooling to a factor": (lambda: nn.AdaptiveAvgPool2d((4, 2)), (2, 3, 8, 6)),
    "adaptive average pooling of uneven windows": (lambda: nn.AdaptiveAvgPool2d((3, 5)), MAP),
    "adaptive average pooling to a larger map": (lambda: nn.AdaptiveAvgPool2d((8, 11)), MAP),
    "adaptive max pooling": (lambda: nn.AdaptiveMaxPool2d(1), MAP),
    "batch norm": (lambda: nn.BatchNorm2d(8, eps=1e-3), MAP),
    "batch norm in one dimension": (lambda: nn.BatchNorm1d(8), (4, 8)),
    "batch norm without parameters": (lambda: nn.BatchNorm2d(8, affine=False), MAP),
    "instance norm": (lambda: nn.InstanceNorm2d(8, affine=True), MAP),
    "group norm": (lambda: nn.GroupNorm(4, 8), MAP),
    "layer norm": (lambda: nn.LayerNorm(9), MAP),
    "layer norm over maps": (lambda: nn.LayerNorm((7, 9), elementwise_affine=False), MAP),
    "root mean square norm": (lambda: nn.RMSNorm(9), MAP),
    "relu": (nn.ReLU, MAP),
    "relu6": (nn.ReLU6, MAP),
    "hardtanh": (lambda: nn.Hardtanh(-0.5, 0.25), MAP),
    "leaky relu": (lambda: nn.LeakyReLU(0.1), MAP),
    "prelu": (lambda: nn.PReLU(8), MAP),
    "prelu of one slope": (nn.PReLU, MAP),
    "elu": (lambda: nn.ELU(0.7), MAP),
    "selu": (nn.SELU, MAP),
    "celu": (lambda: nn.CELU(0.6), MAP),
    "silu": (nn.SiLU, MAP),
    "gelu": (nn.GELU, MAP),
    "gelu by tanh": (lambda: nn.GELU(approximate="tanh"), MAP),
    "mish": (nn.Mish, MAP),
    "hardswish": (nn.Hardswish, MAP),
    "hardsigmoid": (nn.Hardsigmoid, MAP),
    "sigmoid": (nn.Sigmoid, MAP),
    "logsigmoid": (nn.LogSigmoid, MAP),
    "tanh": (nn.Tanh, MAP),
    "softplus": (nn.Softplus, MAP),
    "softsign": (nn.Softsign, MAP),
    "softmax": (lambda: nn.Softmax(1), MAP),
    "log softmax": (lambda: nn.LogSoftmax(-1), MAP),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), MAP),
    "pixel unshuffle": (lambda: nn.PixelUnshuffle(2), (1, 3, 4, 6)),
    "channel shuffle": (lambda: nn.ChannelShuffle(4), MAP),
    "zero padding": (lambda: nn.ZeroPad2d((1, 2, 0, 3)), MAP),
    "constant padding": (lambda: nn.ConstantPad2d((1, -2, 0, 3), 1.5), MAP),
    "reflection padding": (lambda: nn.ReflectionPad2d((1, 2, 0, 3)), MAP),
    "replication padding": (lambda: nn.ReplicationPad2d((1, 2, 0, 3)), MAP),
    "upsampling": (lambda: nn.Upsample(scale_factor=2), MAP),
    "bilinear upsampling": (lambda: nn.Upsample(scale_factor=(2, 3), mode="bilinear"), MAP),
    "bilinear upsampling, aligned": (lambda: nn.Upsample(size=(13, 5), mode="bilinear", align_corners=True), MAP),
    "nearest resize to a size": (lambda: nn.Upsample(size=(13, 5)), MAP),
    "bilinear resize to a size": (lambda: nn.Upsample(size=(3, 17), mode="bilinear"), MAP),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5)), MAP),
    "flattened and unflattened": (lambda: nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (7, 9))), MAP),
}

FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda x: (x + 1) * x - x / (x * x + 2) + 3 - (1 - x) / 2,
    "powers": lambda x: (x.abs() + 0.5) ** 2.5 + x**2 + 2.0**x,
    "roots": lambda x: torch.sqrt(x.abs() + 1) + torch.rsqrt(x.abs() + 1) + torch.reciprocal(x.abs() + 1),
    "exponentials": lambda x: torch.exp(x) + torch.log(x.abs() + 1) + torch.erf(x) + torch.log1p(x.abs()),
    "rounding": lambda x: torch.floor(x * 3) + torch.ceil(x * 5) + torch.round(x * 2) + torch.sign(x) + -x,
    "remainders": lambda x: torch.remainder(x * 7, 3.0),
    "extremes": lambda x: torch.maximum(x, x.flip(-1)) + torch.minimum(x, 1 - x),
    "clamps": lambda x: x.clamp(min=-0.5) + x.clamp(max=0.3) + x.clamp(-0.2, 0.8),
    "choice": lambda x: torch.where(x > 0.1, x, x * 0.5) + torch.where(x <= 0, 1.0, 2.0),
    "comparisons": lambda x: ((x > 0) & (x < 1) | (x == 2)).float() + (x != x.floor()).float() + (~(x >= 0)).float(),
    "masks": lambda x: x.masked_fill(x > 0.5, -2.0),
    "means": lambda x: (x.mean((2, 3)), x.mean(1, keepdim=True), x.mean()),
    "sums": lambda x: (x.sum((2, 3), keepdim=True), x.sum(-1), x.sum()),
    "maxima": lambda x: (x.amax((2, 3)), x.amin(1, keepdim=True)),
    "norms": lambda x: (x.norm(dim=1), F.normalize(x, dim=1), x.abs().sum(1)),
    "variance": lambda x: x.var((2, 3), unbiased=False) + x.std((2, 3)),
    "concatenation": lambda x: torch.cat([x, x * 2, x[:, :3]], 1),
    "stack": lambda x: torch.stack([x, -x], 2),
    "chunks": lambda x: [part * (i + 1) for i, part in enumerate(x.chunk(4, 1))],
    "splits": lambda x: list(x.split([1, 2, 5], 1)),
    "uneven split": lambda x: list(x.split(3, 1)),
    "halves": lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 1),
    "slices": lambda x: x[:, 1:-1, ::2, -4:],
    "flip": lambda x: x.flip(2),
    "roll": lambda x: torch.roll(x, (1, -2), (2, 3)),
    "selected": lambda x: x[:, 0] + x[:, -1] + x.select(1, 3),
    "unbound": lambda x: list(x.unbind(1)),
    "by rows and columns": lambda x: x[:, :, torch.tensor([[0], [6], [6]]), torch.tensor([8, 0, 7, 3])],
    "by pixels": lambda x: x[:, :, torch.tensor([0, 6, 5]), torch.tensor([8, 0, 7])],
    "masked": lambda x: x.masked_fill(torch.arange(63).view(7, 9) % 4 == 1, -1.5),
    "by index": lambda x: x.index_select(1, torch.tensor([3, 0, 0, 7])),
    "reshaped": lambda x: x.reshape(-1, 4, 2, 63).flatten(1, 2).unsqueeze(0).squeeze(0),
    "viewed by its own shape": lambda x: x.view(x.shape[0], x.shape[1] // 2, 2, -1).view(x.size(0), -1),
    "permuted": lambda x: x.permute(0, 2, 3, 1).contiguous().transpose(1, 2),
    "expanded": lambda x: x.mean(1, keepdim=True).expand(-1, 5, -1, -1) + x[:, :5],
    "repeated": lambda x: x.repeat(1, 2, 1, 3),
    "elements repeated": lambda x: x.repeat_interleave(2, dim=1),
    "tiled": lambda x: x.mean((2, 3), keepdim=True).repeat(1, 1, 3, 4),
    "matrix product": lambda x: x @ x.transpose(-1, -2),
    "matrix product of a batch": lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)),
    "matrix product of vectors": lambda x: x[0, 0] @ x[0, 0, 1],
    "sums of products": lambda x: (
        torch.einsum("bchw, bchv -> bcwv", x, x),
        torch.einsum("bchw, kc -> bkhw", x, x[0, 0, :, :8]),
    ),
    "running sums": lambda x: (torch.cumsum(x, 1), torch.cumsum((x > 0).float(), -1)),
    "one-hot": lambda x: F.one_hot((x[:, 0] * 2).clamp(-2, 2).round().long() + 2, 7).float(),
    "waves": lambda x: torch.sin(x) + torch.cos(x),
    "attention": lambda x: F.scaled_dot_product_attention(x, x * 2, x + 1),
    "nearest by a scale": lambda x: F.interpolate(x, scale_factor=1.7),
    "bilinear by a scale": lambda x: F.interpolate(x, scale_factor=0.6, mode="bilinear"),
    "bilinear by a scale, aligned": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
    "bilinear, recomputed": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
    "resized to another": lambda x: F.interpolate(x[:, :, ::2, ::2], size=x.shape[2:], mode="bilinear"),
    "padded to a multiple": lambda x: F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4)),
    "created": lambda x: x + torch.ones(x.shape[1], 1, 1) + torch.arange(x.shape[3]) + torch.full_like(x, 2.0),
    "casts": lambda x: (x * 3).int().float() + x.double().float() + (x > 0).to(x.dtype),
    "gates": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
}  # fmt: skip

UNSUPPORTED_BY_EXPORTER = {
    ("script", "channel shuffle"): "it does not know aten::channel_shuffle",
    ("script", "root mean square norm"): "it does not know aten::rms_norm",
    ("script", "adaptive average pooling of uneven windows"): "it writes even windows only",
    ("script", "adaptive average pooling to a larger map"): "the same",
    ("script", "elements repeated"): "it writes a Reshape with two rests, which ONNX does not allow",
}


def module_of(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(3)
    if name in FUNCTIONS:
        return Lambda(FUNCTIONS[name]), MAP
    make, shape = MODULES[name]
    return prepared(make()), shape


@pytest.mark.parametrize("opened", [(), BATCH], ids=["fixed", "open batch"])
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_operators(name: str, exporter: str, opened: tuple[int, ...], tmp_path: Path) -> None:
    if (exporter, name) in UNSUPPORTED_BY_EXPORTER:
        pytest.skip(UNSUPPORTED_BY_EXPORTER[exporter, name])
    module, shape = module_of(name)
    graph = export(module, [noise(*shape)], tmp_path / "net.onnx", exporter, 18, opened)
    expect_same(graph, module, [noise(*shape, seed=8)])


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    module = Lambda(lambda a, b: (a + b, F.relu(a - b), b.mean()))
    for exporter in EXPORTERS:
        graph = export(module, [noise(*MAP), noise(*MAP, seed=1)], tmp_path / "net.onnx", exporter, 18)
        expect_same(graph, module, [noise(*MAP, seed=2), noise(*MAP, seed=3)])
