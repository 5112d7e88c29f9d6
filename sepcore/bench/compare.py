"""Times a network in sepcore and in other runtimes, by turns; it must not know how a runtime is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from sepcore.bench.engines import ENGINES, PEERS, Sepcore
from sepcore.bench.measure import Timed, Times, take_turns
from sepcore.bench.worker import EngineFailed, Worker
from sepcore.errors import OptionError


class Loaded(Timed, Protocol):
    """A runtime that has loaded the network: see ``sepcore.bench.worker.Worker``."""

    precision: str
    version: str

    def close(self) -> None:
        """Give everything back."""


Start = Callable[[str, str, int, tuple[int, ...]], Loaded]
"""Load a file: engine, path, threads, input shape; raises EngineFailed."""


@dataclass(frozen=True)
class Entry:
    """One engine's times for one number of threads and images.

    Attributes
    ----------
    times : of calls, in milliseconds.
    ratio : the median over the best median of this number of threads and images; 1 for the best.
    peak_share : of the measured multiply-add peak of all threads, by the multiply-adds of sepcore's program.
    """

    engine: str
    version: str
    precision: str
    threads: int
    batch: int
    times: Times
    images_per_second: float
    ratio: float
    peak_share: float


@dataclass(frozen=True)
class Skipped:
    """An engine that was not measured, and why."""

    engine: str
    threads: int
    batch: int
    reason: str


@dataclass(frozen=True)
class Comparison:
    """A network in several engines on this machine.

    Attributes
    ----------
    fma_gflops : measured peak of one thread.
    macs : multiply-adds for one image.
    """

    model: str
    isa: str
    fma_gflops: float
    macs: int
    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Case:
    """What is measured at a time: a number of threads and an input shape."""

    threads: int
    shape: tuple[int, ...]


def engine_files(model: str, peers: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The file each engine takes: the one given for it, else one of the model's stem; not all need exist.

    Raises
    ------
    OptionError : a peer is not known, or a file is given for one that does not take part.
    """
    for name in peers:
        if name not in PEERS:
            raise OptionError(f"against: expected some of {', '.join(PEERS)}, found {name!r}")
    for name in given:
        if name not in peers:
            raise OptionError(f"peer-file: expected one of {', '.join(peers) or 'no peers'}, found {name!r}")
    files = {name: given.get(name) or str(Path(model).with_suffix(PEERS[name].suffix)) for name in peers}
    return {Sepcore.name: model, **files}


def why_skipped(engine: str, path: str) -> str | None:
    """Why an engine cannot take part before anything is started, or None."""
    if engine == Sepcore.name:
        return None
    if find_spec(ENGINES[engine].package) is None:
        return f"not installed (pip install {ENGINES[engine].distribution})"
    if not Path(path).is_file():
        return f"no file {path}; name one with --peer-file {engine}=PATH"
    return None


def compare(
    files: Mapping[str, str], case: Case, macs: int, fma_gflops: float, runs: int, rounds: int, start: Start = Worker
) -> tuple[list[Entry], list[Skipped]]:
    """Time every engine that can take part, by turns; the others are named with their reasons.

    Parameters
    ----------
    files : engine -> its file.
    macs : multiply-adds for one image.
    runs, rounds : at least ``runs`` timed calls an engine, spread over rounds.
    """
    batch = case.shape[0]
    skipped: dict[str, str] = {}
    loaded: dict[str, Loaded] = {}
    try:
        for engine, path in files.items():
            reason = why_skipped(engine, path)
            try:
                if reason is None:
                    loaded[engine] = start(engine, path, case.threads, case.shape)
            except EngineFailed as error:
                reason = str(error)
            if reason is not None:
                skipped[engine] = reason
        found = take_turns({name: _Guarded(name, one, skipped) for name, one in loaded.items()}, runs, rounds)
    finally:
        for one in loaded.values():
            one.close()
    times = {name: Times.of(found[name]) for name in loaded if name not in skipped}
    best = min((t.median for t in times.values()), default=0.0)
    entries = [
        Entry(
            name,
            loaded[name].version,
            loaded[name].precision,
            case.threads,
            batch,
            t,
            batch * 1e3 / t.median,
            t.median / best,
            2 * macs * batch / (t.median * 1e6) / (fma_gflops * case.threads),
        )
        for name, t in times.items()
    ]
    return entries, [Skipped(name, case.threads, batch, reason) for name, reason in skipped.items()]


class _Guarded:
    """An engine whose failure in the middle is noted, and which then takes no further turns."""

    def __init__(self, name: str, engine: Timed, failures: dict[str, str]) -> None:
        self._name, self._engine, self._failures = name, engine, failures

    def round(self, runs: int) -> list[int]:
        if self._name in self._failures:
            return []
        try:
            return self._engine.round(runs)
        except EngineFailed as error:
            self._failures[self._name] = str(error)
            return []
