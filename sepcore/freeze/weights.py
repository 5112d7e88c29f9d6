"""Packed weights laid out for a file, and how those of one CPU level are made from another's by copying alone.

So a folder for several levels holds the weights once. Layers of the best level may multiply scaled weights: those are
in the file, and scaled back before other levels are copied from them. It must not write files.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.crossed import pack as crossed
from sepcore.kernels.crossed.balance import unbalance
from sepcore.kernels.crossed.rows import panel_rows
from sepcore.plan.pages import aligned
from sepcore.plan.weights import Place, WeightStore
from sepcore.runtime.frozen import COPY_WORDS, repack

_MAX_IDS = 1 << 24
"""Integers up to here are exact in float32."""
_MAX_LOOPS = 4

Loops = tuple[tuple[int, int, int], ...]
"""Length, stride there and stride here of nested loops, outermost first; strides in float32 values."""

Groups = dict[Loops, list[tuple[int, int]]]
"""Where copies of one form go to and where they start, in the order of their targets."""


@dataclass(frozen=True)
class Block:
    """Packed weights at ``offset`` bytes, and what ``make(*arguments)`` made them of.

    Attributes
    ----------
    plain : what copies are made from: the content, but for scaled weights.
    shape : of scaled weights: panels, rows and columns.
    """

    offset: int
    content: NDArray[np.uint8]
    plain: NDArray[np.uint8]
    make: Callable[..., NDArray[Any]]
    arguments: tuple[Any, ...]
    shape: tuple[int, ...] = ()


def _block(offset: int, make: Callable[..., NDArray[Any]], arguments: tuple[Any, ...]) -> Block:
    content = np.ascontiguousarray(make(*arguments)).reshape(-1)
    if make is not crossed.pack:
        raw = content.view(np.uint8)
        return Block(offset, raw, raw, make, arguments)
    weight, _, lanes = arguments
    shape = (-1, panel_rows(weight.shape[1]), lanes)
    plain = content.copy().reshape(shape)
    unbalance(plain)
    return Block(
        offset, content.view(np.uint8), plain.reshape(-1).view(np.uint8), crossed.arranged, arguments, plain.shape
    )


class LaidOutWeights(WeightStore):
    """A store whose one region is to be in a file, in the order in which blocks were first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: dict[Hashable, Block] = {}

    def reserve(self, key: Hashable, make: Callable[..., NDArray[Any]], *arguments: Any) -> Hashable:
        if key not in self.blocks:
            self.blocks[key] = block = _block(self.bytes, make, arguments)
            self.bytes += aligned(block.content.nbytes)
        return key

    def seal(self) -> None:
        """Nothing is left to be done: a block's place is known when it is asked for."""

    def place(self, key: Hashable) -> Place:
        return Place(0, self.blocks[key].offset)

    def size(self, key: Hashable) -> int:
        return self.blocks[key].content.nbytes

    def content(self) -> NDArray[np.uint8]:
        """All blocks in their places, with zeros between them."""
        whole = np.zeros(self.bytes, np.uint8)
        for block in self.blocks.values():
            whole[block.offset : block.offset + block.content.nbytes] = block.content
        return whole


