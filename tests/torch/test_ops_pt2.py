"""A PyTorch library's own operator, exported by PyTorch, runs as the function that is registered for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sepcore
from sepcore import ops
from sepcore.errors import UnsupportedModelError

pytestmark = pytest.mark.torch


@torch.library.custom_op("sepcore_test::bent", mutates_args=(), schema="(Tensor x, float slope=0.5) -> Tensor")
def bent_in_torch(x: Any, slope: float = 0.5) -> Any:
    return torch.where(x < 0, slope * x, torch.tanh(torch.exp(x)))


@bent_in_torch.register_fake
def _(x: Any, slope: float = 0.5) -> Any:
    return torch.empty_like(x)


def bent(x: Any, slope: float = 0.5) -> Any:
    return slope * x if x < 0 else math.tanh(math.exp(x))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 20, 3, 2, 1)

    def forward(self, x: Any) -> Any:
        y = torch.ops.sepcore_test.bent(self.conv(x))
        return torch.ops.sepcore_test.bent(y, 0.125)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 3, 12, 12),)), tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


@pytest.fixture
def registered() -> Iterator[None]:
    sepcore.op("sepcore_test::bent")(bent)
    yield
    ops.remove("bent")


def test_it_gives_what_pytorch_gives(path: Path, registered: None) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 12, 12)).astype(np.float32)
    torch.manual_seed(0)
    with torch.inference_mode():
        expected = Net().eval()(torch.from_numpy(x)).numpy()
    net = sepcore.load(path)
    np.testing.assert_allclose(net(x), expected, rtol=1e-5, atol=1e-6)
    assert any(step.epilogue for step in net.program(x.shape).steps)


def test_it_is_refused_where_nothing_is_registered(path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r'@sepcore.op\("sepcore_test::bent.default"\)'):
        sepcore.load(path)
