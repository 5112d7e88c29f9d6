"""Whole networks with PyTorch's logits: the passes must leave nothing but kernels' work, and the same logits."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sepcore.formats.checkpoint import Checkpoint
from sepcore.ir.infer import specialise
from sepcore.ir.reference import run_reference
from sepcore.models import recognise
from sepcore.passes import run_passes, run_shape_passes

pytestmark = pytest.mark.data

NETWORKS = {
    "tv__mobilenet_v2": {"conv2d": 52, "reduce_mean": 1, "linear": 1},
    "tv__mobilenet_v3_large": {"conv2d": 62, "reduce_mean": 9, "mul": 8, "linear": 2},
    "timm__mobilenetv3_small_100": {"conv2d": 53, "reduce_mean": 10, "mul": 9, "reshape": 1, "linear": 1},
    "tv__efficientnet_b0": {"conv2d": 81, "reduce_mean": 17, "mul": 16, "linear": 1},
    "tv__shufflenet_v2_x1_0": {
        "conv2d": 56,
        "max_pool2d": 1,
        "split": 13,
        "concat": 16,
        "channel_shuffle": 16,
        "reduce_mean": 1,
        "linear": 1,
    },
    "timm__efficientnet_lite0": {"conv2d": 49, "reduce_mean": 1, "linear": 1},
}
"""What is left of a network; squeeze-excite stays pooling, two 1x1 convolutions and a product."""


@pytest.fixture(scope="session")
def golden(data_dir: Path) -> ModuleType:
    """The functions that rebuild the golden networks."""
    spec = importlib.util.spec_from_file_location("golden_state_dict", data_dir / "golden" / "state_dict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NETWORKS)
def test_fused_networks_give_pytorchs_logits(name: str, data_dir: Path, golden: ModuleType) -> None:
    path = str(data_dir / "golden" / f"{name}.npz")
    graph = recognise(Checkpoint(path, "golden", golden.state_dict(path), {})).graph
    (declared,) = graph.inputs
    x, expected = golden.inputs(path)[1], golden.logits(path)[1]
    fused = run_shape_passes(
        specialise(run_passes(graph, verify=True), {declared.name: x.shape}),
        verify=True,
    )
    assert Counter(node.op for node in fused.nodes) == NETWORKS[name]
    (found,) = run_reference(fused, {declared.name: x})
    assert np.abs(found - expected).max() < 1e-4 * expected.std()
