"""Times the rows that could run each layer of a network, in the place where the network runs them; it keeps no files.

A variant of the network takes one row for every layer; all variants run by turns, step by step, and the least time
that a step took is its time: neither noise nor drift favours a row, and each layer finds the caches as in a real run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepcore.bench.profile import Calls, program_calls
from sepcore.plan.program import Program, Step
from sepcore.runtime.session import Session

Shapes = tuple[tuple[int, ...], ...]

WORTH = 0.02  # a row must be faster by this share than the planner's to be kept: less is noise,
_CLOCK_NS = 200  # as is less than this
_FIRST_PASSES, _LAST_PASSES = 4, 40
_CHAIN = "chain "  # begins the keys of chains
_CLOSE = 1.25  # rows this near to the best in the first passes are timed in the last ones too


@dataclass(frozen=True)
class Timing:
    """The rows of a choice, timed.

    Attributes
    ----------
    key : of the choice, see ``sepcore.plan.select.Choice``.
    planned : the row that the planner took.
    nanoseconds : row -> least time of all layers of the network that the choice is for.
    """

    key: str
    planned: str
    nanoseconds: Mapping[str, int]

    @property
    def best(self) -> str:
        return min(self.nanoseconds, key=lambda row: self.nanoseconds[row])

    @property
    def loss(self) -> float:
        """How much longer the planned row takes than the best, as a share of the best; 0 where the clock can't tell."""
        planned, best = self.nanoseconds[self.planned], self.nanoseconds[self.best]
        return planned / best - 1 if planned - best > _CLOCK_NS else 0.0


def time_choices(session: Session, shapes: Shapes, tuned: Mapping[str, str], most_rows: int | None) -> list[Timing]:
    """Every choice of a session's program for one image, of kernels and then of chains.

    The session is left with ``tuned``.

    Parameters
    ----------
    tuned : what the planner obeys; what it takes with it is timed beside the others.
    most_rows : of a choice's rows, the first by estimate that are timed; None for all.
    """
    try:
        timings = _time_rows(session, shapes, tuned, most_rows)
        # Chains of the rows that won, beside the same rows layer by layer.
        return timings + _time_chains(session, shapes, {**tuned, **faster(timings)})
    finally:
        session.retune(tuned)


def faster(timings: Sequence[Timing]) -> dict[str, str]:
    """The rows that are worth keeping, by key."""
    return {t.key: t.best for t in timings if t.loss > WORTH}


def confirmed(session: Session, shapes: Shapes, tuned: Mapping[str, str], timings: Sequence[Timing]) -> list[Timing]:
    """The same choices timed anew: of kernels the planned row and the best, beside each other and nothing else.

    Those of layers that the plan has in chains are timed there. The session is left with ``tuned``.
    """
    chains = {t.key for t in timings if t.key.startswith(_CHAIN)}
    found: list[Timing] = []
    try:
        alone: list[Timing] = []
        for timing in (t for t in timings if t.key not in chains):
            inside = _time_inside(session, shapes, tuned, timing)
            (found if inside else alone).append(inside or timing)
        rows = {t.key: list(dict.fromkeys((t.planned, t.best))) for t in alone}
        least = _least(session, shapes, _without_chains(session, shapes, tuned), rows, _LAST_PASSES)
        found += [Timing(t.key, t.planned, least[t.key]) for t in alone]
        if chains:
            found += [t for t in _time_chains(session, shapes, tuned) if t.key in chains]
        return found
    finally:
        session.retune(tuned)


def _time_inside(session: Session, shapes: Shapes, tuned: Mapping[str, str], timing: Timing) -> Timing | None:
    """The same choice by what its best row saves of the steps that have the layers; None where the plan chains none.

    The planned row's time stays what it was, for a chain does not tell its layers' times.
    """
    calls = []
    for rows in (tuned, {**tuned, timing.key: timing.best}):
        session.retune(rows)
        calls.append(program_calls(session, shapes))
    planned = [s for s in calls[0].program.steps if any(timing.key == key for key, _ in _choices(s))]
    if not any(step.chain for step in planned):
        return None
    # Another row may be chained with other layers: both times are of the same ones.
    nodes = {node for step in planned for _, node in _choices(step)}
    for _ in calls:
        for call in calls:
            touched = [{node for _, node in _choices(step)} for step in call.program.steps]
            nodes |= {node for step in touched if step & nodes for node in step}
    before, after = (
        sum(int(t) for step, t in zip(call.program.steps, times) if any(node in nodes for _, node in _choices(step)))
        for call, times in zip(calls, least_times([call.steps for call in calls], _LAST_PASSES))
    )
    alone = timing.nanoseconds[timing.planned]
    return Timing(timing.key, timing.planned, {timing.planned: alone, timing.best: max(1, alone + after - before)})


