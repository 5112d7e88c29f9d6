"""Depthwise + pointwise layers, and the dense convolutions that they replace, over MobileNetV1's shapes."""

from __future__ import annotations

from typing import Any

import pytest

from sepcore.bench.separable import SHAPES, Shape, layer_calls


@pytest.mark.parametrize("dense", [False, True], ids=["separable", "dense"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layers(benchmark: Any, shape: Shape, dense: bool) -> None:
    calls, steps = layer_calls(shape, dense, threads=1)
    benchmark.extra_info["macs"] = sum(step.macs for step in calls.program.steps)

    def run() -> None:
        for step in steps:
            step()

    benchmark(run)
