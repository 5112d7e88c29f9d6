"""Golden networks as checkpoints, and a small network for tests without data."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sepcore.formats.checkpoint import Checkpoint
from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.models import recognise
from sepcore.passes import run_passes

DIGITS = Path(__file__).parents[1] / "sepcore" / "data" / "digits.pth"


def golden(data_dir: Path) -> ModuleType:
    """The module that rebuilds golden state dicts, inputs and logits from their recipes."""
    spec = importlib.util.spec_from_file_location("golden_recipes", data_dir / "golden" / "state_dict.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden_graph(data_dir: Path, name: str) -> tuple[Graph, list[Any], list[Any]]:
    """Graph, inputs and PyTorch's logits of a golden network."""
    recipes, path = golden(data_dir), str(data_dir / "golden" / f"{name}.npz")
    found = recognise(Checkpoint(path, "golden", recipes.state_dict(path), {}))
    return run_passes(found.graph, verify=True), recipes.inputs(path), recipes.logits(path)


def small_graph(classes: int = 7, seed: int = 0) -> Graph:
    """Every block type at awkward widths: stem, depthwise, pointwise with residual, squeeze-excite, pool, linear."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("small")

    def conv(x: str, ic: int, oc: int, size: int, stride: int = 1, groups: int = 1, act: Any = None) -> str:
        weight = rng.standard_normal((oc, ic // groups, size, size)) * np.sqrt(2 / (ic // groups * size * size))
        inputs = [x, b.constant("w", weight.astype(np.float32)), b.constant("b", rng.standard_normal(oc).astype("f4"))]
        pad = size // 2
        return b.add(
            "conv2d", inputs, strides=(stride, stride), padding=(pad, pad, pad, pad), dilation=(1, 1), groups=groups,
            activation=act,
        )  # fmt: skip

    x = b.input("input", ("n", 3, "h", "w"))
    y = conv(x, 3, 20, 3, 2, act=("hardswish",))
    z = conv(conv(y, 20, 20, 3, 1, 20, ("relu",)), 20, 20, 1)
    y = b.add("add", [y, z])
    y = conv(conv(y, 20, 40, 1, act=("clamp", 0.0, 6.0)), 40, 40, 5, 2, 40, ("silu",))
    s = b.add("reduce_mean", [y], axes=(2, 3), keepdims=True)
    s = conv(conv(s, 40, 10, 1, act=("relu",)), 10, 40, 1, act=("hardsigmoid",))
    y = conv(b.add("mul", [y, s]), 40, 24, 3, 1, act=("leaky_relu", 0.1))
    y = b.add("reduce_mean", [y], axes=(2, 3), keepdims=False)
    weight = b.constant("fc.w", rng.standard_normal((classes, 24)).astype(np.float32))
    y = b.add(
        "linear", [y, weight, b.constant("fc.b", rng.standard_normal(classes).astype(np.float32))], activation=None
    )
    return run_passes(b.build([y]), verify=True)
