"""A program as words and relocations, which any process can put into its memory; it must not know steps or plans.

This is all that running takes. It has no addresses, so it can be kept in a file; but whoever can change it decides
which memory native code reads and writes: it is only ever taken from where machine code would be.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from sepcore.runtime.parts import Bytes, Reader, integers, texts

if TYPE_CHECKING:
    import numpy as np
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
        """What :func:`from_bytes` reads."""
        shapes = [shape for _, shape in (*self.inputs, *self.outputs)]
        return b"".join(
            [
                integers([self.threads, self.regions, self.arena_bytes, len(self.inputs)]),
                texts([name for name, _ in (*self.inputs, *self.outputs)]),
                integers([len(shape) for shape in shapes]),
                integers([length for shape in shapes for length in shape]),
                texts(self.kernels),
                *(integers(array.reshape(-1)) for array in (self.words, self.relocations, self.arguments)),
            ]
        )


def from_bytes(content: Bytes) -> Linked:
    """The program that ``to_bytes`` wrote; only for content that is known to come from there."""
    reader = Reader(content)
    threads, regions, arena_bytes, inputs = reader.integers()
    names, ranks, lengths = reader.texts(), reader.integers(), iter(reader.integers())
    arrays = tuple((name, tuple(islice(lengths, rank))) for name, rank in zip(names, ranks))
    kernels = tuple(reader.texts())
    words, relocations, arguments = reader.array(), reader.array().reshape(-1, 2), reader.array().reshape(-1, 3)
    return Linked(
        threads, arrays[:inputs], arrays[inputs:], regions, kernels, arena_bytes, words, relocations, arguments
    )
