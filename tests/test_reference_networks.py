"""What is promised of the reference networks: the same bits however they are called, and no CPU used when idle."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from sepcore.bench.networks import NETWORKS
from sepcore.options import SessionOptions
from sepcore.runtime.session import Session


def random(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_for_any_batch_threads_driver_and_run(name: str) -> None:
    graph, x = NETWORKS[name](), random(3, 3, 224, 224)
    alone = Session(graph, SessionOptions(1))
    expected = np.concatenate([alone(image[None]) for image in x])
    assert expected.std() > 0 and np.isfinite(expected).all()
    assert len({row.tobytes() for row in expected}) == 3
    np.testing.assert_array_equal(alone(x), expected)
    for options in (SessionOptions(2), SessionOptions(3), SessionOptions(2, threading="prange")):
        session = Session(graph, options)
        for _ in range(2):
            np.testing.assert_array_equal(session(x), expected)
            np.testing.assert_array_equal(session(x[1:2]), expected[1:2])


def test_eight_threads_on_one_session_get_the_bits_of_single_calls() -> None:
    session = Session(NETWORKS["mobilenet_v3_small"](), SessionOptions(2))
    x = random(8, 3, 224, 224)
    expected = [session(image[None]) for image in x]
    same = [0] * 8

    def call(i: int) -> None:
        for _ in range(20):
            same[i] += np.array_equal(session(x[i : i + 1]), expected[i])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [20] * 8


def test_an_idle_session_uses_no_cpu() -> None:
    session = Session(NETWORKS["mobilenet_v3_small"](), SessionOptions(2))
    x = random(1, 3, 224, 224)
    for _ in range(20):
        session(x)
    time.sleep(1)
    before = time.process_time()
    time.sleep(1)
    assert time.process_time() - before < 0.005  # half a per cent of a second, of all threads
