"""Times depthwise + pointwise layers beside the dense convolutions they replace; it must not know whole networks.

The layers are those of MobileNetV1 (Howard et al., "MobileNets", 2017, table 1). A dense 3x3 convolution multiplies
8 to 9 times as often as the pair that stands for it; what is asked is how much of that becomes time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sepcore.bench.measure import time_sequence
from sepcore.bench.profile import Calls, program_calls
from sepcore.bench.report import machine, markdown_table, text_table
from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.runtime.session import Session


@dataclass(frozen=True)
class Shape:
    """Channels in and out, side of the square input map, stride."""

    channels: int
    out_channels: int
    side: int
    stride: int

    def __str__(self) -> str:
        return f"{self.channels} to {self.out_channels}, {self.side}x{self.side}, stride {self.stride}"


SHAPES = tuple(
    Shape(*sizes)
    for sizes in (
        (32, 64, 112, 1), (64, 128, 112, 2), (128, 128, 56, 1), (128, 256, 56, 2), (256, 256, 28, 1),
        (256, 512, 28, 2), (512, 512, 14, 1), (512, 1024, 14, 2), (1024, 1024, 7, 1),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One shape's medians, and the multiply-adds of both ways.

    Attributes
    ----------
    separable_ns, dense_ns : in nanoseconds; the planner may run the two layers of the pair by bands, as one step.
    saved_multiplications : dense over separable.
    saved_time : dense over separable.
    """

    shape: Shape
    separable_macs: int
    dense_macs: int
    separable_ns: int
    dense_ns: int

    @property
    def saved_multiplications(self) -> float:
        return self.dense_macs / self.separable_macs

    @property
    def saved_time(self) -> float:
        return self.dense_ns / max(1, self.separable_ns)


@dataclass(frozen=True)
class Separable:
    """All shapes on one number of threads."""

    isa: str
    threads: int
    pairs: tuple[Pair, ...]


_SHAPE_NS = 500_000_000  # most time for one shape


