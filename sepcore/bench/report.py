"""What was measured as text: tables, Markdown, JSON and Chrome's trace format; it measures nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sepcore.bench.compare import Comparison
from sepcore.bench.limits import Limits
from sepcore.bench.profile import Layer, Profile
from sepcore.bench.roofline import Bound
from sepcore.plan.tuned import cpu_name

_LONGEST_NAME = 44
Rows = Sequence[Sequence[str]]


def text_table(header: Sequence[str], rows: Rows, left: int = 1) -> str:
    """Columns as wide as their longest entry; the first ``left`` are flush left, the others right."""
    table = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for row in table:
        cells = [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Rows, left: int = 1) -> str:
    """The same as GitHub's Markdown; a bar in an entry is escaped."""
    ruler = ["---" if i < left else "---:" for i in range(len(header))]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in [header, ruler, *rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def percent(part: float, whole: float) -> str:
    """A share with one decimal."""
    return f"{100 * part / whole:.1f} %"


def limits_text(limits: Limits, report_format: str) -> str:
    """The machine's limits as ``table`` or ``json``."""
    if report_format == "json":
        return json.dumps(asdict(limits), indent=2)
    rows = [[f"{b.level} read", f"{b.gigabytes_per_second:.1f} GB/s", _bytes(b.size)] for b in limits.bandwidths]
    peak = [f"{limits.isa} multiply-adds", f"{limits.fma_gflops:.1f} GFLOP/s", ""]
    return text_table(["one thread", "limit", "working set"], [peak, *rows])


def profile_text(profile: Profile, report_format: str) -> str:
    """A profile as ``table``, ``json`` or ``trace`` (for chrome://tracing or Perfetto)."""
    return {"table": _profile_table, "json": _profile_json, "trace": _profile_trace}[report_format](profile)


def _profile_table(profile: Profile) -> str:
    total = sum(layer.nanoseconds for layer in profile.layers)
    rows = [
        [
            _tail(layer.name), _short(layer.kernel, profile.isa), f"{layer.nanoseconds / 1e3:.1f}",
            percent(layer.nanoseconds, total), *_speeds(layer), layer.bound.by,
        ]
        for layer in profile.layers
    ]  # fmt: skip
    whole = _whole(profile)
    rows.append([whole.name, "", f"{whole.nanoseconds / 1e3:.1f}", "", *_speeds(whole), whole.bound.by])
    header = ["layer", "kernel", "us", "of time", "M mult-adds", "GFLOP/s", "GB/s", "of limit", "bound by"]
    shapes = ", ".join("x".join(map(str, shape)) for shape in profile.shapes)
    title = (
        f"{profile.model}, {shapes}, {profile.isa}, {profile.threads} threads; "
        f"{percent(whole.gflops, profile.peak)} of the peak of {profile.peak:.0f} GFLOP/s; "
        f"layers take {total / 1e3:.1f} us one by one"
    )
    return f"{title}\n\n{text_table(header, rows, left=2)}"


def _whole(profile: Profile) -> Layer:
    """All layers in one call; its limit is that of each after the other."""
    macs, size = (sum(column) for column in zip(*((layer.macs, layer.bytes) for layer in profile.layers)))
    bound = Bound(sum(layer.bound.nanoseconds for layer in profile.layers), "")
    return Layer("all in one call", "", 1, macs, profile.whole_nanoseconds, size, bound)


def _speeds(layer: Layer) -> list[str]:
    return [
        f"{layer.macs / 1e6:.2f}", f"{layer.gflops:.1f}", f"{layer.gigabytes_per_second:.1f}",
        percent(layer.limit_share, 1.0),
    ]  # fmt: skip


def _tail(name: str) -> str:
    """The end of a long name, where names of layers differ."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _short(kernel: str, isa: str) -> str:
    """A kernel's name without what all have in common."""
    return kernel.replace(f"__{isa}", "").replace("f32_", "")


def _profile_json(profile: Profile) -> str:
    fields = asdict(profile)
    for layer, entry in zip(profile.layers, fields["layers"]):
        entry |= _derived(profile, layer)
    return json.dumps(fields, indent=2)


def _derived(profile: Profile, layer: Layer) -> dict[str, float]:
    return {
        "gflops": layer.gflops,
        "gigabytes_per_second": layer.gigabytes_per_second,
        "peak_share": layer.gflops / profile.peak,
        "limit_share": layer.limit_share,
    }


def _profile_trace(profile: Profile) -> str:
    """Complete events, one behind the other; times are microseconds."""
    events: list[dict[str, Any]] = []
    start = 0.0
    for layer in profile.layers:
        microseconds = layer.nanoseconds / 1e3
        arguments = {"kernel": layer.kernel, "tiles": layer.tiles, "macs": layer.macs, "bound_by": layer.bound.by}
        events.append(
            {"name": layer.name, "cat": "layer", "ph": "X", "ts": start, "dur": microseconds, "pid": 1, "tid": 1}
            | {"args": arguments | _derived(profile, layer)}
        )
        start += microseconds
    return json.dumps({"displayTimeUnit": "ns", "traceEvents": events}, indent=1)


def _bytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def comparisons_text(comparisons: Sequence[Comparison], report_format: str) -> str:
    """Comparisons as ``table``, ``markdown`` or ``json``, one after another."""
    if report_format == "json":
        return json.dumps([asdict(comparison) for comparison in comparisons], indent=2)
    return "\n\n".join(_comparison(comparison, report_format) for comparison in comparisons)


def _comparison(comparison: Comparison, report_format: str) -> str:
    header = [
        "engine", "precision", "threads", "batch", "median ms", "min", "p90", "p99", "of best", "images/s", "of peak"
    ]  # fmt: skip
    rows = [
        [
            f"{e.engine} {e.version}", e.precision, str(e.threads), str(e.batch), f"{e.times.median:.3f}",
            f"{e.times.least:.3f}", f"{e.times.p90:.3f}", f"{e.times.p99:.3f}", f"{e.ratio:.2f}x",
            f"{e.images_per_second:.1f}", percent(e.peak_share, 1.0),
        ]
        for e in comparison.entries
    ]  # fmt: skip
    title = (
        f"{comparison.model}, {comparison.macs / 1e6:.1f} M multiply-adds an image, on {machine()}; "
        f"peak of a thread {comparison.fma_gflops:.0f} GFLOP/s ({comparison.isa})"
    )
    table = (markdown_table if report_format == "markdown" else text_table)(header, rows, left=2)
    reasons: dict[str, list[str]] = {}
    for s in comparison.skipped:
        reasons.setdefault(f"{s.engine} left out: {s.reason}", []).append(f"{s.threads} threads, batch {s.batch}")
    others = dict.fromkeys(e.engine for e in comparison.entries if not e.same_weights)
    ends = [f"{name} has other weights: its outputs differ" for name in others]
    ends += disturbances(comparison)
    ends += [f"{reason} ({'; '.join(cases)})" for reason, cases in reasons.items()]
    return "\n\n".join([title, table, *ends])


def disturbances(comparison: Comparison) -> list[str]:
    """A sentence for every entry that other work on the machine disturbed."""
    return [
        f"{e.engine} waited {percent(e.waited, 1.0)} of its time for a CPU ({comparison.model}, {e.threads} threads, "
        f"batch {e.batch}): other work disturbed it"
        for e in comparison.entries
        if e.disturbed
    ]


def machine() -> str:
    """The CPU and how many of them."""
    return f"{cpu_name()}, {os.cpu_count()} CPUs"
