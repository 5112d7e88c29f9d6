"""Decides which weights a step asks for ahead of their use; results do not depend on it.

Weights lie in memory in the order of their use, and are used once an image: a network's do not stay in caches that it
shares with others. Layers of many pixels take longer to compute than memory takes to bring their weights; layers of
one pixel do nothing but wait for theirs. So the former ask, step by step, for all weights up to a lead. The latter
ask for nothing: they take all that memory gives, and a second row of requests takes a seventh of it away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sepcore.kernels import isa as isas
from sepcore.kernels import step as words
from sepcore.kernels.pointwise import rows as pointwise
from sepcore.plan.drafts import Draft
from sepcore.plan.weights import Place, WeightStore

_LEAD_BYTES = 2 << 20
"""What is asked for and not yet used. On a machine whose third cache other tenants empty within a millisecond, half a
MiB to 4 MiB are alike; on a quiet one, 512 KiB win half as much as 4 MiB on MobileNetV3-Large, and 16 MiB less."""

_LINE_BYTES = 64
_LARGEST_SHIFT = 8
_NOTHING_SHIFT = 62  # asks for one line, again and again


def prefetch_ahead(drafts: Sequence[Draft], weights: WeightStore) -> list[Draft]:
    """The drafts, in the order they run, with the words by which pointwise layers prefetch.

    Layers of a chain prefetch nothing new: each band reads the same weights.
    """
    out = []
    asked = Place(-1, 0)  # where all before it has been asked for
    ends: dict[int, int] = {}  # of each region of the weights; what is behind may be no memory at all
    for draft in drafts:
        for key in draft.weights.values():
            if key != "zeros":
                place = weights.place(key)
                ends[place.region] = max(ends.get(place.region, 0), place.offset + weights.size(key))
    for draft in drafts:
        if draft.kernel.op in ("pointwise", "pointwise_gathered") and words.WEIGHTS in draft.weights:
            key = draft.weights[words.WEIGHTS]
            own = weights.place(key)
            draft, asked = _asking(draft, own, weights.size(key), asked, ends[own.region])
        out.append(draft)
    return out


def _asking(draft: Draft, own: Place, size: int, asked: Place, last: int) -> tuple[Draft, Place]:
    """A pointwise layer whose ``size`` bytes of weights are at ``own``, and up to where it asks: ``last`` at most."""
    w, tile, r = draft.words, draft.kernel.parameters, pointwise
    panel_bytes = 4 * (w[r.K] + 1) * tile.packed_columns(isas.by_name(draft.kernel.isa).lanes)
    first = own.offset + panel_bytes
    if asked.region == own.region:
        first = max(first, asked.offset)
    end = min(own.offset + size + _LEAD_BYTES, last)
    if first >= end or w[r.M] == 1:
        return replace(draft, words={**w, r.AHEAD: 0, r.PREFETCH_SHIFT: _NOTHING_SHIFT}), asked
    tiles: int = w[r.PANELS] * -(-w[r.M] // tile.rows)

    def covered(shift: int) -> int:
        return tiles * (w[r.K] >> shift) * _LINE_BYTES

    shift = 0
    while shift < _LARGEST_SHIFT and first + covered(shift) > end and covered(shift + 1) > size:
        shift += 1
    draft = replace(draft, words={**w, r.AHEAD: first - own.offset, r.PREFETCH_SHIFT: shift})
    return draft, Place(own.region, min(first + covered(shift), end))
