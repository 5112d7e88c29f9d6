"""Tunes networks and keeps what was found, or checks what the planner takes; it times nothing by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sepcore.api import load
from sepcore.bench.measure import time_sequence
from sepcore.bench.networks import NETWORKS
from sepcore.bench.profile import input_shapes, program_calls
from sepcore.bench.report import text_table
from sepcore.bench.tune import Timing, confirmed, faster, time_choices
from sepcore.cache import cache_candidates, first_writable
from sepcore.errors import OptionError
from sepcore.options import SessionOptions
from sepcore.plan.select import NOTHING_TUNED
from sepcore.plan.tuned import tuned_path, tuned_rows, write_tuned
from sepcore.runtime.session import Session

Say = Callable[[str], None]

_ROWS_TUNED = 16  # of a choice's rows, by estimate; the best was never further down
_CONFIRMATIONS = 3  # times that a slow choice must be found slow
_PASSES = 30


@dataclass(frozen=True)
class NetworkTimes:
    """A network as estimates plan it and with the kept rows; medians in nanoseconds."""

    name: str
    threads: int
    before: int
    after: int


@dataclass(frozen=True)
class Kept:
    """What tuning found: the file, all its rows, and what they are worth."""

    path: str
    rows: dict[str, str]
    networks: list[NetworkTimes]

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Slow:
    """Choices by which the planner loses more than ``limit``, with the network that they are of."""

    limit: float
    choices: int
    timings: list[tuple[str, Timing]] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        slow = [{"network": name, "loss": t.loss, "best": t.best, **asdict(t)} for name, t in self.timings]
        return {"limit": self.limit, "choices": self.choices, "slow": slow}


def tune_networks(models: Sequence[str], counts: Sequence[int], cache_dir: Path | None, say: Say) -> Kept:
    """Time the rows of every network on each number of threads, and keep the faster ones beside those kept before.

    A network that is no faster with them keeps none.

    Raises
    ------
    OptionError : there is no cache folder that can be written.
    """
    folder = first_writable(cache_candidates(cache_dir), "what was tuned")
    if folder is None:
        raise OptionError("tune: expected a cache folder that can be written, found none; name one with --cache-dir")
    rows: dict[str, str] = {}
    networks = []
    isa = ""
    for name, session, shapes in _networks(models, counts, say):
        isa = session.isa
        rows = rows or dict(tuned_rows(isa, cache_dir))
        timings = time_choices(session, shapes, NOTHING_TUNED, _ROWS_TUNED)
        others = {key: row for key, row in rows.items() if key not in {t.key for t in timings}}
        measured = _times(name, session, shapes, others | faster(timings))
        # The least times of single layers are not the network's: noise chooses among rows that are nearly as fast.
        if measured.after < measured.before:
            rows = others | faster(timings)
        else:
            rows, measured = others, replace(measured, after=measured.before)
        networks.append(measured)
    path = tuned_path(folder, isa)
    write_tuned(path, isa, rows)
    return Kept(str(path), rows, networks)


def check_networks(
    models: Sequence[str], counts: Sequence[int], limit: float, cache_dir: Path | None, say: Say
) -> Slow:
    """Time all rows of every network beside those that the planner takes, the tuned ones where there are any."""
    slow: dict[str, tuple[str, Timing]] = {}
    seen: set[str] = set()
    for name, session, shapes in _networks(models, counts, say):
        tuned = tuned_rows(session.isa, cache_dir)
        timings = time_choices(session, shapes, tuned, None)
        seen |= {t.key for t in timings}
        over = [t for t in timings if t.loss > limit]
        for _ in range(_CONFIRMATIONS):
            # Noise makes one of many rows look faster than it is: a second look at it alone does not repeat that.
            over = [t for t in confirmed(session, shapes, tuned, over) if t.loss > limit]
        slow |= {t.key: (name, t) for t in over}
    return Slow(limit, len(seen), list(slow.values()))


def _networks(
    models: Sequence[str], counts: Sequence[int], say: Say
) -> Iterator[tuple[str, Session, tuple[tuple[int, ...], ...]]]:
    """Each network on each number of threads: its name, a session, and the shapes of its inputs."""
    for name in models or NETWORKS:
        graph = None if models else NETWORKS[name]()
        for threads in counts:
            say(f"{name}, {threads} threads")
            if graph is not None:
                yield name, Session(graph, SessionOptions(threads)), ((1, 3, 224, 224),)
            else:
                model = load(name, num_threads=threads)
                yield name, model, input_shapes(model, 1, None)


def _times(name: str, session: Session, shapes: tuple[tuple[int, ...], ...], rows: dict[str, str]) -> NetworkTimes:
    session.retune(NOTHING_TUNED)
    before = program_calls(session, shapes)
    session.retune(rows)
    after = program_calls(session, shapes)
    times = time_sequence([before.whole, after.whole], _PASSES)
    return NetworkTimes(name, session.num_threads, times[0], times[1])


def kept_text(kept: Kept) -> str:
    """What tuning found as tables."""
    rows = [
        [n.name, str(n.threads), f"{n.before / 1e6:.3f}", f"{n.after / 1e6:.3f}", f"{n.before / max(1, n.after):.3f}x"]
        for n in kept.networks
    ]
    networks = text_table(["network", "threads", "by estimate ms", "tuned ms", "faster"], rows)
    choices = text_table(["choice", "row"], sorted([key, row] for key, row in kept.rows.items()), left=2)
    return f"{networks}\n\n{choices}\n\nkept in {kept.path}"


def checked_text(slow: Slow) -> str:
    """What the check found as a table."""
    if not slow.timings:
        return f"{slow.choices} choices; none loses more than {100 * slow.limit:g} % against its best row"
    header = ["network", "choice", "planned", "best", "planned us", "best us", "slower"]
    rows = [
        [name, t.key, t.planned, t.best, f"{t.nanoseconds[t.planned] / 1e3:.1f}", f"{t.nanoseconds[t.best] / 1e3:.1f}",
         f"{100 * t.loss:.1f} %"]
        for name, t in sorted(slow.timings, key=lambda pair: -pair[1].loss)
    ]  # fmt: skip
    found = f"{len(slow.timings)} of {slow.choices} choices lose more than {100 * slow.limit:g} %"
    return f"{text_table(header, rows, left=4)}\n\n{found}"
