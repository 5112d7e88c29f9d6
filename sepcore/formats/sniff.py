"""Tell from a file's content what kind of model file it is; the name and its ending are never looked at.

Nothing here reads a model: a kind says which reader to try, and that reader checks everything again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from sepcore.errors import FormatError
from sepcore.formats.source import Source
from sepcore.formats.zip_archive import Entry, locate_entries, read_directory

TORCH_ZIP = "torch-zip"
TORCH_LEGACY = "torch-legacy"
TORCH_EXPORT = "torch-export"
TORCHSCRIPT = "torchscript"
SAFETENSORS = "safetensors"
ONNX = "onnx"
SEPCORE = "sepcore"

_HEAD_BYTES = 512
_LEGACY_MAGIC = (bytes.fromhex("6cfc9c46f9206aa85019"), b"L119547037146038801333356")

# Files that people hand over by mistake: offset, first bytes, what it is, what to do instead.
_FOREIGN = (
    (0, b"version https://git-lfs", "a git-lfs pointer, not the file itself", "the file that `git lfs pull` fetches"),
    (0, b"<!doctype html", "an HTML page, perhaps a download's error page", "a model file"),
    (0, b"<html", "an HTML page, perhaps a download's error page", "a model file"),
    (0, b"<?xml", "an XML page, perhaps a download's error page", "a model file"),
    (0, b"\x89hdf\r\n", "an HDF5 file (Keras)", "a PyTorch, safetensors or ONNX file"),
    (4, b"tfl3", "a LiteRT (TensorFlow Lite) file", "a PyTorch, safetensors or ONNX file"),
    (0, b"\x93numpy", "a NumPy array", "a PyTorch, safetensors or ONNX file"),
    (0, b"\x1f\x8b", "a gzip archive", "the unpacked file"),
    (
        257,
        b"ustar",
        "a tar archive",
        "the unpacked file; a checkpoint in PyTorch's oldest layout has to be saved again",
    ),
)

# onnx.proto, message ModelProto: field number -> wire type, for the fields whose tag is one byte.
_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2}
_ONNX_GRAPH = 7


def sniff(path: str | os.PathLike[str]) -> str:
    """Return the kind of a model file: one of this module's constants.

    Raises
    ------
    FormatError : the file is none of them; says what it is where that is known, and what to do.
    OSError : the file is missing or may not be read.
    """
    with Source(path) as source:
        kind, _ = identify(source)
        return kind


def identify(source: Source) -> tuple[str, Mapping[str, Entry]]:
    """Return the kind of an open file, as ``sniff`` does, and the entries of an archive that can be read."""
    head = source.read(0, min(source.size, _HEAD_BYTES))
    if head.startswith(b"PK\3\4"):
        directory = read_directory(source)
        kind = _zip_kind(source, directory.records)
        return kind, {} if kind == TORCHSCRIPT else locate_entries(source, directory)
    return _stream_kind(source, head), {}


def _stream_kind(source: Source, head: bytes) -> str:
    if head.startswith(b"SEPCORE\0"):
        return SEPCORE
    if any(magic in head[:32] for magic in _LEGACY_MAGIC):
        return TORCH_LEGACY
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return SAFETENSORS
    error = _foreign(source, head)
    if error is not None:
        raise error
    if _looks_like_onnx(source, head):
        return ONNX
    raise source.error("byte 0", "a PyTorch, safetensors or ONNX file", f"unknown bytes {head[:16].hex(' ')}")


def _zip_kind(source: Source, names: Collection[str]) -> str:
    below = {name.partition("/")[2] for name in names}
    if "models/model.json" in below or "serialized_exported_program.json" in {*names, *below}:
        return TORCH_EXPORT
    if "constants.pkl" in below or any(name.startswith("code/") for name in below):
        return TORCHSCRIPT
    if "data.pkl" in below:
        return TORCH_ZIP
    found = ", ".join(name[:80] for name, _ in zip(names, range(5))) or "nothing"
    raise source.error("the archive's directory", "data.pkl or models/model.json, as PyTorch writes", found)


def _foreign(source: Source, head: bytes) -> FormatError | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for offset, magic, found, expected in _FOREIGN:
        if text.startswith(magic) or head[offset:].lower().startswith(magic):
            return source.error(f"byte {offset}", expected, found)
    if text.startswith(b"{"):
        if b'"weight_map"' in source.read(0, min(source.size, 1 << 20)):
            return source.error(
                "byte 0", "one file with all weights", "the index of a sharded checkpoint; merge its shards"
            )
        return source.error("byte 0", "a model file", "a JSON text")
    if head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5":
        return source.error("byte 0", "a file written by torch.save", "a plain pickle, which is never run")
    return None


def _looks_like_onnx(source: Source, head: bytes) -> bool:
    """Walk the top-level protobuf fields in the head: a guess, as ONNX files carry no magic number."""
    position, fields = 0, set()
    while position < len(head):
        if head[position] & 0x80:
            break
        number, wire = head[position] >> 3, head[position] & 7
        if _ONNX_FIELDS.get(number) != wire:
            return False
        fields.add(number)
        value, position = _varint(head, position + 1)
        if number == _ONNX_GRAPH:
            return True
        if wire == 2:
            position += value
            if position > source.size:
                return False
    return len(fields) > 1


def _varint(head: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(head) and shift < 64:
        byte = head[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value, position
