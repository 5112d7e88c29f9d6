"""Open a model file so that every read is checked against the file's size; knows nothing of any format.

Nothing here maps the file into memory: a file that another process truncates must give an error, not a bus error.
"""

from __future__ import annotations

import os
import stat
from types import TracebackType

from sepcore.errors import FormatError

CHUNK_BYTES = 1 << 16


class Source:
    """An open regular file.

    Parameters
    ----------
    path : file to read.

    Attributes
    ----------
    status : what the file system said of the file when it was opened.
    size : its bytes.

    Raises
    ------
    FormatError : ``path`` is not a regular file (a folder, a device, a pipe), or is empty.
    OSError : the file is missing or may not be read (``FileNotFoundError``, ``PermissionError``).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        status = os.stat(self.path)
        if stat.S_ISDIR(status.st_mode):
            raise self.error("path", "a model file", "a folder")
        if not stat.S_ISREG(status.st_mode):
            raise self.error("path", "a regular file", "a device, pipe or socket")
        if status.st_size == 0:
            raise self.error("byte 0", "a model file", "an empty file")
        self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self.status = os.fstat(self._file.fileno())
        self.size = self.status.st_size

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def error(self, where: str, expected: str, found: str) -> FormatError:
        """Return the error that names this file."""
        return FormatError(self.path, where, expected, found)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``; a range outside the file is a FormatError."""
        self.check_range(offset, size)
        buffer = bytearray(size)
        self.read_into(offset, buffer)
        return bytes(buffer)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill a writable, contiguous ``buffer`` from ``offset``; a range outside the file is a FormatError."""
        left = memoryview(buffer).cast("B")
        self.check_range(offset, len(left))
        self._file.seek(offset)
        while left:
            count = self._file.readinto(left)
            if not count:
                raise self.error(f"byte {offset}", "a file that does not change while it is read", "its end")
            left = left[count:]

    def check_range(self, offset: int, size: int) -> None:
        """Raise FormatError unless ``size`` bytes from ``offset`` lie in the file."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self.error(f"byte {offset}", f"{size} bytes", f"a file of {self.size} bytes")


class Cursor:
    """A forward reader over ``source[start:end]`` that holds one chunk of it at a time.

    Parameters
    ----------
    source : file to read.
    start, end : range in bytes; nothing outside is ever read.
    label : archive entry the range is; offsets in errors then count from ``start``.
    """

    def __init__(self, source: Source, start: int, end: int, label: str = "") -> None:
        self.source = source
        self._origin = start if label else 0
        self._label = f"{label} " if label else ""
        self._chunk = b""
        self._chunk_at = start
        self._next = 0
        self._end = end

    @property
    def position(self) -> int:
        """Offset of the next byte in the file."""
        return self._chunk_at + self._next

    def where(self, position: int) -> str:
        """Name an offset in the file, as errors do."""
        return f"{self._label}byte {position - self._origin}"

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer left is a FormatError."""
        first = self._next
        last = first + size
        if last > len(self._chunk):
            self._refill(size)
            first, last = 0, size
        self._next = last
        return self._chunk[first:last]

    def line(self, limit: int) -> bytes:
        """Return the bytes up to the next newline, which is dropped; more than ``limit`` is a FormatError."""
        position = self.position
        window = self.take(min(limit + 1, self._end - position))
        text, newline, _ = window.partition(b"\n")
        if not newline:
            raise self.source.error(self.where(position), f"a line of at most {limit} bytes", "no end of line")
        self._seek(position + len(text) + 1)
        return text

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes without reading them; fewer left is a FormatError."""
        self._check_left(size)
        self._seek(self.position + size)

    def _seek(self, position: int) -> None:
        self._next = position - self._chunk_at
        if self._next > len(self._chunk):
            self._chunk, self._chunk_at, self._next = b"", position, 0

    def _refill(self, size: int) -> None:
        left = self._check_left(size)
        position = self.position
        self._chunk = self.source.read(position, min(max(size, CHUNK_BYTES), left))
        self._chunk_at, self._next = position, 0

    def _check_left(self, size: int) -> int:
        left = self._end - self.position
        if size > left:
            raise self.source.error(
                self.where(self.position), f"{size} bytes", f"the end after {left} bytes (truncated)"
            )
        return left
