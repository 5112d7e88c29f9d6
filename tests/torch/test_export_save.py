"""What ``sepcore.export.save`` writes is what sepcore reads, and the module is as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import assert_same
from torch import nn

import sepcore
from sepcore import export
from sepcore.errors import OptionError, UnsupportedModelError
from sepcore.formats.sep import read_sep
from sepcore.formats.torch_export import read_pt2
from sepcore.image.preprocess import Preprocess
from sepcore.ir.reference import run_reference

pytestmark = pytest.mark.torch


def module() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5)
    )
    return nn.Sequential(layers, nn.Linear(8, 4))


def test_a_pt2_file(tmp_path: Path) -> None:
    net = module()
    net[0][1].eval()
    modes = [layer.training for layer in net.modules()]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    export.save(net, torch.randn(1, 3, 16, 12), tmp_path / "net.pt2")
    assert [layer.training for layer in net.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]
    graph = read_pt2(tmp_path / "net.pt2")
    assert isinstance(graph.inputs[0].shape[0], str) and graph.inputs[0].shape[1:] == (3, 16, 12)
    assert_same(graph, net.eval(), [torch.randn(5, 3, 16, 12)])


def test_a_sep_file(tmp_path: Path) -> None:
    net = module()
    preprocess = Preprocess((16, 12), 20, mean=(0.5, 0.5, 0.5))
    labels = ["ant", "bee", "cat", "dog"]
    export.save(net, torch.randn(2, 3, 16, 12), tmp_path / "net.sep", labels=labels, preprocess=preprocess)
    packed = read_sep(tmp_path / "net.sep")
    assert (list(packed.labels or ()), packed.preprocess) == (labels, preprocess)
    x = torch.randn(3, 3, 16, 12)
    (found,) = run_reference(packed.graph, {"input": x.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(found, net.eval()(x).numpy(), rtol=1e-5, atol=1e-6)


def test_open_maps_and_several_inputs(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b.mean((2, 3), keepdim=True)

    auto = torch.export.Dim.AUTO
    inputs = (torch.randn(2, 3, 8, 8), torch.randn(2, 3, 6, 6))
    shapes = ({0: auto, 2: auto, 3: auto}, {0: auto})
    export.save(Sum(), inputs, tmp_path / "net.pt2", dynamic_shapes=shapes)
    graph = read_pt2(tmp_path / "net.pt2")
    assert_same(graph, Sum(), [torch.randn(4, 3, 5, 9), torch.randn(4, 3, 6, 6)])


def test_what_cannot_run_is_refused_at_once_and_leaves_no_file(tmp_path: Path) -> None:
    class Digamma(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.digamma(x)

    with pytest.raises(
        UnsupportedModelError, match=r"aten.digamma.default .*test_export_save.py:\d+ in forward: return torch.digamma"
    ):
        export.save(Digamma(), torch.randn(2, 3), tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", export.SUFFIXES)
def test_what_no_kernel_runs_is_refused_under_the_modules_name(suffix: str, tmp_path: Path) -> None:
    class Choice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 0, x, torch.sin(x))

    with pytest.raises(UnsupportedModelError, match=r"^Choice cannot be run") as caught:
        export.save(Choice(), torch.randn(2, 3), tmp_path / f"net{suffix}")
    assert len(caught.value.problems) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "net.onnx"}, "path: expected a name ending in .pt2 or .sep, found 'net.onnx'"),
        ({"path": "none/net.pt2"}, "path: expected a folder none, found none"),
        ({"module": len}, "module: expected a torch.nn.Module, found a builtin_function_or_method"),
        ({"example_input": [1, 2]}, "example_input: expected a tensor or several, found a list"),
        ({"labels": ["a"]}, "labels, preprocess: expected none for a .pt2 file"),
    ],
)
def test_arguments(arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"module": module(), "example_input": torch.randn(2, 3, 16, 16), "path": "net.pt2", **arguments}
    with pytest.raises(OptionError) as caught:
        export.save(**given)
    assert message in str(caught.value)


def test_a_session_runs_it(tmp_path: Path) -> None:
    net = module().eval()
    export.save(net, torch.randn(2, 3, 16, 16), tmp_path / "net.sep")
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        expected = net(x).numpy()
    np.testing.assert_allclose(sepcore.load(tmp_path / "net.sep")(x.numpy()), expected, rtol=1e-4, atol=1e-5)
