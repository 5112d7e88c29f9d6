"""Whether bytes are still what they once were, found out as fast as memory can be read; it must not know formats.

Not against an enemy: who can choose the bytes can keep the sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from sepcore.digest import sha256

if TYPE_CHECKING:
    import mmap

    from numpy.typing import NDArray

_ROW_WORDS = 512
_ROW_BYTES = 8 * _ROW_WORDS
CHUNK_BYTES = 1 << 20
"""Bytes that are summed at a time: they are still in the second cache when they are summed the other way."""


def sums(chunks: Iterable[NDArray[np.uint8]]) -> str:
    """A checksum of the bytes of ``chunks``, of which all but the last have CHUNK_BYTES: 64 hexadecimal digits.

    The bytes, with zeros up to a whole page, are a table of 64-bit integers, a page in a row. What is hashed are the
    sums of its rows and of its columns, modulo 2**64. Any damage to up to three integers changes one of them, and so
    does any damage within a page; more can only stay unseen where its differences add up to zero both ways.
    """
    columns: NDArray[np.uint64] = np.zeros(_ROW_WORDS, np.uint64)
    total = sha256()
    length = 0
    for chunk in chunks:
        length += chunk.size
        whole = chunk.size - chunk.size % _ROW_BYTES
        last = np.zeros(_ROW_BYTES if whole < chunk.size else 0, np.uint8)
        last[: chunk.size - whole] = chunk[whole:]
        for rows in (chunk[:whole], last):
            table = rows.view("<u8").reshape(-1, _ROW_WORDS)
            total.update(table.sum(axis=1, dtype=np.uint64).tobytes())
            columns += table.sum(axis=0, dtype=np.uint64)
    total.update(columns.tobytes())
    total.update(length.to_bytes(8, "little"))
    return total.hexdigest()


def sums_of(content: bytes | memoryview | mmap.mmap) -> str:
    """:func:`sums` of what is in memory."""
    return sums(chunked(np.frombuffer(content, np.uint8)))


def chunked(content: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
    """``content`` as :func:`sums` takes it."""
    return (content[at : at + CHUNK_BYTES] for at in range(0, content.size, CHUNK_BYTES))
