"""Comparisons of several networks as one Markdown table with a caption, for a README; it measures nothing."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

from sepcore.bench.compare import Comparison, Entry
from sepcore.bench.engines import ENGINES, OURS, Sepcore
from sepcore.bench.report import machine, markdown_table
from sepcore.errors import OptionError

BEGIN, END = "<!-- made by: sepcore bench -->", "<!-- end of what sepcore bench made -->"


def summary_text(comparisons: Sequence[Comparison], day: datetime.date) -> str:
    """Medians of every engine, a row for each network, number of threads and of images; the best is bold.

    Raises
    ------
    OptionError : nothing was measured.
    """
    cases = [(c, _case(c, key)) for c in comparisons for key in dict.fromkeys((e.threads, e.batch) for e in c.entries)]
    cases = [(c, case) for c, case in cases if Sepcore.name in case]
    if not cases:
        raise OptionError("bench: expected a network that could be measured, found none")
    engines = [name for name in ENGINES if any(name in case for _, case in cases)]
    batches = {case[Sepcore.name].batch for _, case in cases}
    header = ["network", "threads", *(["images"] if batches != {1} else []), *engines, "best peer / sepcore", "of peak"]
    rows = []
    for comparison, case in cases:
        ours = case[Sepcore.name]
        images = [str(ours.batch)] if batches != {1} else []
        medians = [_cell(case, name) for name in engines]
        ratio = best_ratio(case)
        share = f"{100 * ours.peak_share:.0f} %"
        row = [_name(comparison), str(ours.threads), *images, *medians, "" if ratio is None else f"{ratio:.2f}", share]
        rows.append(row)
    return f"{_caption(comparisons, day)}\n\n{markdown_table(header, rows)}\n\n{_verdict(cases)}"


def best_ratio(case: dict[str, Entry]) -> float | None:
    """The best peer's median over sepcore's on its own threads; above 1 where sepcore is ahead; None without peers."""
    peers = [entry.times.median for name, entry in case.items() if name not in OURS]
    return min(peers) / case[Sepcore.name].times.median if peers else None


def replaced(text: str, made: str) -> str:
    """``text`` with ``made`` between its two marks.

    Raises
    ------
    OptionError : the marks are not there once each, in this order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise OptionError(f"into: expected one line {BEGIN!r} and one {END!r} behind it")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def _case(comparison: Comparison, key: tuple[int, int]) -> dict[str, Entry]:
    return {e.engine: e for e in comparison.entries if (e.threads, e.batch) == key}


def _cell(case: dict[str, Entry], name: str) -> str:
    if name not in case:
        return ""
    median = f"{case[name].times.median:.2f}"
    return f"**{median}**" if case[name].ratio == 1.0 else median


def _name(comparison: Comparison) -> str:
    return comparison.model.rpartition("/")[2].rpartition(".")[0] or comparison.model


def _caption(comparisons: Sequence[Comparison], day: datetime.date) -> str:
    entries = [e for c in comparisons for e in c.entries]
    first = comparisons[0]
    versions = dict.fromkeys(
        f"{e.engine} {e.version}" for e in entries if e.engine not in OURS or e.engine == "sepcore"
    )
    precisions = dict.fromkeys(e.precision for e in entries)
    runs = sorted({e.times.runs for e in entries})
    counted = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    lines = [
        f"Milliseconds a call, medians of {counted} calls in turns, {', '.join(precisions)}, {day.isoformat()}, on "
        f"{machine()} ({first.isa}, {first.fma_gflops:.0f} GFLOP/s a thread): {', '.join(versions)}."
    ]
    others = dict.fromkeys(e.engine for e in entries if not e.same_weights)
    lines += [f"The files of {name} have other weights: its outputs differ." for name in others]
    missing = dict.fromkeys(f"{s.engine} left out: {s.reason}." for c in comparisons for s in c.skipped)
    return "\n".join([*lines, *missing, *_disturbed(comparisons)])


def _disturbed(comparisons: Sequence[Comparison]) -> list[str]:
    """One sentence that names every engine and network whose times other work on the machine made longer."""
    cases: dict[str, list[str]] = {}
    for c in comparisons:
        for e in c.entries:
            if e.disturbed:
                images = f", batch {e.batch}" if e.batch > 1 else ""
                cases.setdefault(e.engine, []).append(f"{_name(c)} ({e.threads} threads{images})")
    named = "; ".join(f"{engine} with {', '.join(networks)}" for engine, networks in cases.items())
    return [f"Other work on the machine disturbed {named}."] if named else []


def _verdict(cases: Sequence[tuple[Comparison, dict[str, Entry]]]) -> str:
    """Who wins: every case that a peer wins is named."""
    ratios = [(c, case, ratio) for c, case in cases if (ratio := best_ratio(case)) is not None]
    if not ratios:
        return "No peer took part."
    mean = math.exp(sum(math.log(ratio) for _, _, ratio in ratios) / len(ratios))
    text = f"Best peer / sepcore: {mean:.2f} in the geometric mean, {min(r for _, _, r in ratios):.2f} at least."
    lost = []
    for comparison, case, ratio in ratios:
        if ratio < 1:
            winner = min((e for name, e in case.items() if name not in OURS), key=lambda e: e.times.median)
            where = f"{winner.threads} threads, batch {winner.batch}"
            lost.append(f"{winner.engine} wins {_name(comparison)} at {where}, {1 / ratio:.2f}x.")
    return " ".join([text, *lost]) if lost else f"{text} No peer is ahead anywhere."
