"""Integers, texts and bytes behind each other, as this package keeps them for itself; it must not know what they say.

Read without a check: only for content that is known to be whole and of this package's writing. JSON would take longer
to import than a start takes to read all that it needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bytes = bytes | memoryview

_WORD_BYTES = 8


def integers(values: Iterable[int] | NDArray[np.int64]) -> bytes:
    """Their count and the integers, 64 bits each, little-endian."""
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values), "<i8")
    return array.size.to_bytes(_WORD_BYTES, "little") + array.tobytes()


def content(part: Bytes) -> bytes:
    """Its length and the bytes, filled up to a whole integer."""
    return b"".join([len(part).to_bytes(_WORD_BYTES, "little"), part, bytes(-len(part) % _WORD_BYTES)])


def texts(values: Iterable[str]) -> bytes:
    """The lengths in UTF-8 and the texts."""
    encoded = [value.encode("utf-8") for value in values]
    return integers(len(value) for value in encoded) + content(b"".join(encoded))


class Reader:
    """Takes parts in the order in which they were written, from ``content``; what it gives are views of that."""

    def __init__(self, content: Bytes) -> None:
        self._content, self._at = memoryview(content), 0

    def array(self) -> NDArray[np.int64]:
        """The next integers."""
        count = self._word()
        found: NDArray[np.int64] = np.frombuffer(self._content, "<i8", count, self._at).astype(np.int64, copy=False)
        self._at += count * _WORD_BYTES
        return found

    def integers(self) -> list[int]:
        """The next integers."""
        found: list[int] = self.array().tolist()
        return found

    def content(self) -> memoryview:
        """The next bytes."""
        length = self._word()
        found = self._content[self._at : self._at + length]
        self._at += length + -length % _WORD_BYTES
        return found

    def texts(self) -> list[str]:
        """The next texts."""
        lengths = self.integers()
        joined, found, at = self.content(), [], 0
        for length in lengths:
            found.append(str(joined[at : at + length], "utf-8"))
            at += length
        return found

    def _word(self) -> int:
        at = self._at
        self._at += _WORD_BYTES
        return int.from_bytes(self._content[at : self._at], "little")
