"""Lays a program out as words and relocations: its request, a block for each thread, and its tables of steps.

It must not plan, compile or run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sepcore.kernels import chain
from sepcore.kernels import step as words
from sepcore.kernels.runtime import layout, walk
from sepcore.plan.pages import aligned
from sepcore.plan.program import Operand, Program, Step
from sepcore.runtime.linked import ARENA, FIRST_REGION, INPUT, OUTPUT, TABLE, Linked
from sepcore.runtime.pool import WALK_IMAGES

_THREAD_BYTES = 8 * 128
_REQUEST_BYTES = 8 * 16


def link(program: Program) -> Linked:
    """The words of a program.

    One image: its steps and those of the batch stand in one table, and threads share the tiles of each step; another
    table has those of the program that a caller runs alone.
    Several images: each thread takes images alone, on a table and an arena of its own; then all share the steps of
    the batch.
    """
    return _Layout(program).linked()


class _Layout:
    """Request, thread blocks, the shared table, one table of image steps for each copy, those of chains, and the one of
    the program that is run alone, with its chains."""

    def __init__(self, program: Program) -> None:
        self.program, threads = program, program.threads
        both = [program] if program.alone is None else [program, program.alone]
        self.kernels = (*program.kernels(), WALK_IMAGES)
        self.regions = 1 + max((region for one in both for region in _regions(one.steps)), default=-1)
        self.copies = 1 if program.batch == 1 else threads
        self.private = aligned(max(one.private_bytes for one in both))
        self.scratch = aligned(max(one.scratch_bytes for one in both))
        self.shared_at = self.copies * self.private
        self.scratch_at = self.shared_at + aligned(max(one.shared_bytes for one in both))
        self.arena_bytes = self.scratch_at + threads * self.scratch
        self.table_at = _REQUEST_BYTES + threads * _THREAD_BYTES
        self.table_bytes = len(program.image_steps) * words.STEP_BYTES
        self.copies_at = self.table_at + (1 + len(program.steps)) * words.STEP_BYTES
        self.chains_at = self.copies_at + self.copies * self.table_bytes
        self.alone_at = self.chains_at + threads * _chain_bytes(program)
        size = self.alone_at
        if program.alone:
            self.alone_chains_at = self.alone_at + len(program.alone.steps) * words.STEP_BYTES
            size = self.alone_chains_at + _chain_bytes(program.alone)
        self.words = [0] * (size // words.WORD_BYTES)
        self.relocations: list[tuple[int, int]] = []
        self.arguments: list[tuple[int, int, int]] = []
        self.chains: dict[int, tuple[int, int]] = {}

    def linked(self) -> Linked:
        """Write everything."""
        program = self.program
        self._blocks()
        self._chains(self.chains_at, program, program.threads)
        if program.batch == 1:
            self._table(self.table_at, program.steps, 0)
            count = len(program.steps)
        else:
            self._images()
            self._table(self.table_at + words.STEP_BYTES, program.batch_steps, 0)
            count = 1 + len(program.batch_steps)
        self._request(count)
        if program.alone:
            self._chains(self.alone_chains_at, program.alone, 1)
            self._table(self.alone_at, program.alone.steps, 0)
            self._put(layout.ALONE_PROGRAM, self.alone_at, TABLE)
            self._put(layout.ALONE_STEPS, len(program.alone.steps))
        else:
            self._put(layout.ALONE_PROGRAM, self.table_at, TABLE)
            self._put(layout.ALONE_STEPS, count)
        return Linked(
            program.threads,
            tuple((spec.name, spec.shape) for spec in program.inputs),
            tuple((spec.name, spec.shape) for spec in program.outputs),
            self.regions,
            self.kernels,
            self.arena_bytes,
            np.array(self.words, np.int64),
            np.array(self.relocations, np.int64).reshape(-1, 2),
            np.array(self.arguments, np.int64).reshape(-1, 3),
        )

    def _put(self, at: int, value: int, base: int | None = None) -> None:
        self.words[at] = value
        if base is not None:
            self.relocations.append((at, base))

    def _kernel(self, name: str) -> int:
        return FIRST_REGION + self.regions + self.kernels.index(name)

    def _request(self, steps: int) -> None:
        self._put(layout.PROGRAM, self.table_at, TABLE)
        self._put(layout.STEPS, steps)
        self._put(layout.IMAGES, 1)
        self._put(layout.THREADS, self.program.threads)
        self._put(layout.THREAD_BLOCKS, _REQUEST_BYTES, TABLE)
        self._put(layout.THREAD_BLOCK_BYTES, _THREAD_BYTES)

    def _blocks(self) -> None:
        for t in range(self.program.threads):
            at = (_REQUEST_BYTES + t * _THREAD_BYTES) // words.WORD_BYTES
            self._put(at + words.THREAD_INDEX, t)
            self._put(at + words.THREAD_SCRATCH, self.scratch_at + t * self.scratch, ARENA)
            self._put(at + words.THREAD_SCRATCH_BYTES, self.scratch)

    def _images(self) -> None:
        """The step that takes the images through copies of the image steps, one copy a thread."""
        for t in range(self.copies):
            self._table(self.copies_at + t * self.table_bytes, self.program.image_steps, t)
        at = self.table_at // words.WORD_BYTES
        self._put(at + words.CODE, 0, self._kernel(WALK_IMAGES))
        self._put(at + words.TILES, min(self.program.batch, layout.MAX_TILES))
        self._put(at + walk.FIRST_TABLE, self.copies_at, TABLE)
        self._put(at + walk.TABLE_BYTES, self.table_bytes)
        self._put(at + walk.TABLE_STEPS, len(self.program.image_steps))
        self._put(at + walk.TABLE_IMAGES, self.program.batch)

    def _chains(self, at: int, program: Program, threads: int) -> None:
        """The rows of every chain, once for each thread: they use its scratch memory, and its image's arena."""
        for step in program.image_steps:
            size = _rows(step) * words.STEP_BYTES
            if step.chain:
                self.chains[id(step)] = (at, size)
            for t in range(threads if step.chain else 0):
                self._table(at, [row for run in step.chain for row in run], min(t, self.copies - 1), t)
                at += size

    def _table(self, at: int, steps: Sequence[Step], copy: int, thread: int = 0) -> None:
        for i, step in enumerate(steps):
            self._step((at + i * words.STEP_BYTES) // words.WORD_BYTES, step, copy, thread)

    def _step(self, at: int, step: Step, copy: int, thread: int) -> None:
        self._put(at + words.CODE, 0, self._kernel(step.kernel))
        self._put(at + words.TILES, step.tiles)
        for word, value in step.words.items():
            self._put(at + word, value)
        if step.epilogue:
            self._put(at + words.PARAMETERS, 0, self._kernel(step.epilogue))
        if step.chain:
            first, size = self.chains[id(step)]
            self._put(at + chain.FIRST_TABLE, first, TABLE)
            self._put(at + chain.TABLE_BYTES, size)
            return  # its operands are those of its rows
        for word, operand in step.operands.items():
            self._operand(at + word, operand, copy, thread)
            if operand.space != "weights" and word != words.WEIGHTS:
                self._put(at + word + 1, operand.image_bytes)

    def _operand(self, at: int, operand: Operand, copy: int, thread: int) -> None:
        if operand.space in ("input", "output"):
            self._put(at, operand.offset)
            self.arguments.append((at, INPUT if operand.space == "input" else OUTPUT, operand.index))
        elif operand.space == "weights":
            self._put(at, operand.offset, FIRST_REGION + operand.index)
        else:
            start = {
                "private": copy * self.private,
                "shared": self.shared_at,
                "scratch": self.scratch_at + thread * self.scratch,
            }
            self._put(at, start[operand.space] + operand.offset, ARENA)


def _rows(step: Step) -> int:
    """Of a chain."""
    return sum(map(len, step.chain))


def _chain_bytes(program: Program) -> int:
    """The tables of its chains, for one thread."""
    return sum(map(_rows, program.image_steps)) * words.STEP_BYTES


def _regions(steps: Sequence[Step]) -> Iterator[int]:
    """The regions of packed weights that steps read."""
    for step in steps:
        yield from (operand.index for operand in step.operands.values() if operand.space == "weights")
        for run in step.chain:
            yield from _regions(run)
