"""Whole networks, on one thread and on all that the process may use, for one image and for eight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sepcore
from sepcore.bench.profile import input_shapes

FILES = ("mobilenet_v2.pth", "mobilenet_v3_small_samepad.onnx", "mcunet_320kb.onnx", "mobilenetv1_x0.25_leaky.onnx")
THREADS = pytest.mark.parametrize("threads", [1, None], ids=["one-thread", "all-threads"])
BATCHES = pytest.mark.parametrize("batch", [1, 8])


def measure(benchmark: Any, model: str, threads: int | None, batch: int) -> None:
    """Time calls of a model, from array to array."""
    net = sepcore.load(model, num_threads=threads)
    x = np.random.default_rng(0).standard_normal(input_shapes(net, batch, None)[0], np.float32)
    benchmark.extra_info["threads"] = net.num_threads
    benchmark(net, x)


@BATCHES
@THREADS
def test_digits(benchmark: Any, threads: int | None, batch: int) -> None:
    measure(benchmark, "digits", threads, batch)


@pytest.mark.data
@BATCHES
@THREADS
@pytest.mark.parametrize("name", FILES)
def test_real_network(benchmark: Any, data_dir: Path, name: str, threads: int | None, batch: int) -> None:
    measure(benchmark, str(data_dir / "weights" / name), threads, batch)
