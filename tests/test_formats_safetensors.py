"""safetensors files are read as the safetensors package wrote them, bfloat16 as well."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_layouts import safetensors_file

from sepcore.errors import FormatError
from sepcore.formats.checkpoint import read_checkpoint
from sepcore.formats.safetensors import read_header
from sepcore.formats.source import Source

DTYPES = [
    *(f"float{bits}" for bits in (64, 32, 16)),
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (64, 32, 16, 8)),
    "bool",
]


def test_every_element_type_and_shape(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = {
        f"{dtype}.{len(shape)}": rng.integers(0, 2, shape).astype(dtype)
        for dtype in DTYPES
        for shape in ((), (5,), (2, 3, 4))
    }
    written["empty"] = np.zeros((0, 3), np.float32)
    path = tmp_path / "w.safetensors"
    save_file(written, path, metadata={"format": "pt", "arch": "mobilenet"})
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == "safetensors"
    assert checkpoint.metadata["file"] == {"format": "pt", "arch": "mobilenet"}
    assert set(checkpoint.tensors) == set(written)
    for name, array in written.items():
        read = checkpoint.tensors[name]
        assert read.dtype == array.dtype and read.shape == array.shape and not read.flags.writeable
        np.testing.assert_array_equal(read, array)


def test_bfloat16_widens(tmp_path: Path) -> None:
    header = {
        "half": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [4, 12]},
        "whole": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    }
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors_file(header, struct.pack("<f4H", 1.5, 0x3F80, 0xC020, 0x7F80, 0x4049)))
    tensors = read_checkpoint(path).tensors
    assert list(tensors) == ["whole", "half"]
    assert tensors["whole"] == np.float32(1.5)
    assert tensors["half"].dtype == np.float32 and not tensors["half"].flags.writeable
    assert tensors["half"].tolist() == [[1.0, -2.5], [np.inf, 3.140625]]


def test_padded_header(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}'
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors_file(header + b" " * 11, b"\1\2\3"))
    assert read_checkpoint(path).tensors["w"].tolist() == [1, 2, 3]


def test_overlap_names_the_tensor_and_the_bytes(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
    }
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors_file(header, bytes(12)))
    with pytest.raises(FormatError) as caught:
        read_checkpoint(path)
    assert caught.value.where == "tensor 'b'"
    assert "from 8" in caught.value.expected and caught.value.found == "4"


def test_header_that_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors_file(b"[1, 2]"))
    with Source(path) as source, pytest.raises(FormatError, match=r"a JSON object, found \(1, 2\)"):
        read_header(source)
