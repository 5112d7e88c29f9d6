"""Checkpoints written by torch.save and safetensors are read as torch.load reads them."""

from __future__ import annotations

import argparse
import datetime
import pathlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sepcore.errors import FormatError
from sepcore.formats.checkpoint import Checkpoint, read_checkpoint
from sepcore.formats.sniff import sniff

pytestmark = pytest.mark.torch

LAYOUTS = {"torch-zip": True, "torch-legacy": False}


@pytest.fixture(params=sorted(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def saved(tmp_path: Path, layout: str, value: object, **options: Any) -> Path:
    path = tmp_path / "checkpoint.pth"
    torch.save(value, path, _use_new_zipfile_serialization=LAYOUTS[layout], **options)
    assert sniff(path) == layout
    return path


def assert_equal(checkpoint: Checkpoint, expected: Mapping[str, torch.Tensor]) -> None:
    assert list(checkpoint.tensors) == list(expected)
    for key, tensor in expected.items():
        array = checkpoint.tensors[key]
        wide = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        assert array.dtype == wide.numpy().dtype and array.shape == tuple(tensor.shape), key
        np.testing.assert_array_equal(array, wide.numpy(), err_msg=key)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), depthwise, nn.Linear(8, 5))


READABLE = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]


@pytest.mark.parametrize("dtype", READABLE, ids=str)
def test_element_types(dtype: torch.dtype, layout: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    value = {"w": (torch.rand(4, 3, 2) * 100).to(dtype), "scalar": torch.ones(()).to(dtype)}
    value["empty"] = torch.zeros(0, 3).to(dtype)
    # Against the tensors themselves: torch.load cannot read the legacy layout's uint16, uint32 and uint64.
    assert_equal(read_checkpoint(saved(tmp_path, layout, value)), value)


def test_views_and_shared_storages(layout: str, tmp_path: Path) -> None:
    base = torch.arange(240, dtype=torch.float32)
    image = base.view(2, 3, 8, 5)
    value = {
        "base": base,
        "row": base[17:40],
        "transposed": base.view(24, 10).T,
        "steps": base[3::7],
        "channels last": image.to(memory_format=torch.channels_last),
        "crop": image[:, 1:, 2:6, ::2],
        "permuted": image.permute(0, 2, 3, 1),
        "expanded": base[:10].expand(6, 10),
        "scalar": base[100],
        "empty": base[5:5],
        "diagonal": base.view(15, 16).diagonal(),
    }
    path = saved(tmp_path, layout, value)
    checkpoint = read_checkpoint(path)
    assert_equal(checkpoint, torch.load(path))
    assert np.shares_memory(checkpoint.tensors["base"], checkpoint.tensors["crop"])


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_pickle_protocols(protocol: int, layout: str, tmp_path: Path) -> None:
    value = {"epoch": 3, "lr": 0.1, "state_dict": small_network().state_dict(), "big": 1 << 70, "none": None}
    path = saved(tmp_path, layout, value, pickle_protocol=protocol)
    assert_equal(read_checkpoint(path), value["state_dict"])  # type: ignore[arg-type]


def test_training_checkpoint(layout: str, tmp_path: Path) -> None:
    network = nn.DataParallel(small_network())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    sum(parameter.sum() for parameter in network.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    value = {
        "epoch": 3,
        "arch": "mobilenet_v2",
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "best_acc1": torch.tensor(71.9),
        "args": argparse.Namespace(lr=0.1, nested=argparse.Namespace(path=pathlib.PurePosixPath("runs"))),
        "numpy scalar": np.float64(0.5),
        "numpy array": np.arange(5),
        "started": datetime.datetime.now(datetime.timezone.utc),
        "elapsed": datetime.timedelta(hours=3),
        "seen": {1, 2},
        "history": defaultdict(list, loss=[0.1, 0.2]),
        "counts": Counter("abca"),
        "random": torch.get_rng_state(),
        "device": torch.device("cpu"),
        "size": torch.Size([1, 3]),
        "dtype": torch.float16,
        "raw": b"bytes",
        "others": (bytearray(b"x"), 1j, slice(1), range(3), frozenset({1})),
    }
    path = saved(tmp_path, layout, value)
    checkpoint = read_checkpoint(path)
    assert_equal(checkpoint, network.module.state_dict())
    assert checkpoint.metadata["wrapper"] == "state_dict" and checkpoint.metadata["prefix"] == "module."
    assert checkpoint.metadata["ignored"] == tuple(key for key in value if key != "state_dict")


def test_averaged_and_compiled_models(layout: str, tmp_path: Path) -> None:
    network = small_network()
    averaged = torch.optim.swa_utils.AveragedModel(network)
    path = saved(tmp_path, layout, {"model": network.state_dict(), "model_ema": averaged.state_dict()})
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata["wrapper"] == "model_ema" and checkpoint.metadata["prefix"] == "module."
    assert_equal(checkpoint, averaged.module.state_dict())
    path = saved(tmp_path, layout, torch.compile(network).state_dict())
    assert_equal(read_checkpoint(path), network.state_dict())


def test_parameters_and_tensors_with_attributes(layout: str, tmp_path: Path) -> None:
    tagged = torch.arange(6.0).view(2, 3)
    tagged.tag = "norm"  # type: ignore[attr-defined]
    tagged_parameter = nn.Parameter(torch.ones(3))
    tagged_parameter.tag = "decay"  # type: ignore[attr-defined]
    value = OrderedDict(p=nn.Parameter(torch.zeros(2)), t=tagged, q=tagged_parameter, b=nn.Buffer(torch.ones(1)))
    assert_equal(read_checkpoint(saved(tmp_path, layout, value)), value)


def test_devices(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:1")
    value = {"w": torch.arange(5.0)}
    path = saved(tmp_path, layout, value)
    assert b"cuda:1" in path.read_bytes()
    assert_equal(read_checkpoint(path), torch.load(path, map_location="cpu"))


def test_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path, "torch-zip", {"w": torch.arange(5.0)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert_equal(read_checkpoint(path), {"w": torch.arange(5.0)})


def test_safetensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    value = {f"module.{dtype}": (torch.rand(4, 3) * 100).to(dtype) for dtype in READABLE if "complex" not in str(dtype)}
    save_file(value, tmp_path / "w.safetensors")
    checkpoint = read_checkpoint(tmp_path / "w.safetensors")
    assert_equal(checkpoint, {key: value[f"module.{key}"] for key in checkpoint.tensors})
    assert len(checkpoint.tensors) == len(value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantized", lambda: torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.quint8)),
        ("sparse", lambda: torch.eye(3).to_sparse()),
        ("sparse", lambda: torch.eye(3).to_sparse_csr()),
        ("nested", lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])),
        ("meta", lambda: torch.zeros(3, device="meta")),
        ("conjugation", lambda: torch.zeros(3, dtype=torch.complex64).conj()),
        ("float8_e4m3fn", lambda: torch.zeros(3, dtype=torch.float8_e4m3fn)),
    ],
)
def test_tensors_without_plain_values_are_refused_by_name(name: str, value: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, "torch-zip", {"w": value()})
    with pytest.raises(FormatError, match=name):
        read_checkpoint(path)


def test_whole_modules_say_what_to_save(layout: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"save model\.state_dict\(\)"):
        read_checkpoint(saved(tmp_path, layout, small_network()))
    with pytest.raises(FormatError, match=r"save model\.state_dict\(\)"):
        read_checkpoint(saved(tmp_path, layout, {"model": small_network()}))


@pytest.mark.filterwarnings("ignore")
def test_torchscript_says_what_to_do(tmp_path: Path) -> None:
    torch.jit.script(small_network()).save(tmp_path / "scripted.pt")
    with pytest.raises(FormatError, match=r"TorchScript.*torch\.export"):
        read_checkpoint(tmp_path / "scripted.pt")


def test_exported_programs_are_told_apart(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(1, 3),))
    torch.export.save(program, tmp_path / "linear.pt2")
    assert sniff(tmp_path / "linear.pt2") == "torch-export"


def test_real_checkpoints(data_dir: Path) -> None:
    weights = data_dir / "weights"
    whole = torch.load(weights / "mobilenet_v2.pth")
    assert_equal(read_checkpoint(weights / "mobilenet_v2.pth"), whole)
    mcunet = torch.load(weights / "mcunet_320kb.legacy.pth", map_location="cpu")
    assert_equal(read_checkpoint(weights / "mcunet_320kb.legacy.pth"), mcunet["state_dict"])
    name = "mobilenetv1_x0.25_leaky.legacy.pth.tar"
    training = torch.load(weights / name, map_location="cpu")["state_dict"]
    assert_equal(read_checkpoint(weights / name), {key.removeprefix("module."): training[key] for key in training})
