"""Runs one engine in a process of its own, pinned to CPUs, and times its calls when asked; it decides nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the other process imports nothing that counts CPUs before it is bound to its own
    import numpy as np
    from numpy.typing import NDArray

    from sepcore.bench.measure import Round

_FIRST_RUNS = 10  # untimed, after loading,
_FIRST_SECONDS = 2.0  # as long as they take no longer
_UNTIMED = 3  # calls at the start of each round, which bring the caches back
_REST_SECONDS = 0.02  # after a round: some runtimes' threads spin for a while, and would disturb the next one's
_LOAD_SECONDS, _ROUND_SECONDS = 120.0, 60.0  # until an engine counts as hung; on top of what a round may take
_END_SECONDS = 5.0


class EngineFailed(Exception):
    """An engine could not be loaded or run; the message is its reason."""


class Worker:
    """An engine in another process, which begins to load; several may do so at a time.

    Attributes
    ----------
    precision, version : what the engine says of itself, after ``wait``.
    output : what it gives for the input that every engine is timed with, after ``wait``.
    waits : of each round, how long the engine's threads waited for a CPU, as a share of the round: what other work
        took from it. 0 where the system does not tell.
    """

    precision: str
    version: str
    output: NDArray[np.float32]

    def __init__(self, engine: str, path: str, threads: int, shape: tuple[int, ...]) -> None:
        self.waits: list[float] = []
        # A fresh process: neither threads nor modules of this one are in it.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, engine, path, threads, shape), daemon=True)
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        """Return when the engine is loaded and warmed.

        Raises
        ------
        EngineFailed : it cannot load the file or run it with this input, or takes more than two minutes for it.
        """
        try:
            self.precision, self.version, self.output = self._answer(_LOAD_SECONDS)
        except EngineFailed:
            self.close()
            raise

    def round(self, order: Round) -> list[int]:
        """Nanoseconds of each of ``order.runs`` calls, or of fewer where ``order.seconds`` are over before.

        Raises
        ------
        EngineFailed : a call failed, the process ended, or it hangs.
        """
        try:
            self._connection.send(order)
        except OSError as error:
            raise EngineFailed("its process ended") from error
        times: list[int]
        times, waited = self._answer(_ROUND_SECONDS + 2 * order.seconds + order.runs * order.pause)
        self.waits.append(waited)
        time.sleep(_REST_SECONDS)
        return times

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _answer(self, seconds: float) -> Any:
        try:
            if not self._connection.poll(seconds):
                self._process.kill()  # it would not see that the connection ends
                raise EngineFailed(f"no answer within {seconds:.0f} seconds")
            fine, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise EngineFailed("its process ended") from error
        if not fine:
            raise EngineFailed(answer)
        return answer


def serve(connection: Connection, engine: str, path: str, threads: int, shape: tuple[int, ...]) -> None:
    """The other process: load, then answer each number of runs with their times, until the connection ends."""
    # Before the runtime is imported: its threads inherit the CPUs, and count them.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.dup2(2, 1)  # what a runtime prints is not part of the report
    try:
        run, said = _loaded(engine, path, threads, shape)
        connection.send((True, said))
        while True:
            order = connection.recv()
            start, waited = time.perf_counter_ns(), _waited_ns()
            times = _timed(run, order)
            waited, elapsed = _waited_ns() - waited, time.perf_counter_ns() - start
            connection.send((True, (times, waited / elapsed)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        # Whatever a runtime raises is its reason not to be in the report.
        connection.send((False, f"{type(error).__name__}: {error}"))


def _waited_ns() -> int:
    """Nanoseconds that this process's threads were ready to run and had no CPU, as Linux counts them."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # a thread that has just ended
            total += int(path.read_text("ascii").split()[1])
    return total


def _loaded(engine: str, path: str, threads: int, shape: tuple[int, ...]) -> tuple[Any, tuple[str, str, Any]]:
    """A call without arguments, and the engine's precision, version and output."""
    from functools import partial
    from importlib.metadata import PackageNotFoundError, version

    import numpy as np

    from sepcore.bench.engines import ENGINES

    kind = ENGINES[engine]
    loaded = kind(path, threads, shape)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    run = partial(loaded.run, loaded.prepare(x))
    output = loaded.array(run())
    until = time.perf_counter() + _FIRST_SECONDS
    for _ in range(_FIRST_RUNS):
        if time.perf_counter() < until:
            run()
    try:
        release = version(kind.distribution)
    except PackageNotFoundError:
        release = "from a checkout"
    return run, (loaded.precision, release, output)


def _timed(run: Any, order: Round) -> list[int]:
    clock = time.perf_counter_ns
    until = clock() + int(1e9 * order.seconds)
    for _ in range(_UNTIMED):
        run()
        if clock() > until:
            break
    times: list[int] = []
    until = clock() + int(1e9 * order.seconds)
    while len(times) < order.runs and (clock() < until or not times):
        if order.pause:
            time.sleep(order.pause)
            until += int(1e9 * order.pause)
        start = clock()
        output = run()
        times.append(clock() - start)
        del output  # freed between the timed calls
    return times
