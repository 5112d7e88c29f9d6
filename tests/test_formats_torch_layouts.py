"""Both of PyTorch's layouts are read to the same arrays: element types, views, shared storages, devices, old forms."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch_layouts import (
    STORAGE_TYPES,
    Call,
    Global,
    PersistentId,
    Stored,
    ZipEntry,
    legacy_file,
    legacy_parts,
    parameter,
    storage_id,
    tensor,
    zip_archive,
    zip_entries,
    zip_file,
)

from sepcore.errors import FormatError
from sepcore.formats.checkpoint import Checkpoint, read_checkpoint

LAYOUTS = {"torch-zip": zip_file, "torch-legacy": legacy_file}
RAMP = Stored.of(np.arange(24, dtype=np.float32), "0")


@pytest.fixture(params=sorted(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def reread(tmp_path: Path, layout: str, value: object, storages: Sequence[Stored]) -> Checkpoint:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(LAYOUTS[layout](value, storages))
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == layout and checkpoint.path == str(path)
    return checkpoint


@pytest.mark.parametrize("dtype", sorted(STORAGE_TYPES))
def test_element_types(dtype: str, layout: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 2, (2, 3, 5)).astype(dtype)
    stored = Stored.of(array, "0")
    value = {"w": tensor(storage_id(stored, legacy=layout == "torch-legacy"), array.shape)}
    read = reread(tmp_path, layout, value, [stored]).tensors["w"]
    assert read.dtype == array.dtype and read.shape == array.shape
    np.testing.assert_array_equal(read, array)
    assert not read.flags.writeable and read.flags.aligned


def test_bfloat16_widens(layout: str, tmp_path: Path) -> None:
    halves = {0x0000: 0.0, 0x3F80: 1.0, 0xC020: -2.5, 0x7F80: np.inf, 0x4049: 3.140625, 0x0001: 2.0**-133}
    stored = Stored("BFloat16Storage", "0", struct.pack(f"<{len(halves)}H", *halves), len(halves))
    read = reread(tmp_path, layout, {"w": tensor(stored, (len(halves),))}, [stored]).tensors["w"]
    assert read.dtype == np.float32
    assert read.tolist() == list(halves.values())


def test_bfloat16_longer_than_a_piece(layout: str, tmp_path: Path) -> None:
    halves = np.random.default_rng(0).integers(0, 0x7F80, (1 << 18) + 12345).astype("<u2")
    stored = Stored("BFloat16Storage", "0", halves.tobytes(), halves.size)
    read = reread(tmp_path, layout, {"w": tensor(stored, (halves.size,))}, [stored]).tensors["w"]
    expected = np.frombuffer(b"".join(b"\0\0" + half.tobytes() for half in halves), "<f4")
    np.testing.assert_array_equal(read, expected)


VIEWS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "whole": ((2, 3, 4), (12, 4, 1), 0),
    "transposed": ((4, 6), (1, 4), 0),
    "channels last": ((1, 2, 3, 4), (24, 1, 8, 2), 0),
    "every second": ((12,), (2,), 0),
    "from the middle": ((2, 3), (5, 1), 13),
    "last element": ((1,), (1,), 23),
    "scalar": ((), (), 7),
    "expanded": ((5, 4), (0, 1), 8),
    "overlapping windows": ((5, 4), (4, 1), 4),
    "stride of a single element": ((1, 24), (99999, 1), 0),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str, layout: str, tmp_path: Path) -> None:
    shape, strides, offset = VIEWS[name]
    read = reread(tmp_path, layout, {"w": tensor(RAMP, shape, strides, offset)}, [RAMP]).tensors["w"]
    assert read.shape == shape
    for index in np.ndindex(*shape):
        assert read[index] == offset + sum(at * step for at, step in zip(index, strides))


def test_empty_tensors(layout: str, tmp_path: Path) -> None:
    nothing = Stored.of(np.zeros(0, np.float32), "1")
    value = {"a": tensor(nothing, (0, 3)), "b": tensor(RAMP, (3, 0, 2)), "c": tensor(nothing, (0,))}
    tensors = reread(tmp_path, layout, value, [RAMP, nothing]).tensors
    assert [array.shape for array in tensors.values()] == [(0, 3), (3, 0, 2), (0,)]
    assert all(array.dtype == np.float32 and not array.flags.writeable for array in tensors.values())


def test_shared_storages_share_memory(layout: str, tmp_path: Path) -> None:
    value = {"a": tensor(RAMP, (24,)), "b": tensor(RAMP, (4, 6)), "c": tensor(RAMP, (6,), offset=18)}
    tensors = reread(tmp_path, layout, value, [RAMP]).tensors
    assert np.shares_memory(tensors["a"], tensors["b"]) and np.shares_memory(tensors["a"], tensors["c"])
    assert tensors["c"].tolist() == [18, 19, 20, 21, 22, 23]


def test_arrays_outlive_the_file(layout: str, tmp_path: Path) -> None:
    checkpoint = reread(tmp_path, layout, {"w": tensor(RAMP, (24,))}, [RAMP])
    Path(checkpoint.path).write_bytes(b"\xff" * 4000)
    assert checkpoint.tensors["w"].tolist() == list(range(24))


@pytest.mark.parametrize("location", ["cuda:0", "cuda:7", "mps", "cpu", "xla:1"])
def test_devices_do_not_matter(location: str, layout: str, tmp_path: Path) -> None:
    stored = Stored.of(np.ones(3, np.float32), "94360428007664", location)
    tensors = reread(tmp_path, layout, {"w": tensor(stored, (3,))}, [stored]).tensors
    assert tensors["w"].tolist() == [1, 1, 1]


def test_parameters_and_attributes(layout: str, tmp_path: Path) -> None:
    plain = tensor(RAMP, (24,))
    with_state = Call(Global("torch._utils", "_rebuild_parameter_with_state"), (plain, True, OrderedDict(), {"tag": 1}))
    from_type = (plain.function, Global("torch", "Tensor"), plain.arguments, {"tag": 1})
    first_form = Call(Global("torch._utils", "_rebuild_tensor"), plain.arguments[:4])
    value = {
        "parameter": parameter(plain),
        "with state": with_state,
        "attributes": Call(Global("torch._tensor", "_rebuild_from_type_v2"), from_type),
        "first form": first_form,
    }
    tensors = reread(tmp_path, layout, value, [RAMP]).tensors
    assert list(tensors) == list(value)
    for array in tensors.values():
        assert array.tolist() == list(range(24))


def test_untyped_storage(layout: str, tmp_path: Path) -> None:
    raw = np.arange(6, dtype="<u2").tobytes()
    fields = ("storage", Global("torch.storage", "UntypedStorage"), "0", "cpu", len(raw))
    arguments = (PersistentId(fields), 2, (2, 2), (2, 1), False, OrderedDict(), Global("torch", "uint16"))
    value = {"w": Call(Global("torch._utils", "_rebuild_tensor_v3"), arguments)}
    read = reread(tmp_path, layout, value, [Stored("UntypedStorage", "0", raw, len(raw))]).tensors["w"]
    assert read.dtype == np.uint16 and read.tolist() == [[2, 3], [4, 5]]


def test_storage_views_of_old_files(tmp_path: Path) -> None:
    fields = ("storage", Global("torch", "FloatStorage"), "0", "cpu", 24, ("123", 10, 8))
    value = {"w": tensor(PersistentId(fields), (3,), offset=5)}
    assert reread(tmp_path, "torch-legacy", value, [RAMP]).tensors["w"].tolist() == [15, 16, 17]
    with pytest.raises(FormatError, match="view inside the 32 bytes"):
        reread(tmp_path, "torch-legacy", {"w": tensor(PersistentId(fields), (4,), offset=5)}, [RAMP])


def test_values_of_training_code_are_passed_over(layout: str, tmp_path: Path) -> None:
    number = Call(Global("numpy.core.multiarray", "scalar"), (Call(Global("numpy", "dtype"), ("f8", False, True)), "x"))
    value = {
        "state_dict": {"w": tensor(RAMP, (24,))},
        "args": Call(Global("argparse", "Namespace"), (), {"lr": 0.1}),
        "when": Call(Global("datetime", "datetime"), ("2020",)),
        "best": number,
        "path": Call(Global("pathlib", "PosixPath"), ("runs", "1")),
        "milestones": Call(Global("collections", "Counter"), ({30: 1},)),
        "device": Call(Global("torch", "device"), ("cuda", 0)),
        "size": Call(Global("torch", "Size"), ((1, 3, 224, 224),)),
    }
    checkpoint = reread(tmp_path, layout, value, [RAMP])
    assert list(checkpoint.tensors) == ["w"]
    assert checkpoint.metadata["ignored"] == ("args", "when", "best", "path", "milestones", "device", "size")


def test_whole_module_says_what_to_save(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    path.write_bytes(zip_file(Call(Global("torchvision.models.mobilenetv2", "MobileNetV2"), ())))
    with pytest.raises(FormatError, match=r"save model\.state_dict\(\).*MobileNetV2"):
        read_checkpoint(path)
    path.write_bytes(zip_file({"model": Call(Global("torch.nn.modules.linear", "Linear"), ())}))
    with pytest.raises(FormatError, match=r"whole object.*torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(path)


def test_zip64_archives(tmp_path: Path) -> None:
    path = tmp_path / "zip64.pth"
    entries = zip_entries({"w": tensor(RAMP, (24,))}, [RAMP])
    big = next(entry for entry in entries if entry.name.endswith("data/0"))
    big.size, big.central_extra = (
        0xFFFFFFFF,
        struct.pack("<HH8sHHQQ", 0x5455, 8, b"", 1, 16, len(RAMP.raw), len(RAMP.raw)),
    )
    path.write_bytes(zip_archive(entries, zip64_end=True))
    assert read_checkpoint(path).tensors["w"].tolist() == list(range(24))


def test_storage_of_another_size_names_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    path.write_bytes(zip_file({"w": tensor(RAMP, (24,))}, [Stored("FloatStorage", "0", RAMP.raw[:-4], 24)]))
    with pytest.raises(FormatError) as caught:
        read_checkpoint(path)
    assert caught.value.where == "entry 'archive/data/0'"
    assert (caught.value.expected, caught.value.found) == ("24 float32 elements", "92 bytes")


def test_truncated_legacy_file_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    parts = legacy_parts({"w": tensor(storage_id(RAMP, legacy=True), (24,))}, [RAMP])
    path.write_bytes(b"".join(parts)[:-1])
    with pytest.raises(FormatError) as caught:
        read_checkpoint(path)
    begin = sum(map(len, parts[:-1])) + 8
    assert caught.value.where == f"byte {begin}"
    assert caught.value.expected == "96 bytes" and str(begin + 95) in caught.value.found


def test_other_entries_of_an_archive_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "more.pth"
    entries = [*zip_entries({"w": tensor(RAMP, (24,))}, [RAMP]), ZipEntry("archive/.data/serialization_id", b"1" * 40)]
    path.write_bytes(zip_archive(entries))
    assert list(read_checkpoint(path).tensors) == ["w"]