def layers(shape: Shape, dense: bool) -> Graph:
    """The dense 3x3 convolution, or the depthwise and the pointwise layer for it; ReLU6 behind each."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("dense" if dense else "separable")

    def conv(x: str, ic: int, oc: int, size: int, stride: int, groups: int) -> str:
        scale = (ic // groups * size * size) ** -0.5
        weight = scale * rng.standard_normal((oc, ic // groups, size, size), np.float32)
        bias = b.constant("bias", rng.standard_normal(oc, np.float32))
        return b.add(
            "conv2d", [x, b.constant("weight", weight), bias], strides=(stride, stride), padding=(size // 2,) * 4,
            dilation=(1, 1), groups=groups, activation=("clamp", 0.0, 6.0),
        )  # fmt: skip

    ic, oc = shape.channels, shape.out_channels
    x = b.input("input", ("n", ic, shape.side, shape.side))
    if dense:
        return b.build([conv(x, ic, oc, 3, shape.stride, 1)])
    return b.build([conv(conv(x, ic, ic, 3, shape.stride, ic), ic, oc, 1, 1, 1)])


def layer_calls(shape: Shape, dense: bool, threads: int) -> tuple[Calls, list[Callable[[], object]]]:
    """The program, and a call for each of its steps that multiplies; those that change the layout are left out."""
    session = Session(run_passes(layers(shape, dense)), SessionOptions(threads))
    calls = program_calls(session, ((1, shape.channels, shape.side, shape.side),))
    calls.whole()  # fills the memory that the steps read
    return calls, [call for s, call in zip(calls.program.steps, calls.steps, strict=True) if s.macs]


def measure_separable(threads: int, passes: int, shapes: Sequence[Shape] = SHAPES) -> Separable:
    """Time both ways of every shape, by turns; fewer than ``passes`` of a shape's where that would take seconds."""
    found, isa = [], ""
    for shape in shapes:
        separable, pair = layer_calls(shape, False, threads)
        dense, alone = layer_calls(shape, True, threads)
        first = sum(time_sequence([*pair, *alone], 1))
        times = time_sequence([*pair, *alone], max(3, min(passes, _SHAPE_NS // max(1, first))))
        macs = [sum(step.macs for step in calls.program.steps) for calls in (separable, dense)]
        found.append(Pair(shape, macs[0], macs[1], sum(times[: len(pair)]), sum(times[len(pair) :])))
        isa = separable.program.isa
    return Separable(isa, threads, tuple(found))


def separable_text(found: Sequence[Separable], report_format: str) -> str:
    """What was found as ``table``, ``markdown``, ``summary`` (the same) or ``json``."""
    if report_format == "json":
        return json.dumps([asdict(one) for one in found], indent=2)
    header = ["layer", "threads", "separable us", "dense us", "fewer multiply-adds", "less time", "of it"]
    rows = [_row(str(pair.shape), one.threads, pair) for one in found for pair in one.pairs]
    rows += [_row("all of these", one.threads, _total(one.pairs)) for one in found]
    title = f"Depthwise + pointwise beside dense 3x3 convolutions, {found[0].isa}, {machine()}"
    return f"{title}\n\n{(text_table if report_format == 'table' else markdown_table)(header, rows)}"


def _row(name: str, threads: int, pair: Pair) -> list[str]:
    times = [f"{ns / 1e3:.1f}" for ns in (pair.separable_ns, pair.dense_ns)]
    saved = [f"{pair.saved_multiplications:.2f}x", f"{pair.saved_time:.2f}x"]
    return [name, str(threads), *times, *saved, f"{100 * pair.saved_time / pair.saved_multiplications:.0f} %"]


def _total(pairs: Sequence[Pair]) -> Pair:
    numbers = [
        sum(column) for column in zip(*((p.separable_macs, p.dense_macs, p.separable_ns, p.dense_ns) for p in pairs))
    ]  # fmt: skip
    return Pair(pairs[0].shape, *numbers)


_BAR, _GAP, _UNIT, _LEFT, _TOP = 14, 12, 32, 40, 44  # of the drawing, in pixels; _UNIT is the height of a factor of 1


def plot_svg(found: Sequence[Separable]) -> str:
    """A drawing of the factors by which multiply-adds and times shrink, shape by shape, as SVG."""
    pairs = found[0].pairs
    colours = ["#b0b7c3", "#2563eb", "#16a34a", "#d97706"]
    group = _BAR * (1 + len(found)) + _GAP
    saved = [p.saved_time for one in found for p in one.pairs]
    top = max([*saved, *(p.saved_multiplications for p in pairs)])
    base = _TOP + int(top * _UNIT)
    width, height = _LEFT + max(480, group * len(pairs)) + _GAP, base + 150
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="16">Depthwise + pointwise instead of dense 3x3: how many times less</text>',
    ]
    for i, label in enumerate(["multiply-adds", *(f"time, {one.threads} threads" for one in found)]):
        x = _LEFT + 130 * i
        parts.append(f'<rect x="{x}" y="24" width="10" height="10" fill="{colours[i % len(colours)]}"/>')
        parts.append(f'<text x="{x + 14}" y="33">{label}</text>')
    for line in range(int(top) + 1):
        y = base - line * _UNIT
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{width - _GAP}" y2="{y}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{line}x</text>')
    for g, pair in enumerate(pairs):
        x = _LEFT + _GAP // 2 + g * group
        for i, factor in enumerate([pair.saved_multiplications, *(one.pairs[g].saved_time for one in found)]):
            tall = factor * _UNIT
            parts.append(
                f'<rect x="{x + i * _BAR}" y="{base - tall:.1f}" width="{_BAR - 2}" height="{tall:.1f}" '
                f'fill="{colours[i % len(colours)]}"/>'
            )
        at = f"{x + _BAR} {base + 10}"
        label = str(pair.shape).replace(", stride 1", "").replace("stride ", "/")
        parts.append(f'<text x="{x + _BAR}" y="{base + 10}" transform="rotate(60 {at})" font-size="10">{label}</text>')
    return "\n".join([*parts, "</svg>\n"])
