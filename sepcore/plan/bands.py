"""Fuses neighbouring layers by bands of rows: what one writes of a large map, the next reads while it is in cache.

A chain is a run of stem, dense, depthwise and pointwise layers, each the only reader of the one before. The maps in
between shrink to rings of rows in the thread's scratch memory, each as many rows as the next layer's window spans.
Rows are made when they are needed, in units of a fixed height, so that no unit wraps around its ring; before a stride
of two as few as elsewhere, or the ring would be half as long again, and fewer layers have room. Kernels and results
stay the same; only the order of the work changes. Each tile of a chain is a run of bands of the last layer, and
computes again the rows that its first windows share with the tile before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sepcore.kernels import chain as chain_rows
from sepcore.kernels import isa as isas
from sepcore.kernels import step as words
from sepcore.kernels.conv import dense as dense_rows
from sepcore.kernels.conv import stem as stem_rows
from sepcore.kernels.crossed import rows as crossed_rows
from sepcore.kernels.depthwise import rows as depthwise_rows
from sepcore.kernels.pointwise import rows as pointwise_rows
from sepcore.kernels.winograd import rows as winograd_rows
from sepcore.plan.drafts import Buffer, Draft
from sepcore.plan.pages import aligned
from sepcore.plan.select import Choice

LEAST_CHAINED_BYTES = 448 << 10
"""A map of which a thread has less stays in its second cache by itself, and bands would only repeat the weights:
384 KiB measured 2 % slower on MobileNetV3-Large and MNASNet."""

_CACHE_BYTES = 512 << 10
"""What a chain's rings and weights may take of the second cache."""

_TALLEST_BAND = 8

_POINTWISE = ("pointwise", "crossed")


@dataclass(frozen=True)
class _Layer:
    """A layer of a chain in rows: output row y reads input rows from ``y * stride - pad`` on, ``size`` of them."""

    draft: Draft
    height: int
    out_height: int
    width: int
    out_row: int
    stride: int
    size: int
    pad: int

    @property
    def weight_bytes(self) -> int:
        """Memory of the packed weights of a pointwise or dense layer; the others' hardly count."""
        w, tile = self.draft.words, self.draft.kernel.parameters
        if self.draft.kernel.op == "pointwise":
            values = w[pointwise_rows.K] * w[pointwise_rows.PANELS]
        elif self.draft.kernel.op == "conv":
            values = w[dense_rows.K] * self.taps * w[dense_rows.PANELS] * w[dense_rows.GROUPS]
        elif self.draft.kernel.op == "winograd":
            values = w[dense_rows.K] * winograd_rows.PRODUCTS * w[dense_rows.PANELS]
        elif self.draft.kernel.op == "crossed":
            values = crossed_rows.panel_rows(w[pointwise_rows.K]) * w[pointwise_rows.PANELS]
        else:
            return 0
        columns: int = tile.packed_columns(isas.by_name(self.draft.kernel.isa).lanes)
        return 4 * values * columns

    @property
    def taps(self) -> int:
        """Of a dense layer."""
        return self.draft.words[dense_rows.SIZE_Y] * self.draft.words[dense_rows.SIZE_X]

    @property
    def table_bytes(self) -> int:
        """Scratch memory of the thread that the kernel itself needs."""
        kernel = self.draft.kernel
        if kernel.op == "conv":
            return dense_rows.scratch_bytes(kernel.parameters, self.taps)
        if kernel.op == "winograd":
            lanes = isas.by_name(kernel.isa).lanes
            return winograd_rows.scratch_bytes(kernel.parameters, lanes, self.draft.words[dense_rows.K])
        if kernel.op == "crossed":
            lanes, w = isas.by_name(kernel.isa).lanes, self.draft.words
            return crossed_rows.scratch_bytes(kernel.parameters.rows, w[pointwise_rows.K], lanes, w[crossed_rows.CHUNK])
        return 0

    @property
    def grain(self) -> int:
        """Rows that it makes together: a unit begins at a multiple of it, and has a multiple of it."""
        return 2 if self.draft.kernel.op == "winograd" else 1

    def first_input(self, row: int) -> int:
        """The first input row that output rows from ``row`` on read."""
        return max(0, row * self.stride - self.pad)

    def end_input(self, end: int) -> int:
        """The row after the last input row that output rows up to ``end`` read."""
        return min(self.height, (end - 1) * self.stride - self.pad + self.size)


