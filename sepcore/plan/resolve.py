"""Turns drafts into steps: every buffer gets its place in an arena, and operands the offsets that follow from it.

It must not choose or reorder steps.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from sepcore.kernels import step as words
from sepcore.plan.drafts import Draft
from sepcore.plan.memory import Lifetime, lay_out
from sepcore.plan.program import Operand, Step
from sepcore.plan.weights import WeightStore


def arenas(drafts: Sequence[Draft]) -> tuple[dict[int, int], dict[str, int]]:
    """Offset of every buffer in its arena, by id, and the sizes of the arenas "private" and "shared", in bytes."""
    offsets: dict[int, int] = {}
    sizes: dict[str, int] = {}
    for space in ("private", "shared"):
        lives: dict[int, Lifetime] = {}
        for i, draft in enumerate(drafts):
            for buffer, _ in draft.operands.values():
                if buffer.space != space:
                    continue
                # Shared memory is filled image by image, so all of it is alive from the first step on.
                first = 0 if space == "shared" and not draft.batched else i
                life = lives.get(buffer.id, Lifetime(buffer.size, first, i))
                lives[buffer.id] = life._replace(first=min(life.first, first), last=max(life.last, i))
        at, sizes[space] = lay_out(list(lives.values()))
        offsets.update(zip(lives, at))
    return offsets, sizes


def resolved(draft: Draft, offsets: Mapping[int, int], weights: WeightStore, zeros: Hashable) -> Step:
    """The step of a draft; ``zeros`` is the key of the block of the weights that holds zeros."""
    operands: dict[int, Operand] = {}
    for word, (buffer, offset) in draft.operands.items():
        base = offsets.get(buffer.id, 0) if buffer.id >= 0 else 0
        if buffer.space == "weights":
            operands[word] = _in_weights(weights, buffer.key, offset)
            continue
        image_bytes = 0 if draft.batched and buffer.space == "shared" else buffer.image_bytes
        operands[word] = Operand(buffer.space, base + offset, buffer.index, image_bytes)
    for word, key in draft.weights.items():
        operands[word] = _in_weights(weights, zeros if key == "zeros" else key, 0)
    chain = tuple(tuple(resolved(row, offsets, weights, zeros) for row in run) for run in draft.chain)
    rows = (draft, *(row for run in draft.chain for row in run))
    packed = {row.weights[words.WEIGHTS] for row in rows if words.WEIGHTS in row.weights}
    return Step(
        draft.kernel.name,
        draft.tiles,
        draft.words,
        operands,
        draft.node,
        draft.macs,
        chain,
        draft.choice,
        sum(draft.traffic.values()),
        sum(map(weights.size, packed)),
        draft.epilogue.name if draft.epilogue else "",
    )


def _in_weights(weights: WeightStore, key: Hashable, offset: int) -> Operand:
    region, first = weights.place(key)
    return Operand("weights", first + offset, region)
