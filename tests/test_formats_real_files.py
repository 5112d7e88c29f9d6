"""Real checkpoints are read whole and right: shapes, element types and values against what else is known of them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from sepcore.errors import FormatError
from sepcore.formats.checkpoint import read_checkpoint
from sepcore.formats.sniff import sniff

pytestmark = pytest.mark.data

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def test_mobilenet_v2_in_single_and_half_precision(data_dir: Path) -> None:
    single = read_checkpoint(data_dir / "weights" / "mobilenet_v2.pth")
    half = read_checkpoint(data_dir / "weights" / "mobilenet_v2.fp16.safetensors")
    assert (single.format, half.format) == ("torch-zip", "safetensors")
    assert len(single.tensors) == 314 and set(single.tensors) == set(half.tensors)
    for key, array in single.tensors.items():
        other = half.tensors[key]
        if key.endswith("num_batches_tracked"):
            assert array.dtype == np.int64 and array.shape == ()
            assert array == other
        else:
            assert (array.dtype, other.dtype) == (np.float32, np.float16)
            np.testing.assert_array_equal(array.astype(np.float16), other)
    assert single.tensors["features.0.0.weight"].shape == (32, 3, 3, 3)
    assert single.tensors["classifier.1.weight"].shape == (1000, 1280)
    parameters = [array.size for key, array in single.tensors.items() if not key.endswith(BUFFERS)]
    assert sum(parameters) == 3_504_872  # as torchvision's documentation of mobilenet_v2 says


def test_legacy_training_checkpoint(data_dir: Path) -> None:
    checkpoint = read_checkpoint(data_dir / "weights" / "mobilenetv1_x0.25_leaky.legacy.pth.tar")
    assert checkpoint.format == "torch-legacy"
    assert checkpoint.metadata["wrapper"] == "state_dict" and checkpoint.metadata["prefix"] == "module."
    assert checkpoint.metadata["ignored"] == ("epoch", "arch", "best_acc1", "optimizer")
    tensors = checkpoint.tensors
    assert tensors["stage1.0.0.weight"].shape == (8, 3, 3, 3)
    assert tensors["fc.weight"].shape == (1000, 256) and tensors["fc.bias"].shape == (1000,)
    for key, array in tensors.items():
        assert array.dtype == (np.int64 if key.endswith("num_batches_tracked") else np.float32)
        assert np.isfinite(array).all()
        if key.endswith("running_var"):
            assert (array > 0).all()


def test_legacy_mcunet(data_dir: Path) -> None:
    checkpoint = read_checkpoint(data_dir / "weights" / "mcunet_320kb.legacy.pth")
    assert checkpoint.metadata["wrapper"] == "state_dict" and checkpoint.metadata["prefix"] == ""
    assert checkpoint.tensors["first_conv.conv.weight"].shape == (16, 3, 3, 3)
    assert checkpoint.tensors["classifier.linear.weight"].shape[0] == 1000
    assert len(checkpoint.tensors) == 326


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mobilenetv1_x0.25_leaky.onnx", "onnx"),
        ("mcunet_320kb.onnx", "onnx"),
        ("mobilenet_v3_small_samepad.onnx", "onnx"),
        ("mcunet_320kb.pt2", "torch-export"),
        ("mobilenetv1_0.75_samepad.pt2", "torch-export"),
    ],
)
def test_files_with_a_graph_are_sent_elsewhere(name: str, kind: str, data_dir: Path) -> None:
    path = data_dir / "weights" / name
    assert sniff(path) == kind
    with pytest.raises(FormatError, match="holds a whole graph"):
        read_checkpoint(path)


def test_reading_is_quick(data_dir: Path) -> None:
    path = data_dir / "weights" / "mobilenet_v2.pth"
    seconds = []
    for _ in range(5):
        start = time.process_time()
        read_checkpoint(path)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1
