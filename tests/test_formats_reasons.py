"""Hostile files are refused for the reason that each was made for, not by accident further on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile
import pytest

from sepcore.errors import FormatError
from sepcore.formats.checkpoint import read_checkpoint

Group = Callable[[], Iterator[tuple[str, bytes]]]

REASONS: dict[Group, dict[str, str]] = {
    hostile.executing: {
        "reduce os system": r"data.pkl byte 15: .* global os\.system",
        "obj os system": r"global os\.system",
        "inst os system": r"INST",
        "module persistent id": r"a whole module",
        "keys by reduce": r"global os\.system",
        "tensor rebuilt by another constructor": r"a plain tensor with attributes",
    },
    hostile.exhausting: {
        "nested marks": r"nested at most 256",
        "million memo entries": r"at most 500000 opcodes",
        "one list copied for ever": r"at most 500000 opcodes",
        "one tuple copied for ever": r"torch\.Size of at most 32",
        "wide strings": r"bytes of strings",
        "colliding keys": r"at most 64 bits",
        "big json": r"a header size up to 4194304",
        "nested json": r"deeper nesting",
        "expanded tensor": r"no larger than its storage of 48 bytes",
        "expanded by a little": r"no larger than its storage of 48 bytes",
        "very many entries": r"at most 65536 entries, found 1048576",
    },
    hostile.broken_tensors: {
        "negative stride": r"strides: a count of elements, found -1",
        "overflowing shape": r"a view inside the 48 bytes of storage '0'",
        "huge and empty": r"an empty tensor of moderate shape",
        "three arguments": r"_rebuild_tensor\(storage, offset, size, stride\), found 3",
        "three arguments_v2": r"_rebuild_tensor_v2 with 6 or 7 arguments, found 3",
        "three arguments_v3": r"_rebuild_tensor_v3 with 7 or 8 arguments, found 3",
        "negated": r"negation",
        "one storage as two types": r"tensor 'b': expected uint16.*found float32",
        "rebuild qtensor": r"found a quantized tensor",
        "rebuild sparse_tensor": r"found a sparse tensor",
        "rebuild meta_tensor_no_storage": r"meta device",
    },
    hostile.broken_storages: {
        "persistent id a number": r"a persistent id .* found 7",
        "persistent id meta": r"meta device",
        "persistent id quantized": r"qint8 \(quantized\)",
        "persistent id view past the end": r"a view inside storage '0' of 12 elements, found \('v', 4, 9\)",
        "persistent id view a number": r"a view inside storage '0'",
        "persistent id huge numel": r"entry 'archive/data/0'.* found 48 bytes",
        "one key, two types": r"storage '0' as 12 of float32, as before, found 6 of float64",
        "storage entry missing": r"entry 'archive/data/1'.* no such entry",
    },
    hostile.broken_zips: {
        "name twice": r"entry 'archive/data/0': expected one entry of that name",
        "compressed": r"entry 'archive/data/0': .* compression method 8",
        "encrypted": r"encrypted",
        "big-endian": r"'archive/byteorder': expected little",
        "name '../data/0'": r"a relative entry name",
        "overlapping entries": r"where the next begins",
        "bytes after the end": r"a zip archive's end record",
        "bytes before the start": r"the end record elsewhere",
        "another disk": r"an archive on one disk",
        "a comment announced": r"without comment",
        "directory overwritten": r"an entry of the archive's directory, found other bytes",
        "name past the directory": r"an entry inside the archive's directory",
        "stored and real size differ": r"bytes stored",
        "local size differs": r"as in the directory",
        "local name differs": r"the local header of entry 'archive/data/0'",
        "zip64 end missing": r"a zip64 end record",
        "zip64 contradiction": r"as the end record says",
        "zip64 extra cut off": r"a zip64 extra field",
        "count too large": r"the directory's end",
        "count too small": r"4 entries in",
        "TorchScript": r"TorchScript.*torch\.export",
        "torch.export": r"torch\.export archive",
    },
    hostile.broken_legacy: {
        "another version": r"byte 15: expected protocol version 1001, found 1002",
        "another system": r"little-endian",
        "key unknown": r"storage once, found '2'",
        "key missing": r"storage key '1', which a tensor needs",
        "count larger": r"storage '0': expected 12 elements, found 13",
        "count negative": r"storage '0': expected 12 elements, found -1",
        "huge on both sides": r"expected 4611686018427387904 bytes",
        "magic later": r"the magic number",
    },
    hostile.broken_safetensors: {
        "overlap": r"tensor 'b': expected data_offsets from 48.* found 44",
        "hole": r"tensor 'b': expected data_offsets from 44.* found 48",
        "bytes left over": r"the tensors' bytes: expected 96.* found 97",
        "bytes missing": r"the tensors' bytes: expected 96.* found 95",
        "shape too small": r"tensor 'weight': expected data_offsets that are 36 bytes apart, for F32 of shape \[3, 3\]",
        "offsets reversed": r"tensor 'weight': expected .* 48 bytes apart.* found \(48, 0\)",
        "dtype float8": r"a dtype of .* found 'F8_E4M3'",
        "field unknown": r"dtype, shape and data_offsets",
        "key twice": r"key 'weight' once",
        "field twice": r"key 'shape' once",
        "metadata of numbers": r"__metadata__: expected an object of strings",
        "header size 1": r"a header size up to",
        "header size 1073741824": r"a header size up to",
        "lone surrogate": r"the safetensors package",
    },
}

CASES = [(group, name) for group, reasons in REASONS.items() for name in reasons]


@pytest.mark.parametrize(("group", "name"), CASES, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_reason(group: Group, name: str, tmp_path: Path) -> None:
    content = next(content for title, content in group() if title == name)
    path = tmp_path / "hostile.pth"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_checkpoint(path)
    message = str(caught.value).removeprefix(f"{path}: ")
    assert re.search(REASONS[group][name], message), message
