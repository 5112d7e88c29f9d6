"""The config.json beside weights: what it says is used, and nothing in it is believed unchecked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_state_dicts import torchvision_mobilenet_v2

from sepcore.errors import FormatError, OptionError, UnsupportedModelError
from sepcore.formats.checkpoint import Checkpoint
from sepcore.models import Recognised, recognise
from sepcore.models.model_config import MAX_BYTES

PICTURE = {
    "tag": "in1k",
    "custom_load": False,
    "input_size": [3, 192, 192],
    "fixed_input_size": False,
    "interpolation": "bicubic",
    "crop_pct": 0.882,
    "crop_mode": "center",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.5, 1],
    "num_classes": 5,
    "pool_size": [7, 7],
    "first_conv": "conv_stem",
    "classifier": "classifier",
}
TIMM = {"architecture": "mobilenet_v2", "num_classes": 5, "num_features": 48, "pretrained_cfg": PICTURE}
NAMES = ["n1", "n2", "n3", "n4", "n5"]


def recognised(folder: Path, config: Any, **choices: Any) -> Recognised:
    text = config if isinstance(config, (str, bytes)) else json.dumps(config)
    (folder / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
    state = torchvision_mobilenet_v2(5)
    return recognise(Checkpoint(str(folder / "model.safetensors"), "safetensors", state, {}), **choices)


def test_timms_preprocessing(tmp_path: Path) -> None:
    preprocess = recognised(tmp_path, TIMM).preprocess
    assert preprocess.input_size == (192, 192)
    assert preprocess.resize == 217
    assert preprocess.interpolation == "bicubic"
    assert preprocess.mean == (0.5, 0.5, 0.5)
    assert preprocess.std == (0.25, 0.5, 1.0)


def test_the_older_flat_form(tmp_path: Path) -> None:
    found = recognised(tmp_path, {"architecture": "mobilenet_v2.a_tag", **PICTURE})
    assert (found.preprocess.resize, found.arch) == (217, "mobilenet_v2")


def test_fields_that_are_missing_or_null_stay_the_familys(tmp_path: Path) -> None:
    preprocess = recognised(
        tmp_path, {"architecture": "mobilenet_v2", "mean": None, "interpolation": "lanczos"}
    ).preprocess
    assert (preprocess.resize, preprocess.input_size, preprocess.interpolation) == (256, (224, 224), "lanczos")
    assert preprocess.mean == (0.485, 0.456, 0.406)
    sized = recognised(tmp_path, {"pretrained_cfg": {"input_size": [3, 112, 112]}}).preprocess
    assert (sized.resize, sized.input_size) == (128, (112, 112))


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({}, None),
        ({"label_names": NAMES}, tuple(NAMES)),
        ({"label_names": NAMES, "label_descriptions": {"n2": "two"}}, ("n1", "two", "n3", "n4", "n5")),
        ({"id2label": {"1": "b", "0": "a", "2": "c", "4": "e", "3": "d"}}, ("a", "b", "c", "d", "e")),
    ],
)
def test_labels(tmp_path: Path, fields: dict[str, Any], labels: tuple[str, ...] | None) -> None:
    assert recognised(tmp_path, {**TIMM, **fields}).labels == labels


def test_the_architecture_chooses(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="not a state dict of tf_mobilenetv3_small_100"):
        recognised(tmp_path, {"architecture": "tf_mobilenetv3_small_100.in1k"})
    found = recognised(tmp_path, {"architecture": "tf_mobilenetv3_small_100.in1k"}, arch="mobilenet_v2")
    assert found.arch == "mobilenet_v2"


def test_an_unknown_architecture_is_not_ignored(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="resnet50") as caught:
        recognised(tmp_path, {"architecture": "resnet50"})
    assert "config.json" in str(caught.value)
    assert "arch=" in str(caught.value)
    assert recognised(tmp_path, {"architecture": "resnet50"}, arch="mobilenet_v2").arch == "mobilenet_v2"
    with pytest.raises(OptionError):
        recognised(tmp_path, TIMM, arch="resnet50")


@pytest.mark.parametrize("config", [{}, {"name": "something else", "input_size": "big"}])
def test_another_programs_config_says_nothing(tmp_path: Path, config: Any) -> None:
    assert recognised(tmp_path, config).preprocess.resize == 256


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ("{", "content"),
        (b'{"architecture": "\xff"}', "content"),
        ("[1, 2]", "content"),
        ("[" * 100_000, "content"),
        (" " * (MAX_BYTES + 1), "size"),
        ({**TIMM, "architecture": 7}, "architecture"),
        ({**TIMM, "num_classes": "5"}, "num_classes"),
        ({**TIMM, "num_classes": 1000}, "num_classes"),
        ({**TIMM, "pretrained_cfg": [1]}, "pretrained_cfg"),
        ({**TIMM, "label_names": NAMES[:3]}, "labels"),
        ({**TIMM, "label_names": "abcde"}, "label_names"),
        ({**TIMM, "label_names": [1, 2, 3, 4, 5]}, "label_names"),
        ({**TIMM, "label_descriptions": {"n1": 1}, "label_names": NAMES}, "label_descriptions"),
        ({**TIMM, "id2label": {"1": "a", "2": "b"}}, "id2label"),
        ({**TIMM, "id2label": ["a"]}, "id2label"),
        ({**TIMM, "model_args": {"act_layer": "gelu"}}, "model_args.act_layer"),
        ({**TIMM, "model_args": {"global_pool": "max"}}, "global_pool"),
        ({**TIMM, "global_pool": "avgmax"}, "global_pool"),
        *(
            ({**TIMM, "pretrained_cfg": {**PICTURE, name: value}}, f"pretrained_cfg.{name}")
            for name, value in (
                ("input_size", [3, 224]),
                ("input_size", [1, 224, 224]),
                ("input_size", [3, 224, 192]),
                ("input_size", [3, 0, 0]),
                ("input_size", [3, 1 << 40, 1 << 40]),
                ("input_size", [3, 224.0, 224.0]),
                ("crop_pct", 0),
                ("crop_pct", "0.9"),
                ("crop_pct", float("nan")),
                ("crop_pct", True),
                ("crop_mode", "squash"),
                ("interpolation", "random"),
                ("interpolation", ["bicubic"]),
                ("mean", [0.5, 0.5]),
                ("mean", [0.5, 0.5, float("inf")]),
                ("std", [0.5, 0.5, 0]),
                ("std", "0.5"),
            )
        ),
    ],
)
def test_a_field_that_makes_no_sense_is_named(tmp_path: Path, config: Any, where: str) -> None:
    with pytest.raises(FormatError) as caught:
        recognised(tmp_path, config)
    assert caught.value.path == str(tmp_path / "config.json")
    assert caught.value.where == where


def test_harmless_arguments_of_the_constructor(tmp_path: Path) -> None:
    arguments = {"num_classes": 5, "drop_rate": 0.2, "global_pool": "avg"}
    assert recognised(tmp_path, {**TIMM, "model_args": arguments}).num_classes == 5
