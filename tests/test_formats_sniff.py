"""A file's kind is told from its content, whatever its name; files handed over by mistake are named."""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest
from torch_layouts import ZipEntry, zip_archive

from sepcore.errors import FormatError
from sepcore.formats.sniff import sniff

EXPORTED = zip_archive([ZipEntry("net/models/model.json", b"{}"), ZipEntry("net/data/weights/weight_0", b"1234")])
SCRIPTED = zip_archive(
    [
        *(ZipEntry(f"net/{name}", b"x") for name in ("data.pkl", "constants.pkl", "data/0")),
        ZipEntry("net/code/__torch__.py", b"x", method=8),
    ]
)

KINDS = {
    "torch-zip": hostile.sound_zip(),
    "torch-legacy": hostile.sound_legacy(),
    "safetensors": hostile.sound_safetensors(),
    "torch-export": EXPORTED,
    "torchscript": SCRIPTED,
    "onnx": b"\x08\x08\x12\x07pytorch\x1a\x052.1.0\x3a\x04\x0a\x02ab",
    "sepcore": b"SEPCORE\0" + bytes(8),
}

MISTAKES = {
    "git-lfs": "git lfs pull",
    "html": "HTML page",
    "xml": "XML page",
    "sharded index": "sharded checkpoint",
    "json": "JSON text",
    "plain pickle": r"torch\.save",
    "gzip": "gzip",
    "tar": "oldest layout",
    "hdf5": "Keras",
    "tflite": "LiteRT",
    "numpy": "NumPy",
    "noise of 500": "unknown bytes",
    "empty": "empty file",
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(KINDS[kind])
    assert sniff(path) == sniff(str(path)) == kind


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(dict(hostile.foreign())[name])
    with pytest.raises(FormatError, match=MISTAKES[name]):
        sniff(path)


def test_onnx_is_told_from_other_protobufs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    graph_last = b"\x08\x07\x42\x04\x0a\0\x10\x0d\x3a\x80\x10" + bytes(10)
    path.write_bytes(graph_last)
    assert sniff(path) == "onnx"
    for other in (b"\x08\x07", b"\x0a\x03abc\x12\x03abc", b"\x08\x07\x12\xff\xff\x03ab", b"\x08\x80\x80\x80"):
        path.write_bytes(other)
        with pytest.raises(FormatError, match="unknown bytes"):
            sniff(path)
