"""Runs one engine in a process of its own, pinned to CPUs, and times its calls when asked; it decides nothing."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Any

_FIRST_RUNS = 10  # untimed, after loading
_UNTIMED = 3  # calls at the start of each round, which bring the caches back
_PATIENCE = 5.0  # seconds to wait for a worker's end


class EngineFailed(Exception):
    """An engine could not be loaded or run; the message is its reason."""


class Worker:
    """An engine in another process: loaded and warmed when this returns.

    Raises
    ------
    EngineFailed : it cannot load the file or run it with this input.
    """

    def __init__(self, engine: str, path: str, threads: int, shape: tuple[int, ...]) -> None:
        # A fresh process: neither threads nor modules of this one are in it.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, engine, path, threads, shape), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.precision, self.version = self._answer()
        except EngineFailed:
            self.close()
            raise

    def round(self, runs: int) -> list[int]:
        """Nanoseconds of each of ``runs`` calls.

        Raises
        ------
        EngineFailed : a call failed, or the process ended.
        """
        try:
            self._connection.send(runs)
        except OSError as error:
            raise EngineFailed("its process ended") from error
        times: list[int] = self._answer()
        return times

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _answer(self) -> Any:
        try:
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
            connection.send((True, _timed(run, connection.recv())))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        # Whatever a runtime raises is its reason not to be in the report.
        connection.send((False, f"{type(error).__name__}: {error}"))


def _loaded(engine: str, path: str, threads: int, shape: tuple[int, ...]) -> tuple[Any, tuple[str, str]]:
    """A call without arguments, and the engine's precision and version."""
    from functools import partial
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError, version

    import numpy as np

    from sepcore.bench.engines import ENGINES

    kind = ENGINES[engine]
    loaded = kind(path, threads, shape)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    run = partial(loaded.run, loaded.prepare(x))
    for _ in range(_FIRST_RUNS):
        run()
    try:
        release = version(kind.distribution)
    except PackageNotFoundError:  # run from a checkout
        release = str(import_module(kind.package).__version__)
    return run, (loaded.precision, release)


def _timed(run: Any, runs: int) -> list[int]:
    clock = time.perf_counter_ns
    for _ in range(_UNTIMED):
        run()
    times = []
    for _ in range(runs):
        start = clock()
        output = run()
        times.append(clock() - start)
        del output  # freed between the timed calls
    return times
