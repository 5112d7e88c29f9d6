"""Times a network in sepcore and in other runtimes, by turns; it must not know how a runtime is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepcore.api import load
from sepcore.bench.engines import ENGINES, OURS, PEERS, Sepcore
from sepcore.bench.limits import measure_peak
from sepcore.bench.measure import Round, Timed, Times, take_turns
from sepcore.bench.profile import input_shapes
from sepcore.bench.worker import EngineFailed, Worker
from sepcore.errors import OptionError
from sepcore.kernels import isa as isas

_MOST_WAITED = 0.04  # above this share of waiting times say more of the other work than of the engine


class Loaded(Timed, Protocol):
    """A runtime that has loaded the network: see ``sepcore.bench.worker.Worker``."""

    precision: str
    version: str
    output: NDArray[np.float32]
    waits: list[float]

    def wait(self) -> None:
        """Return when it is loaded; raises EngineFailed."""

    def close(self) -> None:
        """Give everything back."""


Start = Callable[[str, str, int, tuple[int, ...]], Loaded]
"""Begin to load a file: engine, path, threads, input shape."""


@dataclass(frozen=True)
class Entry:
    """One engine's times for one number of threads and images.

    Attributes
    ----------
    times : of calls, in milliseconds.
    ratio : the median over the best median of this number of threads and images; 1 for the best.
    peak_share : of the measured multiply-add peak of all threads, by the multiply-adds of sepcore's program.
    waited : share of the time that its threads waited for a CPU; above some hundredths other work disturbed it.
    same_weights : whether its output for one input is sepcore's, within a hundredth of that's standard deviation.
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
    waited: float
    same_weights: bool

    @property
    def disturbed(self) -> bool:
        """Whether other work took so much that the times say little."""
        return self.waited > _MOST_WAITED


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


@dataclass(frozen=True)
class Effort:
    """How long is measured: at least ``runs`` calls an engine, but no more than ``seconds``, in ``rounds`` turns.

    ``pause`` is in seconds, before each call.
    """

    runs: int = 240
    rounds: int = 8
    seconds: float = 4.0
    pause: float = 0.0

    def round(self) -> Round:
        """One engine's turn."""
        return Round(-(-self.runs // self.rounds), self.seconds / self.rounds, self.pause)


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
    return {**dict.fromkeys(OURS, model), **files}


def why_skipped(engine: str, path: str) -> str | None:
    """Why an engine cannot take part before anything is started, or None."""
    if engine in OURS:
        return None
    if find_spec(ENGINES[engine].package) is None:
        return f"not installed (pip install {ENGINES[engine].distribution})"
    if not Path(path).is_file():
        return f"no file {path}; name one with --peer-file {engine}=PATH"
    return None


def compare(
    files: Mapping[str, str], case: Case, macs: int, fma_gflops: float, effort: Effort, start: Start = Worker
) -> tuple[list[Entry], list[Skipped]]:
    """Time every engine that can take part, by turns; the others are named with their reasons.

    Parameters
    ----------
    files : engine -> its file.
    macs : multiply-adds for one image.
    """
    batch = case.shape[0]
    skipped: dict[str, str] = {}
    started: dict[str, Loaded] = {}
    loaded: dict[str, Loaded] = {}
    try:
        for engine, path in files.items():
            if engine in OURS and engine != Sepcore.name and case.threads == 1:
                continue  # one thread is shared by none
            if (reason := why_skipped(engine, path)) is not None:
                skipped[engine] = reason
            else:
                started[engine] = start(engine, path, case.threads, case.shape)
        for engine, one in started.items():
            try:
                one.wait()
                loaded[engine] = one
            except EngineFailed as error:
                skipped[engine] = str(error)
        turns = {name: _Guarded(name, one, skipped) for name, one in loaded.items()}
        found = take_turns(turns, effort.round(), effort.rounds)
    finally:
        for one in started.values():
            one.close()
    times = {name: Times.of(found[name]) for name in loaded if name not in skipped}
    best = min((t.median for t in times.values()), default=0.0)
    ours = loaded[Sepcore.name].output if Sepcore.name in loaded else None
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
            float(np.mean(loaded[name].waits)),
            ours is not None and same_numbers(loaded[name].output, ours),
        )
        for name, t in times.items()
    ]
    return entries, [Skipped(name, case.threads, batch, reason) for name, reason in skipped.items()]


def same_numbers(found: NDArray[np.float32], ours: NDArray[np.float32]) -> bool:
    """Whether two outputs are those of the same weights, up to what the order of sums and a fast exponential change."""
    if found.size != ours.size:
        return False
    return bool(np.abs(found.ravel() - ours.ravel()).max() <= 0.01 * ours.std())


class _Guarded:
    """An engine whose failure in the middle is noted, and which then takes no further turns."""

    def __init__(self, name: str, engine: Timed, failures: dict[str, str]) -> None:
        self._name, self._engine, self._failures = name, engine, failures

    def round(self, order: Round) -> list[int]:
        if self._name in self._failures:
            return []
        try:
            return self._engine.round(order)
        except EngineFailed as error:
            self._failures[self._name] = str(error)
            return []


def compare_model(
    model: str,
    shown: str,
    peers: Sequence[str],
    peer_files: Mapping[str, str],
    threads: Sequence[int],
    batches: Sequence[int],
    input_size: int | None,
    effort: Effort,
    start: Start = Worker,
) -> Comparison:
    """A network beside its peers for every number of threads and images.

    Parameters
    ----------
    shown : what the report calls the model.
    peer_files : files that are not called like the model, by peer.
    input_size : side of square inputs, where the network takes any.

    Raises
    ------
    OptionError : a peer is not known, or the network has not one input of images.
    """
    files = engine_files(model, peers, peer_files)
    net = load(model, num_threads=1)
    if len(net.inputs) != 1 or len(net.inputs[0].shape) != 4:
        raise OptionError(f"{model}: expected a network with one input of four axes, found {len(net.inputs)} inputs")
    macs = sum(step.macs for step in net.program(*input_shapes(net, 1, input_size)).steps)
    peak = measure_peak(isas.by_name(net.isa))
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    for images in batches:
        (shape,) = input_shapes(net, images, input_size)
        net.program(shape)  # the network's own complaint, before any process is started
        for count in threads:
            measured, left_out = compare(files, Case(count, shape), macs, peak, effort, start)
            entries += measured
            skipped += left_out
    return Comparison(shown, net.isa, peak, macs, tuple(entries), tuple(skipped))
