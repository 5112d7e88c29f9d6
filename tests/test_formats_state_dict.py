"""State dicts are found under wrappers and freed of prefixes, and what was done is on record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch_layouts import Stored, safetensors_file, tensor, zip_file

from sepcore.errors import FormatError
from sepcore.formats.checkpoint import Checkpoint, read_checkpoint
from sepcore.formats.state_dict import WRAPPERS

ONE, TWO = (Stored.of(np.full(2, number, np.float32), str(number)) for number in (1, 2))
FIRST, SECOND = tensor(ONE, (2,)), tensor(TWO, (2,))


def reread(tmp_path: Path, value: object) -> Checkpoint:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(zip_file(value, [ONE, TWO]))
    return read_checkpoint(path)


def test_a_bare_state_dict(tmp_path: Path) -> None:
    checkpoint = reread(tmp_path, {"b.weight": SECOND, "a.weight": FIRST})
    assert {key: array[0] for key, array in checkpoint.tensors.items()} == {"b.weight": 2, "a.weight": 1}
    assert list(checkpoint.tensors) == ["b.weight", "a.weight"]
    assert checkpoint.metadata == {"wrapper": "", "prefix": "", "ignored": (), "file": {}}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers(wrapper: str, tmp_path: Path) -> None:
    optimizer = {"state": {0: {"momentum_buffer": SECOND}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    checkpoint = reread(tmp_path, {"epoch": 3, wrapper: {"w": FIRST}, "best_acc1": SECOND, "optimizer": optimizer})
    assert {key: array[0] for key, array in checkpoint.tensors.items()} == {"w": 1}
    assert checkpoint.metadata["wrapper"] == wrapper
    assert checkpoint.metadata["ignored"] == ("epoch", "best_acc1", "optimizer")


def test_wrappers_in_wrappers(tmp_path: Path) -> None:
    checkpoint = reread(tmp_path, {"model": {"state_dict": {"w": FIRST}, "version": 2}, "step": 1})
    assert list(checkpoint.tensors) == ["w"]
    assert checkpoint.metadata["wrapper"] == "model.state_dict"
    assert checkpoint.metadata["ignored"] == ("step", "version")


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    checkpoint = reread(tmp_path, {"model": {"w": FIRST}, "model_ema": {"w": SECOND}})
    assert checkpoint.tensors["w"][0] == 2
    assert checkpoint.metadata["wrapper"] == "model_ema"
    assert checkpoint.metadata["ignored"] == ("model",)


def test_wrappers_without_tensors_are_passed_over(tmp_path: Path) -> None:
    value = {"model_ema": None, "ema": {"decay": 0.9}, "state_dict": {}, "model": {"w": FIRST}}
    assert reread(tmp_path, value).metadata["wrapper"] == "model"


def test_values_in_the_state_dict_that_are_no_tensors(tmp_path: Path) -> None:
    checkpoint = reread(tmp_path, {"w": FIRST, "_extra_state": None, "version": 3})
    assert list(checkpoint.tensors) == ["w"]
    assert checkpoint.metadata["ignored"] == ("_extra_state", "version")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_prefixes_are_removed(prefix: str, tmp_path: Path) -> None:
    checkpoint = reread(tmp_path, {"state_dict": {f"{prefix}a.weight": FIRST, f"{prefix}b.weight": SECOND}})
    assert {key: array[0] for key, array in checkpoint.tensors.items()} == {"a.weight": 1, "b.weight": 2}
    assert checkpoint.metadata["prefix"] == prefix


def test_prefixes_that_not_all_keys_share_stay(tmp_path: Path) -> None:
    checkpoint = reread(tmp_path, {"module.a": FIRST, "b": SECOND})
    assert list(checkpoint.tensors) == ["module.a", "b"]
    assert checkpoint.metadata["prefix"] == ""


def test_averaged_model_counter(tmp_path: Path) -> None:
    checkpoint = reread(tmp_path, {"n_averaged": FIRST, "module.a": SECOND})
    assert list(checkpoint.tensors) == ["a"]
    assert list(reread(tmp_path, {"n_averaged": FIRST, "a": SECOND}).tensors) == ["n_averaged", "a"]


def test_prefixes_in_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path.write_bytes(safetensors_file({"module.w": entry}, ONE.raw))
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.tensors) == ["w"] and checkpoint.metadata["prefix"] == "module."


def test_no_state_dict_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        reread(tmp_path, {"epoch": 3, "generator": {"w": FIRST}})
    assert "'epoch', 'generator'" in caught.value.found
    assert all(wrapper in caught.value.expected for wrapper in WRAPPERS)
