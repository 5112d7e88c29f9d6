"""A program's own memory and its step table with real addresses: what one call in flight needs.

A context is used by one call at a time. It must not plan or compile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels import chain
from sepcore.kernels import step as words
from sepcore.kernels.runtime import layout, walk
from sepcore.plan.memory import aligned
from sepcore.plan.program import Operand, Program, Step
from sepcore.plan.weights import anonymous_memory

_THREAD_WORDS = 128
_THREAD_BYTES = 8 * _THREAD_WORDS
_REQUEST_BYTES = 8 * 16


class Context:
    """Arenas, thread blocks, step tables and the request of one program.

    One image: its steps and those of the batch stand in one table, and threads share the tiles of each step.
    Several images: each thread takes images alone, on a table and an arena of its own; then all share the steps of
    the batch.

    Parameters
    ----------
    addresses : of the kernels, by name.
    walk_images : name of the kernel that takes images through a program.
    weights : address that operands in the space "weights" are counted from.
    """

    def __init__(self, program: Program, addresses: Mapping[str, int], walk_images: str, weights: int = 0) -> None:
        self.program = program
        threads = program.threads
        self._copies = 1 if program.batch == 1 else threads
        private, shared = aligned(program.private_bytes), aligned(program.shared_bytes)
        scratch = aligned(program.scratch_bytes)
        self._memory, base = anonymous_memory(self._copies * private + shared + threads * scratch)
        self._private = [base + t * private for t in range(self._copies)]
        self._shared = base + self._copies * private
        self._scratch = [self._shared + shared + t * scratch for t in range(threads)]
        self._addresses, self._weights = addresses, weights
        self._caller: list[tuple[int, str, int, int]] = []
        self._allocate(threads)
        self._blocks(scratch)
        self._write_chains(threads)
        if program.batch == 1:
            self._write_all(self._program, program.steps, 0)
            count = len(program.steps)
        else:
            self._write_images(walk_images)
            self._write_all(self._program + words.STEP_BYTES, program.batch_steps, 0)
            count = 1 + len(program.batch_steps)
        request = self._at(self.request)
        self._words[request + layout.PROGRAM] = self._program
        self._words[request + layout.STEPS] = count
        self._words[request + layout.IMAGES] = 1
        self._words[request + layout.THREADS] = threads
        self._words[request + layout.THREAD_BLOCKS] = self._first_block
        self._words[request + layout.THREAD_BLOCK_BYTES] = _THREAD_BYTES

    def _allocate(self, threads: int) -> None:
        """One block: request, thread blocks, the shared table, then one table of image steps for each copy."""
        rows = 1 + len(self.program.steps)
        self._table_bytes = len(self.program.image_steps) * words.STEP_BYTES
        chained = [sum(map(len, step.chain)) for step in self.program.image_steps]
        self._chain_bytes = [count * words.STEP_BYTES for count in chained]
        size = _REQUEST_BYTES + threads * _THREAD_BYTES + rows * words.STEP_BYTES
        size += self._copies * self._table_bytes + threads * sum(self._chain_bytes)
        self._table_memory, self.request = anonymous_memory(size)
        start = self.request - self._table_memory.ctypes.data
        self._words: NDArray[np.int64] = self._table_memory[start : start + size].view(np.int64)
        self._first_block = self.request + _REQUEST_BYTES
        self._program = self._first_block + threads * _THREAD_BYTES
        self._first_table = self._program + rows * words.STEP_BYTES
        self._first_chain = self._first_table + self._copies * self._table_bytes

    def _at(self, address: int) -> int:
        return (address - self.request) // 8

    def _blocks(self, scratch: int) -> None:
        for t, memory in enumerate(self._scratch):
            at = self._at(self._first_block + t * _THREAD_BYTES)
            self._words[at + words.THREAD_INDEX] = t
            self._words[at + words.THREAD_SCRATCH] = memory
            self._words[at + words.THREAD_SCRATCH_BYTES] = scratch

    def _write_images(self, walk_images: str) -> None:
        """The step that takes the images through copies of the image steps, one copy a thread."""
        for t in range(self._copies):
            self._write_all(self._first_table + t * self._table_bytes, self.program.image_steps, t)
        row = self._words[self._at(self._program) :]
        row[words.CODE] = self._addresses[walk_images]
        row[words.TILES] = min(self.program.batch, layout.MAX_TILES)
        row[walk.FIRST_TABLE] = self._first_table
        row[walk.TABLE_BYTES] = self._table_bytes
        row[walk.TABLE_STEPS] = len(self.program.image_steps)
        row[walk.TABLE_IMAGES] = self.program.batch

    def _write_chains(self, threads: int) -> None:
        """The rows of every chain, once for each thread: they use its scratch memory, and its image's arena."""
        self._chains: dict[int, tuple[int, int]] = {}
        at = self._first_chain
        for step, size in zip(self.program.image_steps, self._chain_bytes):
            if step.chain:
                self._chains[id(step)] = (at, size)
            for t in range(threads if step.chain else 0):
                self._write_all(at, [row for run in step.chain for row in run], min(t, self._copies - 1), t)
                at += size

    def _write_all(self, table: int, steps: Sequence[Step], copy: int, thread: int = 0) -> None:
        for i, step in enumerate(steps):
            self._write(self._at(table + i * words.STEP_BYTES), step, copy, thread)

    def _write(self, at: int, step: Step, copy: int, thread: int) -> None:
        row = self._words[at : at + words.WORDS]
        row[words.CODE] = self._addresses[step.kernel]
        row[words.TILES] = step.tiles
        for word, value in step.words.items():
            row[word] = value
        if step.chain:
            row[chain.FIRST_TABLE], row[chain.TABLE_BYTES] = self._chains[id(step)]
            return  # its operands are those of its rows
        for word, operand in step.operands.items():
            row[word] = self._address(operand, copy, thread)
            if operand.space != "weights":
                row[word + 1] = operand.image_bytes
            if operand.space in ("input", "output"):
                self._caller.append((at + word, operand.space, operand.index, operand.offset))

    def _address(self, operand: Operand, copy: int, thread: int) -> int:
        bases = {
            "private": self._private[copy],
            "shared": self._shared,
            "scratch": self._scratch[thread],
            "weights": self._weights,
        }
        return bases.get(operand.space, 0) + operand.offset

    def point_at(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Set the addresses of the caller's arrays."""
        for at, space, index, offset in self._caller:
            self._words[at] = (inputs if space == "input" else outputs)[index] + offset
