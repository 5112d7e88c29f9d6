"""The first bytes of a .sep file and what they say of the rest, see ``sepcore.formats.sep``; must not know the rest."""

from __future__ import annotations

import struct

from sepcore.digest import sha256
from sepcore.formats.source import Source

MAGIC = b"SEPCORE\0"
VERSION = 2
MAX_MANIFEST_BYTES = 8 << 20
"""EfficientNet-B0 takes about 100 kB, the names of 21 841 classes less than 1 MB."""

_HEAD = struct.Struct("<8sIIQ")
_DIGEST_BYTES = 32
MANIFEST_AT = _HEAD.size + _DIGEST_BYTES


def signed(manifest: bytes, size: int) -> bytes:
    """Head and manifest of a file of ``size`` bytes."""
    head = _HEAD.pack(MAGIC, VERSION, len(manifest), size)
    return head + sha256(head + manifest).digest() + manifest


def is_sep(source: Source) -> bool:
    """Whether a file says that it is one."""
    return source.size >= len(MAGIC) and source.read(0, len(MAGIC)) == MAGIC


def read_manifest(source: Source) -> tuple[bytes, bytes]:
    """The manifest's bytes, once the head and its checksum are right, and that checksum.

    Raises
    ------
    FormatError : the head is none, of another version, or not as it was written.
    """
    magic, version = struct.unpack("<8sI", source.read(0, 12))
    if magic != MAGIC:
        raise source.error("byte 0", "SEPCORE", repr(magic))
    if version > VERSION:
        raise source.error("byte 8", f"format version {VERSION}", f"{version}, of a newer sepcore; update sepcore")
    if version < VERSION:
        raise source.error("byte 8", f"format version {VERSION}", f"{version}; convert the model again")
    head = source.read(0, _HEAD.size)
    _, _, length, size = _HEAD.unpack(head)
    if length > MAX_MANIFEST_BYTES:
        raise source.error("byte 12", f"a manifest of at most {MAX_MANIFEST_BYTES} bytes", str(length))
    if size != source.size:
        raise source.error("byte 16", f"a file of {size} bytes", f"{source.size} bytes (cut off, or appended to)")
    digest = source.read(_HEAD.size, _DIGEST_BYTES)
    manifest = source.read(MANIFEST_AT, length)
    if sha256(head + manifest).digest() != digest:
        raise source.error("manifest", "content with the SHA-256 written at byte 24", "other content (damaged)")
    return manifest, digest