@dataclass(frozen=True)
class _Chain:
    """Layers, the rows that each makes at a time, and the rows of the ring behind each but the last."""

    layers: tuple[_Layer, ...]
    units: tuple[int, ...]
    rings: tuple[int, ...]

    @classmethod
    def of(cls, layers: Sequence[_Layer], band: int) -> _Chain:
        """The chain that makes its last layer's rows ``band`` at a time."""
        units = [min(band, layers[-1].out_height)]
        rings: list[int] = []
        for layer, maker in zip(reversed(layers), reversed(layers[:-1])):
            unit = min(units[0] * layer.stride, band, maker.out_height)
            span = (units[0] - 1) * layer.stride + layer.size
            # One unit more than the windows span: rows are made a unit at a time.
            rings.insert(0, unit if layer.size == 1 else -(-(span + unit) // unit) * unit)
            units.insert(0, unit)
        return cls(tuple(layers), tuple(units), tuple(rings))

    @property
    def fits(self) -> bool:
        """Whether units are what their layers make, and all of it fits the cache."""
        return (
            all(unit % layer.grain == 0 for layer, unit in zip(self.layers, self.units)) and self.bytes <= _CACHE_BYTES
        )

    @property
    def bytes(self) -> int:
        """Cache that the chain wants."""
        return self.ring_offsets()[-1] + sum(layer.weight_bytes for layer in self.layers)

    def ring_offsets(self) -> list[int]:
        """Where each ring starts in the scratch memory, and where the last ends."""
        offsets = [0]
        for layer, rows in zip(self.layers, self.rings):
            offsets.append(offsets[-1] + aligned(rows * layer.out_row) + 64)
        return offsets


def fuse_bands(drafts: Sequence[Draft], threads: int, isa: str, tuned: Mapping[str, str]) -> list[Draft]:
    """The same work with chains in place of the drafts they are made of; ``threads`` share a step.

    ``tuned`` says of some chains whether they pay, see ``sepcore.plan.select.Choice``.
    """
    readers: dict[int, int] = {}
    written: set[int] = set()
    for draft in drafts:
        for word, (buffer, _) in draft.operands.items():
            # Memory that several steps write is no ring between two of them: whoever reads it reads them all.
            if word != words.OUT or buffer.id in written:
                readers[buffer.id] = readers.get(buffer.id, 0) + 1
            else:
                written.add(buffer.id)
    out: list[Draft] = []
    i = 0
    while i < len(drafts):
        chain = _chain_from(drafts, i, readers, threads)
        if chain is None or not (choice := _fusing(chain).by(threads)).pick(tuned):
            out.append(drafts[i])
            i += 1
        else:
            out.append(replace(_fused(chain, threads, isa), choice=choice))
            i += len(chain.layers)
    return out


def _fusing(chain: _Chain) -> Choice[bool]:
    """Whether to make the layers by bands, or one after another."""
    layers = (layer.draft for layer in chain.layers)
    names = (draft.choice.layer if draft.choice else draft.kernel.name for draft in layers)
    return Choice(f"chain {' + '.join(names)}", (("bands", True), ("layers", False)))


def _chain_from(drafts: Sequence[Draft], i: int, readers: dict[int, int], threads: int) -> _Chain | None:
    """The longest chain from draft ``i`` on that the cache has room for."""
    first = _layer(drafts[i], _read_as(drafts[i + 1]) if i + 1 < len(drafts) else None)
    layers = [first] if first else []
    for draft in drafts[i + 1 :] if first else ():
        made, _ = place = layers[-1].draft.operands[words.OUT]
        only_reader = draft.operands[words.X] == place and readers.get(made.id) == 1
        shape = layers[-1].out_height, layers[-1].width
        layer = _layer(draft, shape) if only_reader and made.size >= threads * LEAST_CHAINED_BYTES else None
        if layer is None or draft.kernel.op == "stem" or _Chain.of([*layers, layer], 2).bytes > _CACHE_BYTES:
            break
        layers.append(layer)
    if len(layers) < 2:
        return None
    heights = range(_TALLEST_BAND, 0, -2)
    fitting = [chain for chain in (_Chain.of(layers, h) for h in heights) if chain.fits]
    return fitting[0] if fitting else None


def _read_as(reader: Draft) -> tuple[int, int] | None:
    """Height and width of a layer's input, where its words tell them: a pointwise layer's have its pixels only."""
    if reader.kernel.op == "depthwise":
        return reader.words[depthwise_rows.HEIGHT], reader.words[depthwise_rows.WIDTH]
    if reader.kernel.op in ("conv", "winograd"):
        return reader.words[dense_rows.HEIGHT], reader.words[dense_rows.WIDTH]
    return None


def _layer(draft: Draft, shape: tuple[int, int] | None) -> _Layer | None:
    """The draft as a layer of a chain, where it can be one; ``shape`` is a pointwise layer's height and width."""
    if draft.batched:
        return None
    w = draft.words
    if draft.kernel.op == "stem":
        s, r = draft.kernel.parameters, stem_rows
        sizes = w[r.HEIGHT], w[r.OUT_HEIGHT], w[r.OUT_WIDTH], w[r.OUT_ROW]
        return _Layer(draft, *sizes, s.stride, s.size, w[r.PAD_TOP])
    if draft.kernel.op == "depthwise":
        d = depthwise_rows
        sizes = w[d.HEIGHT], w[d.OUT_HEIGHT], w[d.OUT_WIDTH], w[d.OUT_ROW]
        return _Layer(draft, *sizes, draft.kernel.parameters.stride, draft.kernel.parameters.size, w[d.PAD_TOP])
    if draft.kernel.op in ("conv", "winograd"):
        c = dense_rows
        if w[c.OUT_WIDTH] < draft.kernel.parameters.rows:
            return None
        size = (w[c.SIZE_Y] - 1) * w[c.DILATION_Y] + 1
        out_row = w[c.OUT_WIDTH] * w[c.OUT_PIXEL]
        sizes = w[c.HEIGHT], w[c.M] // w[c.OUT_WIDTH], w[c.OUT_WIDTH], out_row
        return _Layer(draft, *sizes, w[c.STRIDE_Y], size, w[c.PAD_TOP])
    if draft.kernel.op in _POINTWISE and shape is not None:
        height, width = shape
        # A unit may be a single row, and a tile needs as many pixels as it has rows.
        if width < draft.kernel.parameters.rows or w[pointwise_rows.M] != height * width:
            return None
        return _Layer(draft, height, height, width, width * w[pointwise_rows.OUT_STRIDE], 1, 1, 0)
    return None


def _fused(chain: _Chain, threads: int, isa: str) -> Draft:
    """The chain as one draft, whose tiles are runs of bands."""
    last = chain.layers[-1]
    # Tiles repeat the rows that windows of later layers share: there are no more of them than threads then.
    repeats = any(layer.size > 1 for layer in chain.layers[1:])
    tiles = 1 if threads == 1 else min(last.out_height, threads if repeats else 2 * threads, chain_rows.MAX_TILES)
    # Even rows, as depthwise tiles have two.
    edges = [t * last.out_height // tiles // 2 * 2 for t in range(tiles)] + [last.out_height]
    runs = [_run(chain, begin, end) for begin, end in pairwise(edges) if begin < end]
    starts = [0]
    for run in runs:
        starts.append(starts[-1] + len(run))
    # The chain's own operands only say which maps are alive while it runs; its rows have theirs.
    operands = {words.X: chain.layers[0].draft.operands[words.X], words.OUT: last.draft.operands[words.OUT]}
    others = (words.EXTRA, words.WEIGHTS)  # weights that were scaled are in the arena
    extras = [layer.draft.operands[word] for layer in chain.layers for word in others if word in layer.draft.operands]
    operands.update({-1 - i: extra for i, extra in enumerate(extras)})
    return Draft(
        chain_rows.row(isa),
        len(runs),
        {chain_rows.STARTS + i: start for i, start in enumerate(starts)},
        operands,
        {},
        "+".join(layer.draft.node for layer in chain.layers),
        sum(layer.draft.macs for layer in chain.layers),
        False,
        chain=runs,
        scratch=chain.ring_offsets()[-1] + max(layer.table_bytes for layer in chain.layers),
        traffic=_traffic(chain),
    )


def _traffic(chain: _Chain) -> dict[int, int]:
    """What is read and written outside the rings."""
    first, last = chain.layers[0].draft.traffic, chain.layers[-1].draft.traffic
    extras = (layer.draft.traffic[words.EXTRA] for layer in chain.layers if words.EXTRA in layer.draft.traffic)
    return {words.X: first[words.X], words.OUT: last[words.OUT]} | {-1 - i: size for i, size in enumerate(extras)}


def _run(chain: _Chain, begin: int, end: int) -> list[Draft]:
    """The steps of the last layer's rows ``begin`` to ``end``; each ring begins with the first row that is needed."""
    starts = [begin]
    for layer, maker in zip(reversed(chain.layers), reversed(chain.layers[:-1])):
        starts.insert(0, layer.first_input(starts[0]) // maker.grain * maker.grain)
    ends = [layer.out_height for layer in chain.layers[:-1]] + [end]
    done = list(starts)
    steps: list[Draft] = []

    def make(i: int) -> None:
        """The next unit of layer ``i``, after the rows it reads."""
        layer, first = chain.layers[i], done[i]
        count = min(chain.units[i], ends[i] - first)
        while i and done[i - 1] < layer.end_input(first + count):
            make(i - 1)
        steps.append(_rows_of(chain, i, first, count, starts))
        done[i] += count

    while done[-1] < end:
        make(len(chain.layers) - 1)
    return steps


def _rows_of(chain: _Chain, i: int, first: int, count: int, starts: Sequence[int]) -> Draft:
    """Rows first .. first + count of layer ``i``, from the ring before it into the ring behind it.

    Row r of layer j stands at row (r - starts[j]) mod rings[j] of its ring.
    """
    layer, offsets = chain.layers[i], chain.ring_offsets()
    draft, scratch = layer.draft, Buffer(-2, "scratch", 0)
    moved = dict(draft.operands)
    if i < len(chain.layers) - 1:
        moved[words.OUT] = (scratch, offsets[i] + (first - starts[i]) % chain.rings[i] * layer.out_row)
    else:
        buffer, offset = moved[words.OUT]
        moved[words.OUT] = (buffer, offset + first * layer.out_row)
    if words.EXTRA in moved and draft.kernel.op != "depthwise":  # whose sums are of all the map's rows
        stride = pointwise_rows.EXTRA_STRIDE if draft.kernel.op in _POINTWISE else dense_rows.EXTRA_PIXEL
        buffer, offset = moved[words.EXTRA]
        moved[words.EXTRA] = (buffer, offset + first * layer.width * draft.words[stride])
    if draft.kernel.op in _POINTWISE:
        p = pointwise_rows
        buffer, offset = moved[words.X]
        moved[words.X] = (buffer, offset + first * layer.width * draft.words[p.X_STRIDE])
        if i:
            before = (first - starts[i - 1]) % chain.rings[i - 1] * chain.layers[i - 1].out_row
            moved[words.X] = (scratch, offsets[i - 1] + before)
        changed = {p.M: count * layer.width, p.ROW_BLOCKS: 1, p.PANEL_BLOCKS: 1}
        if draft.kernel.op == "crossed":
            changed[crossed_rows.SCRATCH] = offsets[-1]
    elif draft.kernel.op == "stem":
        changed = {stem_rows.FIRST_ROW: first, stem_rows.OUT_HEIGHT: count, stem_rows.ROW_BLOCKS: 1}
    else:
        d: Any = depthwise_rows if draft.kernel.op == "depthwise" else dense_rows
        changed = {d.FIRST_ROW: first, d.ROW_BLOCKS: 1}
        if draft.kernel.op == "depthwise":
            changed |= {d.OUT_HEIGHT: count, d.CHANNEL_BLOCKS: 1}
        else:
            changed |= {d.M: count * layer.width, d.TABLE: offsets[-1]}
        if i:
            moved[words.X] = (scratch, offsets[i - 1])
            changed[d.X_RING], changed[d.X_PHASE] = chain.rings[i - 1], -starts[i - 1] % chain.rings[i - 1]
    return replace(draft, tiles=1, words={**draft.words, **changed}, operands=moved)
