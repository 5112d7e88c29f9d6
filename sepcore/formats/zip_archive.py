"""Read the directory of a zip archive of stored entries, strictly; the layout of .pth and .pt2 files.

Nothing here decompresses or extracts, and nothing is guessed where the archive contradicts itself. Checksums are not
compared: PyTorch lets users save without them, and does not compare them either. The format is PKWARE's APPNOTE.TXT,
sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from sepcore.formats.source import Source

MAX_ENTRIES = 1 << 16
MAX_DIRECTORY_BYTES = 16 << 20

_END = struct.Struct("<4sHHHHIIH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ALL_ONES = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
_ZIP64_EXTRA = 1
_ENCRYPTED_FLAG = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored file: its content is ``size`` bytes from byte ``offset`` of the archive."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """What the directory says of one file, which nothing has confirmed yet; ``header`` is its local header's byte."""

    name: str
    header: int
    size: int
    packed: int
    flags: int
    method: int


@dataclass(frozen=True, slots=True)
class Directory:
    """The records by name, in order, and the byte at which the directory begins."""

    records: Mapping[str, Record]
    start: int


def read_directory(source: Source) -> Directory:
    """Return what the archive's directory says.

    Raises
    ------
    FormatError : the archive is truncated or followed by other bytes; an entry is named twice or by a path that leaves
        the archive; sizes contradict each other.
    """
    start, size, count = _find_directory(source)
    raw = source.read(start, size)
    records: dict[str, Record] = {}
    position = 0
    for _ in range(count):
        record, position = _read_record(source, raw, start, position)
        if record.name in records:
            raise source.error(f"entry '{record.name}'", "one entry of that name", "two")
        records[record.name] = record
    if position != size:
        raise source.error("the archive's directory", f"{count} entries in {size} bytes", f"{position} bytes of them")
    return Directory(records, start)


def locate_entries(source: Source, directory: Directory) -> Mapping[str, Entry]:
    """Return where the content of each entry lies.

    Raises
    ------
    FormatError : an entry is compressed, encrypted, overlaps another, or is not what the directory says.
    """
    entries: dict[str, Entry] = {}
    spans: list[tuple[int, int, str]] = []
    for name, record in directory.records.items():
        _check_stored(source, f"entry '{name}'", record.flags, record.method)
        if record.size != record.packed:
            raise source.error(f"entry '{name}'", f"{record.size} bytes stored", f"{record.packed}")
        offset = _find_content(source, record)
        entries[name] = Entry(name, offset, record.size)
        spans.append((record.header, offset + record.size, name))
    _check_spans(source, spans, directory.start)
    return entries


def _find_directory(source: Source) -> tuple[int, int, int]:
    """Return the byte, size and entry count of the central directory."""
    end = source.size - _END.size
    if end < 0 or source.read(end, 4) != b"PK\5\6":
        raise source.error(f"byte {max(end, 0)}", "a zip archive's end record", "other bytes (truncated file?)")
    _, disk, first_disk, _, count, size, start, comment = _END.unpack(source.read(end, _END.size))
    locator = end - _END64_LOCATOR.size
    if locator >= 0 and source.read(locator, 4) == b"PK\6\7":
        narrow = count, size, start
        _, _, end, disks = _END64_LOCATOR.unpack(source.read(locator, _END64_LOCATOR.size))
        signature, _, _, _, disk, first_disk, _, count, size, start = _END64.unpack(source.read(end, _END64.size))
        if signature != b"PK\6\6" or disks > 1 or end + _END64.size != locator:
            raise source.error(f"byte {end}", "a zip64 end record", "other bytes")
        if any(short not in (wide, limit) for short, wide, limit in zip(narrow, (count, size, start), _ALL_ONES)):
            raise source.error(f"byte {end}", f"{narrow}, as the end record says", f"{(count, size, start)}")
    if disk or first_disk or comment:
        raise source.error(f"byte {end}", "an archive on one disk, without comment", "another")
    if start + size != end:
        raise source.error(f"byte {end}", f"the directory's end at {start} + {size}", "the end record elsewhere")
    if size > MAX_DIRECTORY_BYTES or count > MAX_ENTRIES:
        raise source.error(f"byte {start}", f"at most {MAX_ENTRIES} entries", f"{count} in {size} bytes")
    return start, size, count


