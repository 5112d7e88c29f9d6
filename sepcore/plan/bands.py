"""Fuses neighbouring layers by bands of rows: what one writes of a large map, the next reads while it is in cache.

A chain is (stem or expanding pointwise,) depthwise, pointwise. Its maps in between shrink to a band, or to a ring of
rows where the depthwise window reaches past the band, in the thread's scratch memory. Kernels and results stay the
same; only the order of the work changes. Each tile of a chain is a run of bands, and computes again the few rows that
its first window shares with the tile before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sepcore.kernels import chain as chain_rows
from sepcore.kernels import isa as isas
from sepcore.kernels import step as words
from sepcore.kernels.conv import stem as stem_rows
from sepcore.kernels.depthwise import rows as depthwise_rows
from sepcore.kernels.pointwise import rows as pointwise_rows
from sepcore.plan.drafts import Buffer, Draft
from sepcore.plan.memory import aligned

_BAND_BYTES = 64 << 10
"""Of the map between depthwise and pointwise in one band: a part of the second cache, beside the weights."""

_LEAST_BYTES = 384 << 10
"""A smaller map between two layers stays in the second cache by itself, and bands would only repeat the weights."""

_MOST_WEIGHT_BYTES = 384 << 10
"""Larger weights would leave the second cache no room for the band, and are read again for every band."""


@dataclass(frozen=True)
class _Chain:
    """The drafts of one chain; ``head`` may be missing."""

    head: Draft | None
    depthwise: Draft
    project: Draft

    @property
    def drafts(self) -> tuple[Draft, ...]:
        return (self.head, self.depthwise, self.project) if self.head else (self.depthwise, self.project)


def fuse_bands(drafts: Sequence[Draft], threads: int, isa: str) -> list[Draft]:
    """The same work with chains in place of the drafts they are made of; ``threads`` share a step."""
    readers: dict[int, int] = {}
    for draft in drafts:
        for word, (buffer, _) in draft.operands.items():
            if word != words.OUT:
                readers[buffer.id] = readers.get(buffer.id, 0) + 1
    out: list[Draft] = []
    i = 0
    while i < len(drafts):
        found = _chain_at(drafts, i, readers)
        if found is None:
            out.append(drafts[i])
            i += 1
        else:
            out.append(_fused(found, threads, isa))
            i += len(found.drafts)
    return out


def _chain_at(drafts: Sequence[Draft], i: int, readers: dict[int, int]) -> _Chain | None:
    def follows(first: Draft, second: Draft) -> bool:
        """Whether ``second`` is the only one to need what ``first`` makes."""
        made = first.operands[words.OUT]
        return second.operands[words.X] == made and readers.get(made[0].id) == 1

    def pair(a: int) -> bool:
        if a + 1 >= len(drafts) or drafts[a].batched:
            return False
        depthwise, project = drafts[a], drafts[a + 1]
        return (
            depthwise.kernel.op == "depthwise"
            and project.kernel.op == "pointwise"
            and follows(depthwise, project)
            and _weight_bytes(project) <= _MOST_WEIGHT_BYTES
        )

    first = drafts[i]
    if first.kernel.op in ("stem", "pointwise") and pair(i + 1) and follows(first, drafts[i + 1]):
        large = first.operands[words.OUT][0].size >= _LEAST_BYTES
        # Each piece of a pointwise head is one row of the map at least.
        wide = drafts[i + 1].words[depthwise_rows.WIDTH]
        if large and (
            first.kernel.op == "stem"
            or (_weight_bytes(first) <= _MOST_WEIGHT_BYTES and first.kernel.parameters.rows <= wide)
        ):
            return _Chain(first, drafts[i + 1], drafts[i + 2])
    if pair(i) and first.operands[words.OUT][0].size >= _LEAST_BYTES:
        return _Chain(None, first, drafts[i + 1])
    return None


def _weight_bytes(pointwise: Draft) -> int:
    r = pointwise_rows
    lanes = isas.by_name(pointwise.kernel.isa).lanes
    columns: int = pointwise.kernel.parameters.packed_columns(lanes)
    return 4 * pointwise.words[r.K] * pointwise.words[r.PANELS] * columns


def _fused(chain: _Chain, threads: int, isa: str) -> Draft:
    """The chain as one draft, whose tiles are runs of bands."""
    layout = _Layout.of(chain)
    bands = layout.bands()
    tiles = 1 if threads == 1 else min(len(bands), threads if chain.head else 2 * threads, chain_rows.MAX_TILES)
    runs = [_run(chain, bands[t * len(bands) // tiles : (t + 1) * len(bands) // tiles], layout) for t in range(tiles)]
    starts = [0]
    for run in runs:
        starts.append(starts[-1] + len(run))
    # The chain's own operands only say which maps are alive while it runs; its rows have theirs.
    operands = {words.X: chain.drafts[0].operands[words.X], words.OUT: chain.project.operands[words.OUT]}
    if words.EXTRA in chain.project.operands:
        operands[words.EXTRA] = chain.project.operands[words.EXTRA]
    return Draft(
        chain_rows.row(isa),
        tiles,
        {chain_rows.STARTS + i: start for i, start in enumerate(starts)},
        operands,
        {},
        "+".join(draft.node for draft in chain.drafts),
        sum(draft.macs for draft in chain.drafts),
        False,
        runs,
        layout.middle_bytes + layout.ring_rows * layout.x_row,
    )


@dataclass(frozen=True)
class _Layout:
    """A chain's rows in numbers: ``height`` input rows of the window, ``out_height`` output rows, ``rows`` a band.

    Scratch memory holds the band between depthwise and pointwise, then the ring of ``ring_rows`` input rows, which
    are produced ``ahead`` at a time.
    """

    window: depthwise_rows.Window
    height: int
    out_height: int
    pad_top: int
    x_row: int
    out_row: int
    rows: int
    least: int
    ahead: int
    ring_rows: int

    @classmethod
    def of(cls, chain: _Chain) -> _Layout:
        d = depthwise_rows
        dw, window = chain.depthwise.words, chain.depthwise.kernel.parameters
        height, out_height = dw[d.HEIGHT], dw[d.OUT_HEIGHT]
        # A band has enough pixels for the pointwise tile, and an even number of rows for the depthwise one.
        least = -(-chain.project.kernel.parameters.rows // dw[d.OUT_WIDTH])
        rows = min(out_height, max(2, least, _BAND_BYTES // dw[d.OUT_ROW] // 2 * 2))
        ahead = min(height, rows * window.stride)
        span = (rows + least - 1) * window.stride + window.size
        ring_rows = min(height, span + ahead) if chain.head else 0
        return cls(window, height, out_height, dw[d.PAD_TOP], dw[d.X_ROW], dw[d.OUT_ROW], rows, least, ahead, ring_rows)

    @property
    def middle_bytes(self) -> int:
        return aligned((self.rows + self.least) * self.out_row)

    def bands(self) -> list[tuple[int, int]]:
        """First and end output row of each band; a last one too short for a tile joins the one before."""
        bands = [(y, min(y + self.rows, self.out_height)) for y in range(0, self.out_height, self.rows)]
        if len(bands) > 1 and bands[-1][1] - bands[-1][0] < self.least:
            bands[-2:] = [(bands[-2][0], bands[-1][1])]
        return bands

    def first_input(self, begin: int) -> int:
        """The first input row that a band from output row ``begin`` on reads."""
        return max(0, begin * self.window.stride - self.pad_top)

    def end_input(self, end: int) -> int:
        """The input row after the last one that a band up to output row ``end`` reads."""
        return min(self.height, (end - 1) * self.window.stride - self.pad_top + self.window.size)


def _run(chain: _Chain, bands: Sequence[tuple[int, int]], layout: _Layout) -> list[Draft]:
    """The steps of consecutive bands."""
    scratch = Buffer(-2, "scratch", 0)
    steps: list[Draft] = []
    done = layout.first_input(bands[0][0])
    for begin, end in bands:
        while chain.head and done < layout.end_input(end):
            slot = done % layout.ring_rows
            count = min(layout.ahead, layout.height - done, layout.ring_rows - slot)
            place = (scratch, layout.middle_bytes + slot * layout.x_row)
            steps.append(_head_rows(chain.head, chain.depthwise, done, count, place))
            done += count
        steps.append(_depthwise_rows(chain, begin, end, (scratch, 0), (scratch, layout.middle_bytes), layout.ring_rows))
        steps.append(
            _pointwise_rows(chain.project, chain.depthwise.words[depthwise_rows.OUT_WIDTH], begin, end, x=(scratch, 0))
        )
    return steps


def _head_rows(head: Draft, depthwise: Draft, first: int, count: int, place: tuple[Buffer, int]) -> Draft:
    """Rows first .. first + count of the map that the depthwise layer reads, at ``place``."""
    if head.kernel.op == "pointwise":
        return _pointwise_rows(head, depthwise.words[depthwise_rows.WIDTH], first, first + count, out=place)
    r = stem_rows
    changed = {r.FIRST_ROW: first, r.OUT_HEIGHT: count, r.ROW_BLOCKS: 1}
    return replace(head, tiles=1, words={**head.words, **changed}, operands={**head.operands, words.OUT: place})


def _depthwise_rows(
    chain: _Chain, begin: int, end: int, place: tuple[Buffer, int], ring: tuple[Buffer, int], ring_rows: int
) -> Draft:
    d = depthwise_rows
    draft = chain.depthwise
    changed = {d.FIRST_ROW: begin, d.OUT_HEIGHT: end - begin, d.ROW_BLOCKS: 1, d.CHANNEL_BLOCKS: 1}
    operands = {**draft.operands, words.OUT: place}
    if chain.head:
        changed[d.X_RING] = ring_rows
        operands[words.X] = ring
    return replace(draft, tiles=1, words={**draft.words, **changed}, operands=operands)


def _pointwise_rows(
    draft: Draft,
    width: int,
    begin: int,
    end: int,
    x: tuple[Buffer, int] | None = None,
    out: tuple[Buffer, int] | None = None,
) -> Draft:
    """Rows begin .. end of a map of ``width`` pixels a row; ``x`` or ``out`` is where just these rows stand."""
    p = pointwise_rows
    moved = {}
    for word, stride in ((words.X, p.X_STRIDE), (words.OUT, p.OUT_STRIDE), (words.EXTRA, p.EXTRA_STRIDE)):
        if word in draft.operands:
            buffer, offset = draft.operands[word]
            moved[word] = (buffer, offset + begin * width * draft.words[stride])
    if x is not None:
        moved[words.X] = x
    if out is not None:
        moved[words.OUT] = out
    changed = {p.M: (end - begin) * width, p.ROW_BLOCKS: 1, p.PANEL_BLOCKS: 1}
    return replace(draft, tiles=1, words={**draft.words, **changed}, operands={**draft.operands, **moved})
