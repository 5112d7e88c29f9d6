"""Whole networks, on one thread and on all that the process may use, on either driver, for one image and for eight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sepcore
from sepcore.bench.networks import NETWORKS
from sepcore.bench.profile import input_shapes
from sepcore.ir.graph import GraphBuilder
from sepcore.options import SessionOptions
from sepcore.runtime.session import Session

FILES = ("mobilenet_v2.pth", "mobilenet_v3_small_samepad.onnx", "mcunet_320kb.onnx", "mobilenetv1_x0.25_leaky.onnx")
THREADS = pytest.mark.parametrize("threads", [1, None], ids=["one-thread", "all-threads"])
BATCHES = pytest.mark.parametrize("batch", [1, 8])


def measure(benchmark: Any, model: str, threads: int | None, batch: int) -> None:
    """Time calls of a model, from array to array."""
    net = sepcore.load(model, num_threads=threads)
    x = np.random.default_rng(0).standard_normal(input_shapes(net, batch, None)[0], np.float32)
    benchmark.extra_info["threads"] = net.num_threads
    benchmark(net, x)


def test_one_layer(benchmark: Any) -> None:
    """What a call costs beyond the network: one pointwise layer of eight pixels."""
    b = GraphBuilder("one_layer")
    weight = b.constant("weight", np.ones((8, 3, 1, 1), np.float32))
    y = b.add("conv2d", [b.input("input", ("n", 3, 2, 4)), weight], strides=(1, 1), padding=(0,) * 4, dilation=(1, 1),
              groups=1, activation=("relu",))  # fmt: skip
    benchmark(Session(b.build([y]), SessionOptions(1)), np.ones((1, 3, 2, 4), np.float32))


@pytest.mark.parametrize("threading", ["pool", "prange"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_reference_network(benchmark: Any, name: str, threads: int, threading: str) -> None:
    session = Session(NETWORKS[name](), SessionOptions(threads, threading=threading))
    benchmark(session, np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32))


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
