"""Writes the networks of README's table for all runtimes that PyTorch can export to: make_models.py FOLDER [NAME...].

Needs torch, torchvision, timm, onnx and, for ncnn, pnnx. Weights are random, seeded, with BatchNorm's averages taken
from random pictures, so that activations have the sizes of a trained network's. LiteRT's files (NAME.tflite) come from
its own converters; put them into the folder if LiteRT shall take part.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAMES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "mnasnet1_0", "efficientnet_b0",
         "mobilenetv4_conv_small")  # fmt: skip
_TIMM = {"mobilenet_v1": "mobilenetv1_100", "mobilenetv4_conv_small": "mobilenetv4_conv_small"}


def network(name: str) -> Any:
    """The network in evaluation mode."""
    import torch

    torch.manual_seed(0)
    if name in _TIMM:
        import timm

        net = timm.create_model(_TIMM[name], pretrained=False)
    else:
        from torchvision import models

        net = getattr(models, name)(weights=None)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.2)
        norm.momentum = 1.0
    for module in net.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0, module.in_features**-0.5)
        module.train(module in norms)
    with torch.no_grad():
        net(torch.randn(8, 3, 224, 224))
    return net.eval()


def export(name: str, folder: Path) -> None:
    """NAME.onnx and NAME.pt2 for any number of images, NAME.param and NAME.bin for one."""
    import torch

    net, one, two = network(name), torch.zeros(1, 3, 224, 224), torch.zeros(2, 3, 224, 224)
    axes = {"input": {0: "n"}, "output": {0: "n"}}
    torch.onnx.export(
        net, (one,), str(folder / f"{name}.onnx"), opset_version=17, dynamo=False, input_names=["input"],
        output_names=["output"], dynamic_axes=axes,
    )  # fmt: skip
    with torch.no_grad():
        program = torch.export.export(net, (two,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=1024)},))
    torch.export.save(program, folder / f"{name}.pt2")
    if find_spec("pnnx") is None:
        print(f"{name}: pnnx is not installed, so ncnn has no file")
        return
    import pnnx

    work = folder / f"{name}.pnnx"
    work.mkdir(exist_ok=True)
    pnnx.export(net, str((work / "net.pt").resolve()), inputs=one, fp16=False)
    for suffix in ("param", "bin"):
        os.replace(work / f"net.ncnn.{suffix}", folder / f"{name}.{suffix}")
    for leftover in work.iterdir():
        leftover.unlink()
    work.rmdir()


def main() -> None:
    """What the command line says."""
    warnings.filterwarnings("ignore")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or NAMES:
        export(name, folder)
        print(name, flush=True)


if __name__ == "__main__":
    main()