def _choices(step: Step) -> list[tuple[str, str]]:
    """The keys of a step's choices of rows, with their nodes: its own, or those of the rows in its chain."""
    rows = [row for run in step.chain for row in run] if step.chain else [step]
    return [(row.choice.key if row.choice else "", row.node) for row in rows]


def _time_rows(session: Session, shapes: Shapes, tuned: Mapping[str, str], most_rows: int | None) -> list[Timing]:
    apart = _without_chains(session, shapes, tuned)
    session.retune(apart)
    planned: dict[str, str] = {}
    rows: dict[str, list[str]] = {}
    for step in session.program(*shapes).steps:
        if step.choice is not None:
            planned[step.choice.key] = step.kernel
            names = [name for name, _ in step.choice.rows][:most_rows]
            rows[step.choice.key] = list(dict.fromkeys((step.kernel, *names)))
    least = _least(session, shapes, apart, rows, _FIRST_PASSES)
    for key, names in rows.items():
        best = min(least[key].values())
        rows[key] = [n for n in names if n == planned[key] or least[key][n] <= _CLOSE * best]
    least = _least(session, shapes, apart, rows, _LAST_PASSES)
    return [Timing(key, planned[key], times) for key, times in least.items()]


def _time_chains(session: Session, shapes: Shapes, tuned: Mapping[str, str]) -> list[Timing]:
    session.retune(tuned)
    chained = program_calls(session, shapes)
    apart = _without_chains(session, shapes, tuned)
    session.retune(apart)
    alone = program_calls(session, shapes)
    chain_times, layer_times = least_times([chained.steps, alone.steps], _LAST_PASSES)
    found = []
    for step, by_bands in zip(chained.program.steps, chain_times):
        if step.chain and step.choice is not None:
            nodes = {row.node for run in step.chain for row in run}
            layers = sum(int(t) for other, t in zip(alone.program.steps, layer_times) if other.node in nodes)
            times = {"bands": int(by_bands), "layers": layers}
            found.append(Timing(step.choice.key, "bands", times))
            if found[-1].loss > WORTH:
                # Shorter chains of the same layers come up once this one is not made.
                inside = [key for key in apart if key != step.choice.key and key.startswith(_CHAIN)
                          and _layers_of(key) in step.choice.layer]  # fmt: skip
                found += [Timing(key, "bands", times) for key in inside]
    return found


def _layers_of(key: str) -> str:
    return key.removeprefix(_CHAIN).rpartition(" by ")[0] or key.removeprefix(_CHAIN)


def _without_chains(session: Session, shapes: Shapes, tuned: Mapping[str, str]) -> dict[str, str]:
    """``tuned``, and that no chain be made: neither the plan's nor the shorter ones that come up then.

    The session is left with that.
    """
    apart = dict(tuned)
    while True:
        session.retune(apart)
        chains = [step.choice for step in session.program(*shapes).steps if step.chain and step.choice is not None]
        if not chains:
            return apart
        apart |= {choice.key: "layers" for choice in chains}


def _least(
    session: Session, shapes: Shapes, tuned: Mapping[str, str], rows: Mapping[str, Sequence[str]], passes: int
) -> dict[str, dict[str, int]]:
    """Key -> row -> least nanoseconds of all the choice's layers together."""
    variants: list[Calls] = []
    for turn in range(max(map(len, rows.values()), default=0)):
        # With other rows other chains come up: a narrow map can be chained with a low tile only.
        _without_chains(session, shapes, {**tuned, **{key: names[turn % len(names)] for key, names in rows.items()}})
        variants.append(program_calls(session, shapes))
    found: dict[str, dict[str, int]] = {key: {} for key in rows}
    for calls, times in zip(variants, least_times([calls.steps for calls in variants], passes)):
        for (key, row), total in _by_choice(calls.program, times).items():
            if key in found:
                found[key][row] = min(total, found[key].get(row, total))
    return found


def _by_choice(program: Program, times: NDArray[np.int64]) -> dict[tuple[str, str], int]:
    totals: dict[tuple[str, str], int] = {}
    for step, nanoseconds in zip(program.steps, times, strict=True):
        if step.choice is not None and not step.chain:
            at = (step.choice.key, step.kernel)
            totals[at] = totals.get(at, 0) + int(nanoseconds)
    return totals


def least_times(
    variants: Sequence[Sequence[Callable[[], object]]], passes: int, clock: Callable[[], int] = time.perf_counter_ns
) -> list[NDArray[np.int64]]:
    """The least nanoseconds of each call of each variant; in every pass each variant makes its calls in their order."""
    least = [np.full(len(calls), np.iinfo(np.int64).max, np.int64) for calls in variants]
    for turn in range(passes):
        for v in range(len(variants)):
            at = (v + turn) % len(variants)
            best = least[at]
            for i, call in enumerate(variants[at]):
                start = clock()
                call()
                best[i] = min(best[i], clock() - start)
    return least
