"""The thread pool across fork, spawn and the end of the interpreter."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_programs import Layers

from sepcore.kernels import isa as isas
from sepcore.kernels.runtime import layout
from sepcore.runtime.native import native_functions, pool_for
from sepcore.runtime.pool import Pool

# Python 3.12 and later warn of any fork beside threads; that it is safe is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(native_functions(isas.chosen()))


def _check(pool: Pool, threads: int, runs: int = 200) -> None:
    toy = Layers(40, 6, threads=threads)
    for run in range(runs):
        expected = toy.set_input(run)
        pool.run(toy.request, threads)
        np.testing.assert_array_equal(toy.output, expected)
    assert pool.workers >= threads - 1


def _forked(body: Callable[[], None]) -> None:
    """Run ``body`` in a forked child; fails where it does, or where it hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


def test_fork_before_first_use(pool: Pool) -> None:
    _forked(lambda: _check(pool, 3))


def test_fork_after_use_and_again_in_the_child(pool: Pool) -> None:
    def child() -> None:
        assert pool.workers == 0
        _check(pool, 2)
        _forked(lambda: _check(pool, 4))
        _check(pool, 3)

    _check(pool, 3)
    _forked(child)
    _check(pool, 3)


def test_fork_while_other_threads_are_in_runs(pool: Pool) -> None:
    stop = threading.Event()
    wrong: list[BaseException] = []

    def call() -> None:
        try:
            while not stop.is_set():
                _check(pool, 2, runs=5)
        except BaseException as error:
            wrong.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(10):
            _forked(lambda: _check(pool, 2, runs=20))
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert wrong == []


def test_a_child_does_not_inherit_a_busy_pool(pool: Pool) -> None:
    _check(pool, 2)
    for word in (layout.BUSY, layout.CALLS, layout.REST):
        pool._words[word] = 1

    def child() -> None:
        toy = Layers(3, 2, threads=2)
        pool.run(toy.request, 2)
        assert pool._pool_run(pool._block, toy.request) == 1

    try:
        _forked(child)
    finally:
        for word in (layout.BUSY, layout.CALLS, layout.REST):
            pool._words[word] = 0


def _spawned(threads: int) -> int:
    pool = pool_for(isas.chosen())
    assert pool is pool_for(isas.chosen())
    _check(pool, threads, runs=50)
    return pool.workers


def test_spawn() -> None:
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        assert processes.map(_spawned, [2, 3]) in ([1, 2], [2, 2], [1, 1])


_EXIT = """
import atexit, sys, threading
sys.path.insert(0, {tests!r})
from toy_programs import Layers
from sepcore.kernels import isa as isas
from sepcore.runtime.native import pool_for

def call(runs):
    toy = Layers(40, 6, threads=3)
    while runs:
        expected = toy.set_input(abs(runs))
        pool.run(toy.request, 3)
        assert (toy.output == expected).all()
        runs -= 1

def last():
    call(20)
    print(pool.workers)

atexit.register(last)  # runs after the pool has closed: the first registered is the last called
pool = pool_for(isas.chosen())
call(20)
threading.Thread(target=call, args=(-1,), daemon=True).start()
call(200)
print("done")
"""


def test_the_interpreter_ends_beside_runs() -> None:
    script = _EXIT.format(tests=str(Path(__file__).parent))
    for _ in range(3):
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert (found.returncode, found.stdout, found.stderr) == (0, "done\n0\n", "")
