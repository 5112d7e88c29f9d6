"""Decides which weights a step asks for ahead of their use; results do not depend on it.

Weights lie in memory in the order of their use, and are used once an image: a network's do not stay in caches that it
shares with others. Layers of many pixels take longer to compute than memory takes to bring their weights; layers of a
few pixels do nothing but wait for theirs. So the former ask for the weights of both, at a pace that memory keeps up
with, and as late as that allows: what waits for long in a cache that others use is lost. The latter ask for nothing:
they take all that memory gives, and a second row of requests takes a seventh of it away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from sepcore.kernels import isa as isas
from sepcore.kernels import step as words
from sepcore.kernels.crossed import rows as crossed
from sepcore.kernels.pointwise import rows as pointwise
from sepcore.plan.drafts import Buffer, Draft
from sepcore.plan.tensors import FLOAT
from sepcore.plan.weights import WeightStore

_BYTES_A_PRODUCT = 0.4
"""The pace: bytes asked for while a layer multiplies and adds once, some 20 GB/s on a core of 100 GFLOP/s."""

_LEAD_BYTES = 1 << 20
"""What is asked for and not yet used: as much as a second cache holds, for what is lost from there comes from a third
one that others use. 3 MiB measured alike, 6 and 12 MiB up to 4 % slower."""

_LINE_BYTES = 64
_LARGEST_SHIFT = 8

_POINTWISE = frozenset({"pointwise", "pointwise_gathered", "crossed"})
"""Kernels that ask for lines."""


def prefetch_ahead(drafts: Sequence[Draft], weights: WeightStore) -> list[Draft]:
    """The drafts, in the order they run, with the words by which pointwise layers prefetch.

    Layers of a chain prefetch nothing new: each band reads the same weights.
    """
    origin = _origin(drafts, weights)
    if origin is None:
        return list(drafts)
    ends = list(_ends(drafts, weights, weights.place(origin).region))
    targets = _targets(drafts, ends)
    asked, out = 0, []
    for draft, end, target in zip(drafts, ends, targets):
        if draft.kernel.op in _POINTWISE:
            first = max(asked, _behind_panel(draft, weights, origin, end))
            draft, asked = _asking(draft, weights, origin, first, target)
        out.append(draft)
    return out


def _origin(drafts: Sequence[Draft], weights: WeightStore) -> Hashable | None:
    """A block in the region that most of the weights are in: the others' are not worth asking for."""
    sizes, blocks = Counter[int](), {}
    for draft in drafts:
        for key in _keys(draft):
            region = weights.place(key).region
            sizes[region] += weights.size(key)
            blocks[region] = key
    return blocks[max(sizes, key=lambda region: sizes[region])] if sizes else None


def _keys(draft: Draft) -> set[Hashable]:
    """The blocks of the weights that a step reads."""
    rows = (draft, *(row for run in draft.chain for row in run))
    packed = {key for row in rows for key in row.weights.values()} - {"zeros"}
    return packed | {buffer.key for row in rows for buffer, _ in row.operands.values() if buffer.space == "weights"}


def _ends(drafts: Sequence[Draft], weights: WeightStore, region: int) -> Iterator[int]:
    """Up to where in the region the steps from the first to each read."""
    end = 0
    for draft in drafts:
        for key in _keys(draft):
            place = weights.place(key)
            if place.region == region:
                end = max(end, place.offset + weights.size(key))
        yield end


def _targets(drafts: Sequence[Draft], ends: Sequence[int]) -> list[int]:
    """Up to where all should have been asked for when each step ends, so that the later ones keep the pace."""
    targets, target = [], ends[-1]
    for draft, end in zip(reversed(drafts), reversed(ends)):
        target = min(target, end + _LEAD_BYTES)
        targets.append(target)
        target = max(end, target - _coverage(draft, _slowest(draft)))
    return targets[::-1]


def _slowest(draft: Draft) -> int:
    """The shift at which a layer asks at the pace, or for nothing where its own weights take all that memory gives."""
    if draft.kernel.op not in _POINTWISE or draft.words[pointwise.M] * _BYTES_A_PRODUCT < FLOAT:
        return pointwise.NO_PREFETCH
    tile = draft.kernel.parameters
    products = tile.rows * tile.columns(isas.by_name(draft.kernel.isa).lanes)
    if draft.kernel.op == "crossed":
        products *= 2  # three, in the time of two
    shift = 0
    while shift < _LARGEST_SHIFT and _BYTES_A_PRODUCT * (products << shift) < _LINE_BYTES:
        shift += 1
    return shift


def _coverage(draft: Draft, shift: int) -> int:
    """Bytes that a layer asks for: a line every ``2**shift`` steps along its input channels, in every tile."""
    if shift == pointwise.NO_PREFETCH:
        return 0
    w, tile, r = draft.words, draft.kernel.parameters, pointwise
    tiles: int = w[r.PANELS] * -(-w[r.M] // tile.rows)
    turns = crossed.third(w[r.K]) if draft.kernel.op == "crossed" else w[r.K]
    return tiles * (turns >> shift) * _LINE_BYTES


def _behind_panel(draft: Draft, weights: WeightStore, origin: Hashable, end: int) -> int:
    """From where on a layer need not read for itself what it would ask for: its second panel, or the next layer's."""
    key = draft.weights.get(words.WEIGHTS)
    if key is None or weights.place(key).region != weights.place(origin).region:
        return end
    packed: int = draft.kernel.parameters.packed_columns(isas.by_name(draft.kernel.isa).lanes)
    rows = weights.size(key) // (FLOAT * packed * draft.words[pointwise.PANELS])
    return weights.place(key).offset + FLOAT * rows * packed


def _asking(draft: Draft, weights: WeightStore, origin: Hashable, first: int, target: int) -> tuple[Draft, int]:
    """A pointwise layer that asks from ``first`` to ``target`` as slowly as it can, and up to where it does."""
    r = pointwise
    shift = _slowest(draft)
    if first >= target or _coverage(draft, shift) == 0:
        return draft, first
    while shift < _LARGEST_SHIFT and first + _coverage(draft, shift + 1) >= target:
        shift += 1
    ahead = Buffer(-3, "weights", 0, key=origin), first - weights.place(origin).offset
    asking = replace(draft, words={**draft.words, r.PREFETCH_SHIFT: shift}, operands={**draft.operands, r.AHEAD: ahead})
    return asking, min(first + _coverage(draft, shift), target)
