"""``sepcore verify --torch``: a file against PyTorch's own run, and errors that are planted on one side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from sepcore import export
from sepcore.cli import main
from sepcore.errors import OptionError, SepcoreError
from sepcore.export import in_torch
from sepcore.verification import verify_file

pytestmark = pytest.mark.torch

SIZE = 64


def state_dict(path: Path) -> nn.Module:
    torch.manual_seed(0)
    module = torchvision.models.mobilenet_v3_small(num_classes=5).eval()
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
    return module


def test_a_state_dict_against_the_network_of_its_name(tmp_path: Path) -> None:
    state_dict(tmp_path / "net.safetensors")
    verdict = verify_file(tmp_path / "net.safetensors", in_torch(), input_size=SIZE)
    assert verdict.equal and verdict.first is None
    assert {"features.0.2", "features.1.block.0.2", "avgpool"} <= {layer.reference_name for layer in verdict.layers}
    assert len(verdict.layers) > len(verdict.unmatched) > 0


def test_the_first_layer_that_differs(tmp_path: Path) -> None:
    module = state_dict(tmp_path / "net.safetensors")
    state = module.state_dict()
    state["features.4.block.0.1.bias"] += 0.5
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "changed.safetensors")
    (tmp_path / "made.py").write_text(
        "import torch, torchvision, safetensors.torch\n"
        "class Stubborn(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        net = torchvision.models.mobilenet_v3_small(num_classes=5)\n"
        "        self.features, self.classifier = net.features, net.classifier\n"
        f"        net.load_state_dict(safetensors.torch.load_file({str(tmp_path / 'net.safetensors')!r}))\n"
        "    def load_state_dict(self, state):\n"
        "        pass\n"
        "    def forward(self, x):\n"
        "        return self.classifier(self.features(x).mean((2, 3)))\n"
        "def make():\n"
        "    return Stubborn()\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        verdict = verify_file("changed.safetensors", in_torch("made:make"), input_size=SIZE)
    sys.modules.pop("made")
    assert not verdict.equal
    assert verdict.first is not None and "features.4.block.0" in verdict.first.reference_name


def test_a_program_against_itself_and_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = state_dict(tmp_path / "net.safetensors")
    path = tmp_path / "net.pt2"
    export.save(module, torch.randn(2, 3, SIZE, SIZE), path)
    assert main(["verify", str(path), "--torch"]) == 0
    out = capsys.readouterr().out
    assert "\nequal: " in out and "hardswish" in out
    assert main(["verify", str(path), "--torch", "--tolerance", "1e-12"]) == 1
    assert "DIFFERENT: first layer that differs: " in capsys.readouterr().out
    assert main(["verify", str(path), "--torch", "--against", str(path)]) == 2


def test_what_cannot_be_run_in_pytorch_is_said(tmp_path: Path) -> None:
    module = state_dict(tmp_path / "net.safetensors")
    export.save(module, torch.randn(2, 3, SIZE, SIZE), tmp_path / "net.sep")
    with pytest.raises(OptionError, match=r"net.sep is of format sepcore"):
        verify_file(tmp_path / "net.sep", in_torch())
    for factory in ("nothing.here:make", "torch", "torch:nothing", ":"):
        with pytest.raises(OptionError, match=r"expected package.module:function"):
            verify_file(tmp_path / "net.safetensors", in_torch(factory))
    with pytest.raises(OptionError, match=r"expected a torch.nn.Module, found a OrderedDict"):
        verify_file(tmp_path / "net.safetensors", in_torch("collections:OrderedDict"))
    with pytest.raises(SepcoreError, match=r"PyTorch: Error.*\n.*Missing key"):
        verify_file(tmp_path / "net.safetensors", in_torch("torchvision.models:mobilenet_v2"))
