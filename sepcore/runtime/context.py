"""A program's own memory and its step table with real addresses: what one call in flight needs.

A context is used by one call at a time. It must not plan or compile.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels import step as words
from sepcore.plan.memory import aligned
from sepcore.plan.program import Operand, Program, Step
from sepcore.plan.weights import anonymous_memory

_THREAD_WORDS = 128
_THREAD_BYTES = 8 * _THREAD_WORDS


class Context:
    """Arenas, thread blocks and relocated step tables of ``workers`` threads for one program.

    Worker t walks the image steps in table t, whose private operands lie in arena t; the batch steps stand once.
    """

    def __init__(self, program: Program, addresses: Mapping[str, int], workers: int) -> None:
        self.program = program
        self.workers = workers
        private = aligned(program.private_bytes)
        shared = aligned(program.shared_bytes)
        scratch = aligned(program.scratch_bytes)
        self._memory, base = anonymous_memory(workers * (private + scratch) + shared)
        self._bases = [base + t * private for t in range(workers)]
        self._shared = base + workers * private
        scratches = [self._shared + shared + t * scratch for t in range(workers)]
        rows = len(program.image_steps)
        self.table_bytes = max(1, rows) * words.STEP_BYTES
        size = workers * self.table_bytes + len(program.batch_steps) * words.STEP_BYTES
        self._table_memory, self.image_table = anonymous_memory(size + workers * _THREAD_BYTES)
        self.batch_table = self.image_table + workers * self.table_bytes
        self.thread_blocks = [self.image_table + size + t * _THREAD_BYTES for t in range(workers)]
        offset = self.image_table - self._table_memory.ctypes.data
        self._words: NDArray[np.int64] = self._table_memory[offset : offset + size + workers * _THREAD_BYTES].view(np.int64)
        self._caller: list[tuple[int, str, int, int]] = []
        for t in range(workers):
            for i, step in enumerate(program.image_steps):
                self._write((t * self.table_bytes) // 8 + i * words.WORDS, step, addresses, t)
        for i, step in enumerate(program.batch_steps):
            self._write((self.batch_table - self.image_table) // 8 + i * words.WORDS, step, addresses, 0)
        for t, block in enumerate(self.thread_blocks):
            at = (block - self.image_table) // 8
            self._words[at + words.THREAD_INDEX] = t
            self._words[at + words.THREAD_SCRATCH] = scratches[t]
            self._words[at + words.THREAD_SCRATCH_BYTES] = scratch

    def _write(self, at: int, step: Step, addresses: Mapping[str, int], worker: int) -> None:
        row = self._words[at : at + words.WORDS]
        row[words.CODE] = addresses[step.kernel]
        row[words.TILES] = step.tiles
        for word, value in step.words.items():
            row[word] = value
        for word, operand in step.operands.items():
            row[word] = self._address(operand, worker)
            if operand.space != "weights":
                row[word + 1] = operand.image_bytes
            if operand.space in ("input", "output"):
                self._caller.append((at + word, operand.space, operand.index, operand.offset))

    def _address(self, operand: Operand, worker: int) -> int:
        base = {"private": self._bases[worker], "shared": self._shared}.get(operand.space, 0)
        return base + operand.offset

    def point_at(self, inputs: list[int], outputs: list[int]) -> None:
        """Set the addresses of the caller's arrays."""
        for at, space, index, offset in self._caller:
            self._words[at] = (inputs if space == "input" else outputs)[index] + offset
