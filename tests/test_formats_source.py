"""Every read of a model file is checked: ranges, truncation under the reader's feet, and the ends of cursors."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepcore.errors import FormatError
from sepcore.formats.source import CHUNK_BYTES, Cursor, Source

CONTENT = bytes(range(256)) * (3 * CHUNK_BYTES // 256)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "content.bin"
    path.write_bytes(CONTENT)
    return path


def test_ranges(path: Path) -> None:
    with Source(path) as source:
        assert source.read(5, 1000) == CONTENT[5:1005]
        assert source.read(len(CONTENT), 0) == b""
        buffer = bytearray(7)
        source.read_into(len(CONTENT) - 7, buffer)
        assert bytes(buffer) == CONTENT[-7:]
        for offset, size in ((-1, 1), (0, len(CONTENT) + 1), (len(CONTENT), 1), (1 << 70, 1), (0, -1), (0, 1 << 70)):
            with pytest.raises(FormatError, match=f"byte {offset}: expected {size} bytes"):
                source.read(offset, size)


def test_a_file_that_shrinks_while_it_is_read(path: Path) -> None:
    with Source(path) as source:
        path.write_bytes(CONTENT[:100])
        with pytest.raises(FormatError, match="a file that does not change"):
            source.read(50, 100)


def test_cursors_cross_chunks_and_stay_in_their_range(path: Path) -> None:
    with Source(path) as source:
        cursor = Cursor(source, 10, 10 + 2 * CHUNK_BYTES)
        pieces = [cursor.take(size) for size in (1, CHUNK_BYTES - 1, 7, 0, CHUNK_BYTES - 8)]
        assert b"".join(pieces) == CONTENT[10 : 10 + 2 * CHUNK_BYTES - 1]
        assert cursor.position == 9 + 2 * CHUNK_BYTES
        with pytest.raises(FormatError, match=r"expected 2 bytes, found the end after 1 bytes"):
            cursor.take(2)
        assert cursor.take(1) == CONTENT[9 + 2 * CHUNK_BYTES : 10 + 2 * CHUNK_BYTES]


def test_cursors_skip_without_reading(path: Path) -> None:
    with Source(path) as source:
        cursor = Cursor(source, 0, source.size)
        cursor.take(3)
        for size in (4, CHUNK_BYTES + 5):
            cursor.skip(size)
        position = 3 + 4 + CHUNK_BYTES + 5
        assert cursor.position == position and cursor.take(9) == CONTENT[position : position + 9]
        with pytest.raises(FormatError):
            cursor.skip(source.size)


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"first\n\nthird line\nrest")
    with Source(path) as source:
        cursor = Cursor(source, 0, source.size)
        assert [cursor.line(10) for _ in range(3)] == [b"first", b"", b"third line"]
        with pytest.raises(FormatError, match="byte 18: expected a line of at most 10 bytes"):
            cursor.line(10)


def test_positions_count_from_a_labelled_entry(path: Path) -> None:
    with Source(path) as source:
        assert Cursor(source, 100, 200).where(150) == "byte 150"
        assert Cursor(source, 100, 200, "archive/data.pkl").where(150) == "archive/data.pkl byte 50"