def _read_record(source: Source, raw: bytes, start: int, position: int) -> tuple[Record, int]:
    """Return the record at ``position`` of the directory and the position of the next one."""
    where = f"byte {start + position}"
    if position + _CENTRAL.size > len(raw):
        raise source.error(where, "an entry of the archive's directory", "the directory's end")
    fields = _CENTRAL.unpack_from(raw, position)
    signature, _, _, flags, method, _, _, _, packed, size, name_bytes, extra_bytes, comment_bytes = fields[:13]
    header = fields[16]
    if signature != b"PK\1\2":
        raise source.error(where, "an entry of the archive's directory", "other bytes")
    name_end = position + _CENTRAL.size + name_bytes
    extra_end = name_end + extra_bytes
    if extra_end + comment_bytes > len(raw):
        raise source.error(where, "an entry inside the archive's directory", "one that reaches past it")
    name = _checked_name(source, where, raw[name_end - name_bytes : name_end])
    size, packed, header = _widened(source, name, raw[name_end:extra_end], size, packed, header)
    return Record(name, header, size, packed, flags, method), extra_end + comment_bytes


def _checked_name(source: Source, where: str, raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise source.error(where, "an entry name in UTF-8", raw[:32].hex(" ")) from None
    if not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
        raise source.error(where, "a relative entry name inside the archive", repr(name[:80]))
    return name


def _widened(source: Source, name: str, extra: bytes, *fields: int) -> tuple[int, ...]:
    """Replace the 32-bit fields that are all ones by the 64-bit ones of the zip64 extra field, in its order."""
    if all(field != 0xFFFFFFFF for field in fields):
        return fields
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, position)
        if kind == _ZIP64_EXTRA:
            content = extra[position + 4 : position + 4 + size]
            values = iter(struct.unpack_from(f"<{len(content) // 8}Q", content))
            wide = tuple(next(values, -1) if field == 0xFFFFFFFF else field for field in fields)
            if -1 not in wide:
                return wide
            break
        position += 4 + size
    raise source.error(f"entry '{name}'", "a zip64 extra field with its sizes", "none")


def _find_content(source: Source, record: Record) -> int:
    """Return the byte at which an entry's content begins, from its local header."""
    where, raw_name = f"byte {record.header}", record.name.encode("utf-8")
    raw = source.read(record.header, _LOCAL.size + len(raw_name))
    signature, _, flags, method, _, _, _, _, size, name_bytes, extra_bytes = _LOCAL.unpack_from(raw)
    if signature != b"PK\3\4" or name_bytes != len(raw_name) or raw[_LOCAL.size :] != raw_name:
        raise source.error(where, f"the local header of entry '{record.name}'", "another")
    _check_stored(source, where, flags, method)
    if size not in (0, 0xFFFFFFFF, record.size):  # 0: the size follows the content; all ones: it is in an extra field
        raise source.error(where, f"{record.size} bytes for entry '{record.name}', as in the directory", f"{size}")
    return record.header + len(raw) + int(extra_bytes)


def _check_stored(source: Source, where: str, flags: int, method: int) -> None:
    if flags & _ENCRYPTED_FLAG:
        raise source.error(where, "a stored entry", "an encrypted one")
    if method != 0:
        raise source.error(where, "a stored, uncompressed entry", f"compression method {method}")


def _check_spans(source: Source, spans: list[tuple[int, int, str]], end: int) -> None:
    spans.sort()
    for (_, last, name), (first, _, _) in zip(spans, [*spans[1:], (end, end, "")]):
        if last > first:
            raise source.error(f"entry '{name}'", f"an end at or before byte {first}, where the next begins", f"{last}")