class WeightsFile:
    """The content of a weights file: the blocks of one level, then what other levels have that cannot be copied."""

    def __init__(self, first: LaidOutWeights) -> None:
        self._parts = [first.content()]
        self._size = first.bytes
        plain = (block for block in first.blocks.values() if not block.shape)
        self._by_content = {block.content.tobytes(): block.offset for block in plain}
        self._by_node = {_made_of(key, block): block for key, block in first.blocks.items() if block.arguments}
        self.scaled = [[block.offset, *block.shape] for block in first.blocks.values() if block.shape]
        """Offset, panels, rows and columns of the scaled blocks, which are scaled back before anything is copied."""

    def content(self) -> NDArray[np.uint8]:
        """The whole file."""
        return np.concatenate(self._parts)

    def copies(self, other: LaidOutWeights) -> NDArray[np.int64]:
        """The copies that make the blocks of ``other`` out of this file, COPY_WORDS integers each.

        A block is copied element by element from the block of the same node if that holds them all, whole where an
        equal one is in the file, and else appended to the file.
        """
        rows: list[list[int]] = []
        for key, block in other.blocks.items():
            if block.content.any():
                rows += self._copies_of(key, block)
        return np.array(rows, np.int64).reshape(-1, COPY_WORDS)

    def _copies_of(self, key: Hashable, block: Block) -> list[list[int]]:
        content = block.content.tobytes()
        if content not in self._by_content:
            source = self._by_node.get(_made_of(key, block))
            rows = None if source is None else _repacking(source, block)
            if rows is not None:
                return rows
            self._append(content)
        return [_row(block.offset // 4, self._by_content[content] // 4, ((len(content) // 4, 1, 1),))]

    def _append(self, content: bytes) -> None:
        padded = np.zeros(aligned(len(content)), np.uint8)
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        self._parts.append(padded)
        self._by_content[content] = self._size
        self._size += padded.nbytes


def _made_of(key: Hashable, block: Block) -> tuple[object, ...]:
    """The node whose weights a block holds, and how many values of it."""
    return (key[0] if isinstance(key, tuple) else key, *(array.size for array in block.arguments if _floats(array)))


def _floats(argument: object) -> bool:
    return isinstance(argument, np.ndarray) and argument.dtype == np.float32


def _repacking(source: Block, target: Block) -> list[list[int]] | None:
    """Copies that make ``target`` from ``source``; None where packing did more than to move values."""
    here, there = _traced(source), _traced(target)
    if here is None or there is None:
        return None
    places = np.full(max(int(here.max()), int(there.max())) + 1, -1, np.int64)
    places[here[::-1]] = np.arange(here.size)[::-1]  # of a value that is there twice, the first
    places[0] = -1
    origin = places[there]
    if (origin[there > 0] < 0).any():
        return None
    rows = [_row(target.offset // 4 + to, source.offset // 4 + start, loops) for to, start, loops in nested(origin)]
    made = np.zeros(target.content.nbytes, np.uint8)
    moved = np.array(rows, np.int64)
    moved[:, :2] -= [target.offset // 4, source.offset // 4]
    repack(source.plain, moved, made)
    return rows if np.array_equal(made, target.content) else None


def _traced(block: Block) -> NDArray[np.int64] | None:
    """For each packed value which of the unpacked ones it is, from 1; 0 where it is none of them but padding."""
    count = 0
    numbered: list[Any] = []
    for argument in block.arguments:
        if _floats(argument):
            ids = np.arange(count + 1, count + 1 + argument.size, dtype=np.float32)
            numbered.append(ids.reshape(argument.shape))
            count += argument.size
        else:
            numbered.append(argument)
    if count >= _MAX_IDS:
        return None
    packed = np.ascontiguousarray(block.make(*numbered)).reshape(-1)
    ids = packed.astype(np.int64)
    moved = packed.dtype == np.float32 and np.array_equal(ids, packed) and ids.min() >= 0 and ids.max() <= count
    return ids if moved else None


def nested(origin: NDArray[np.int64]) -> list[tuple[int, int, Loops]]:
    """``origin`` as few copies: where to, where from, and loops that take the values there one by one.

    Parameters
    ----------
    origin : for each value where it comes from, -1 for nowhere.
    """
    there = np.flatnonzero(origin >= 0)
    here = origin[there]
    if there.size == 0:
        return []
    first = np.flatnonzero(np.concatenate([[True], (np.diff(there) != 1) | (np.diff(here) != 1)]))
    lengths = np.diff(np.concatenate([first, [there.size]]))
    groups: Groups = {}
    for to, start, length in zip(there[first].tolist(), here[first].tolist(), lengths.tolist()):
        groups.setdefault(((length, 1, 1),), []).append((to, start))
    for _ in range(_MAX_LOOPS - 1):
        groups = _rolled(groups)
    return [(to, start, loops) for loops, places in groups.items() for to, start in places]


def _rolled(groups: Groups) -> Groups:
    """Runs of copies of the same form, at equal distances from each other, each as one copy with a loop around it."""
    rolled: Groups = {}
    for loops, places in groups.items():
        i = 0
        while i < len(places):
            to, start = places[i]
            steps = (places[i + 1][0] - to, places[i + 1][1] - start) if i + 1 < len(places) else (0, 0)
            count = 1
            while i + count < len(places) and places[i + count] == (to + count * steps[0], start + count * steps[1]):
                count += 1
            around = ((count, *steps), *loops) if count > 1 else loops
            rolled.setdefault(around, []).append((to, start))
            i += count
    return rolled


def _row(to: int, start: int, loops: Loops) -> list[int]:
    outer = ((1, 0, 0),) * (_MAX_LOOPS - len(loops))
    return [to, start, *(number for loop in (*outer, *loops) for number in loop)]
