"""Runs shared by Numba's threads: the pool's bits, on every threading layer, and errors where a layer would abort."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import small_graph

from sepcore.errors import OptionError, ThreadingError
from sepcore.options import SessionOptions
from sepcore.runtime import prange
from sepcore.runtime.session import Session

ROOT = Path(__file__).parents[1]

# What every layer is asked in a process of its own, since a process has one layer for its life.
_START = """
import os, sys, threading, time
import numpy as np
from networks import small_graph
from sepcore.errors import ThreadingError
from sepcore.options import SessionOptions
from sepcore.runtime.session import Session
def fail(raised):
    sys.__excepthook__(*raised[:3])
    os._exit(1)
threading.excepthook = fail
graph = small_graph()
pool = Session(graph, SessionOptions(num_threads=2))
x = np.random.default_rng(0).standard_normal((5, 3, 40, 36)).astype(np.float32)
expected = pool(x)
def same_bits(threads):
    session = Session(graph, SessionOptions(num_threads=threads, threading="prange"))
    for _ in range(10):
        np.testing.assert_array_equal(session(x), expected)
        np.testing.assert_array_equal(session(x[1:2]), expected[1:2])
    return session
try:
    session = same_bits(2)
except ThreadingError as error:
    print("no layer", error)
    sys.exit()
"""


def run(layer: str, code: str, **variables: str) -> str:
    """Run the code in a process on ``layer``; what it printed."""
    found = subprocess.run(
        [sys.executable, "-c", _START + code],
        env=os.environ | variables | {"NUMBA_THREADING_LAYER": layer, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/tests"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    if found.stdout.startswith("no layer"):
        pytest.skip(f"Numba has no layer {layer} here: {found.stdout.strip()}")
    return found.stdout


def random(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_same_bits_as_the_pool_for_any_batch_and_threads() -> None:
    x = random(5, 3, 40, 36)
    expected = Session(small_graph(), SessionOptions(num_threads=1))(x)
    for threads in (1, 2, 3):
        session = Session(small_graph(), SessionOptions(num_threads=threads, threading="prange"))
        for _ in range(10):
            np.testing.assert_array_equal(session(x), expected)
            np.testing.assert_array_equal(session(x[:1]), expected[:1])


def test_workqueue_refuses_a_second_caller() -> None:
    said = run(
        "workqueue",
        """
assert session._pool.layer == "workqueue"
found, wrong, until = [], [], time.monotonic() + 60
def work():
    while not (found or wrong) and time.monotonic() < until:
        try:
            if not np.array_equal(session(x), expected):
                wrong.append(True)
        except ThreadingError as error:
            found.append(str(error))
callers = [threading.Thread(target=work) for _ in range(4)]
for caller in callers: caller.start()
for caller in callers: caller.join()
assert not wrong
same_bits(3)
print(found[0])
""",
    )
    assert "'workqueue' bears one caller at a time" in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_omp_refuses_to_run_after_a_fork() -> None:
    said = run(
        "omp",
        """
assert session._pool.layer == "omp"
child = os.fork()
if child == 0:
    errors = 0
    for threads in (2, 3):
        try:
            same_bits(threads)
        except ThreadingError as error:
            assert "'omp' was used before this process was forked" in str(error)
            errors += 1
    fine = np.array_equal(pool(x), expected) and np.array_equal(
        Session(graph, SessionOptions(1, threading="prange"))(x), expected)
    os._exit(10 * errors + fine)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
same_bits(2)
callers = [threading.Thread(target=same_bits, args=(2,)) for _ in range(4)]
for caller in callers: caller.start()
for caller in callers: caller.join()
""",
    )
    assert said.strip() == "21"


def test_fewer_threads_than_asked_for_end_a_run() -> None:
    assert run("default", "same_bits(4); print('ended')", NUMBA_NUM_THREADS="1").strip() == "ended"


def test_a_numba_without_layers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    def none() -> str:
        raise ValueError("No threading layer could be loaded.")

    monkeypatch.setattr(numba, "threading_layer", none)
    monkeypatch.setattr(prange, "_shared", [])
    with pytest.raises(ThreadingError, match="expected a threading layer of Numba, found none: No threading layer"):
        Session(small_graph(), SessionOptions(num_threads=2, threading="prange"))


def test_an_unknown_kind_of_threads() -> None:
    with pytest.raises(OptionError, match="threading: expected one of pool, prange, found 'tbb'"):
        SessionOptions(threading="tbb")
