"""Read tensors that lie in files beside an ONNX model.

It must not open anything else: no links, no absolute paths, nothing above the model's folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from sepcore.errors import FormatError
from sepcore.formats.onnx.model import shown


class ExternalFiles:
    """The external data files of one model.

    Parameters
    ----------
    model_path : the model; its folder is the only one that is looked into.
    """

    def __init__(self, model_path: str) -> None:
        self._path = model_path
        self._read: dict[str, dict[tuple[int, int], bytearray]] = {}
        self._totals: dict[str, int] = {}

    def read(self, where: str, entries: Mapping[str, str], size: int) -> bytearray:
        """The bytes of one tensor, from where ``entries`` say.

        Parameters
        ----------
        where : the tensor, for messages.
        entries : ``location`` (a file beside the model), and optionally ``offset`` and ``length`` in bytes.
        size : length in bytes that the tensor's dtype and dimensions ask for.

        Raises
        ------
        FormatError
            If the location leaves the model's folder, the file is missing or a link, or the range does not fit.
        """
        location = entries.get("location", "")
        offset = self._number(where, entries, "offset", 0)
        length = self._number(where, entries, "length", size)
        if length != size:
            raise FormatError(self._path, f"{where}, length", f"{size} bytes", str(length))
        known = self._read.setdefault(location, {})
        if (offset, length) not in known:
            known[offset, length] = self._read_file(where, location, offset, length)
        return known[offset, length]

    def _number(self, where: str, entries: Mapping[str, str], key: str, default: int) -> int:
        text = entries.get(key)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise FormatError(self._path, f"{where}, {key}", "a number of bytes", repr(text[:40]))
        return int(text)

    def _read_file(self, where: str, location: str, offset: int, length: int) -> bytearray:
        with open(self._open(where, location), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            total = self._totals[location] = self._totals.get(location, 0) + length
            if offset + length > size:
                found = f"{shown(location)} of {size} bytes"
                raise FormatError(self._path, where, f"{length} bytes at byte {offset}", found)
            if total > size:
                found = f"ranges that add up to {total} bytes in {shown(location)} of {size}"
                raise FormatError(self._path, where, "ranges that do not overlap", found)
            content = bytearray(length)
            file.seek(offset)
            left = memoryview(content)
            while left:
                count = file.readinto(left)
                if not count:
                    raise FormatError(self._path, where, "a file that does not change while it is read", "its end")
                left = left[count:]
            return content

    def _open(self, where: str, location: str) -> int:
        """A descriptor of the file, opened folder by folder, so that no part of the way to it can be a link."""
        parts = location.split("/")
        if any(part in ("", ".", "..") or not part.isprintable() or set(part) & {"\\", ":"} for part in parts):
            raise FormatError(self._path, where, "the name of a file beside the model", shown(location))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(os.path.dirname(self._path) or os.curdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for position, part in enumerate(parts):
                parent = descriptor
                try:
                    # Without O_NONBLOCK, opening a pipe would wait for a writer.
                    kind = os.O_NONBLOCK if position == len(parts) - 1 else os.O_DIRECTORY
                    descriptor = os.open(part, flags | kind, dir_fd=parent)
                finally:
                    os.close(parent)
        except OSError as error:
            found = f"{shown(location)}: {os.strerror(error.errno or 0)}"
            raise FormatError(self._path, where, "a file beside the model, not a link", found) from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(descriptor)
            found = "a file of several names" if stat.S_ISREG(status.st_mode) else "a folder, device or pipe"
            expected = "a regular file of its own beside the model, not a link"
            raise FormatError(self._path, where, expected, f"{shown(location)}, {found}")
        return descriptor
