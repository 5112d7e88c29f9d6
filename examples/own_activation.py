"""An activation that sepcore does not have: TanhExp (Liu and Di, 2021), written in Python, run by the kernels.

    python examples/own_activation.py [IMAGE...]        a state dict with its activation replaced
    python examples/own_activation.py --onnx            an operator of one's own domain in an ONNX file (needs onnx)
    python examples/own_activation.py --pt2             a custom operator in a torch.export file (needs PyTorch)

The function must be registered before a network that uses it is opened; it is compiled at the first run, and kept.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import sepcore

DIGITS = Path(__file__).parent / "digits"


@sepcore.op("own::tanh_exp")
def tanh_exp(x: Any) -> Any:
    """x tanh(exp(x)), for one number: kernels call it on what they have just computed."""
    return x * math.tanh(math.exp(x))


def state_dict(pictures: list[str]) -> None:
    """As for a network that was trained with TanhExp; this one was trained with ReLU6, and is less sure of itself."""
    net = sepcore.load("digits", activation="tanh_exp")
    for picture in pictures or sorted(map(str, DIGITS.glob("*.png"))):
        print(picture, net.classify(picture, k=1)[0])


def onnx_file(path: Path) -> None:
    """A file with the operator ``own::tanh_exp``."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("tanh_exp", ["x"], ["y"], domain="own")]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 8, 8]) for name in "xy")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "net", [x], [y]), opset_imports=opsets), str(path))


def pt2_file(path: Path) -> None:
    """A file with the operator ``torch.ops.own.tanh_exp``, which PyTorch knows by its shape alone."""
    import torch

    @torch.library.custom_op("own::tanh_exp", mutates_args=(), schema="(Tensor x) -> Tensor")
    def of_torch(x: Any) -> Any:
        return x * torch.tanh(torch.exp(x))

    @of_torch.register_fake
    def _(x: Any) -> Any:
        return torch.empty_like(x)

    class Net(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.ops.own.tanh_exp(x)

    torch.export.save(torch.export.export(Net(), (torch.zeros(1, 3, 8, 8),)), path)


def run(path: Path) -> None:
    """Open the file and hold its output against numpy's."""
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    made, wide = sepcore.load(path)(x), x.astype(np.float64)
    print(f"{path.name}: at most {np.abs(made - wide * np.tanh(np.exp(wide))).max():.1e} from numpy")


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if "--onnx" in arguments:
            onnx_file(Path(folder, "own.onnx"))
            run(Path(folder, "own.onnx"))
        elif "--pt2" in arguments:
            pt2_file(Path(folder, "own.pt2"))
            run(Path(folder, "own.pt2"))
        else:
            state_dict(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
