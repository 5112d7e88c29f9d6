"""Whole networks by way of .pt2 files: torchvision's and timm's, as exported and decomposed, with open lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision.models as tv
from exported import assert_same, decomposed, export, larger, read_back
from torch import nn

pytestmark = pytest.mark.torch

Tensor = torch.Tensor


class Ssdlite(nn.Module):
    """Backbone and heads, to the raw outputs."""

    def __init__(self) -> None:
        super().__init__()
        model = tv.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
        self.backbone, self.head = model.backbone, model.head

    def forward(self, x: Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


def torchvision_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(tv, name)(weights=None, **options)


def timm_model(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "mobilenet_v2": (torchvision_model("mobilenet_v2", width_mult=0.35), 64),
    "mobilenet_v3_small": (torchvision_model("mobilenet_v3_small", width_mult=0.5), 64),
    "mobilenet_v3_large": (torchvision_model("mobilenet_v3_large", width_mult=0.35), 64),
    "mnasnet0_5": (torchvision_model("mnasnet0_5"), 64),
    "efficientnet_b0": (torchvision_model("efficientnet_b0"), 64),
    "shufflenet_v2_x0_5": (torchvision_model("shufflenet_v2_x0_5"), 64),
    "squeezenet1_1": (torchvision_model("squeezenet1_1"), 64),
    "lraspp": (lambda: tv.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), 64),
    "deeplabv3": (lambda: tv.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None), 64),
    "ssdlite": (Ssdlite, 96),
    **{
        name: (timm_model(name), 64)
        for name in (
            *("mobilenetv1_100", "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv4_conv_small", "mobileone_s0"),
            *("ghostnet_050", "efficientnet_lite0", "tf_mobilenetv3_small_minimal_100", "mixnet_s", "lcnet_050"),
            *("tinynet_e", "repghostnet_050", "convnextv2_atto", "mobilevitv2_050", "efficientvit_b0", "fasternet_t0"),
        )
    },
}


def with_statistics(module: nn.Module) -> nn.Module:
    """The module in eval mode, with BatchNorm statistics as after some training."""
    generator = torch.Generator().manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            shape = layer.running_mean.shape
            layer.running_mean.copy_(torch.randn(shape, generator=generator) * 0.1)
            layer.running_var.copy_(torch.rand(shape, generator=generator) * 0.5 + 0.75)
    return module.eval()


@pytest.mark.parametrize("form", ["open batch", "open map, decomposed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, size = NETWORKS[name]
    module = with_statistics(make())
    x = torch.randn(2, 3, size, size)
    auto = torch.export.Dim.AUTO
    program = export(module, (x,), ({0: auto} if form == "open batch" else {0: auto, 2: auto, 3: auto},))
    graph = read_back(decomposed(program) if "decomposed" in form else program, tmp_path)
    assert isinstance(graph.inputs[0].shape[0], str)
    assert_same(graph, module, [x], rtol=1e-3, atol=2e-5)
    if (
        form != "open batch"
        and isinstance(graph.inputs[0].shape[2], str)
        and name in ("mobilenet_v3_small", "lcnet_050")
    ):
        assert_same(graph, module, larger(graph, [x]), rtol=1e-3, atol=2e-5)
