"""A program as words and relocations, which any process can put into its memory; it must not know steps or plans.

This is all that running takes. It has no addresses, so it can be kept in a file; but whoever can change it decides
which memory native code reads and writes: it is only ever taken from where machine code would be.
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLE, ARENA, FIRST_REGION = range(3)
"""Numbers of the bases that relocations name: the words' own memory, the call's arena, then the regions of packed
weights, then the kernels."""

INPUT, OUTPUT = range(2)

WORD_BYTES = 8


class Linked(NamedTuple):
    """One program.

    Attributes
    ----------
    threads : that its request asks for.
    inputs, outputs : names and shapes for one batch; float32.
    regions : how many regions of packed weights it reads.
    kernels : names of the functions it calls.
    arena_bytes : memory that a call in flight needs beside the words.
    words : request, blocks of threads and tables of steps, see ``sepcore.kernels.runtime.layout``.
    relocations : (index of a word, number of a base): the base's address has to be added to the word.
    arguments : (index of a word, INPUT or OUTPUT, index of the caller's array): its address has to be added.
    """

    threads: int
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    regions: int
    kernels: tuple[str, ...]
    arena_bytes: int
    words: NDArray[np.int64]
    relocations: NDArray[np.int64]
    arguments: NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """What :func:`from_bytes` reads: a length, as much JSON, and the arrays' integers, little-endian."""
        arrays = (self.words, self.relocations, self.arguments)
        head = json.dumps([*self[:6], [array.shape for array in arrays]], separators=(",", ":")).encode("ascii")
        head += b" " * (-len(head) % WORD_BYTES)
        return b"".join([len(head).to_bytes(WORD_BYTES, "little"), head, *(a.astype("<i8").tobytes() for a in arrays)])


def from_bytes(content: bytes) -> Linked:
    """The program that ``to_bytes`` wrote; only for content that is known to come from there."""
    end = WORD_BYTES + int.from_bytes(content[:WORD_BYTES], "little")
    threads, inputs, outputs, regions, kernels, arena_bytes, shapes = json.loads(content[WORD_BYTES:end])
    words, relocations, arguments = (tuple(shape) for shape in shapes)
    integers: NDArray[np.int64] = np.frombuffer(content, "<i8", offset=end).astype(np.int64, copy=False)
    ends = np.cumsum([prod(words), prod(relocations)])
    first, second, third = np.split(integers, ends)
    return Linked(
        threads,
        tuple((name, tuple(shape)) for name, shape in inputs),
        tuple((name, tuple(shape)) for name, shape in outputs),
        regions,
        tuple(kernels),
        arena_bytes,
        first,
        second.reshape(relocations),
        third.reshape(arguments),
    )
