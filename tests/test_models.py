"""State dicts become the networks they belong to: names, shapes, strides, and PyTorch's logits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import golden
from tiny_state_dicts import (
    CLASSES,
    StateDict,
    mobilenet_v1_stages,
    timm_mobilenetv3_small,
    torchvision_mobilenet_v2,
    torchvision_mobilenet_v3_small,
)

from sepcore.formats.checkpoint import Checkpoint, read_checkpoint
from sepcore.ir.graph import Graph
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify
from sepcore.models import Recognised, families, recognise
from sepcore.models.families import FAMILIES
from sepcore.models.recognition import Attempts

# golden recipe -> family, variant, and (short side, crop, filter) of its preprocessing
GOLDEN = {
    "timm__efficientnet_lite0": ("timm EfficientNet-Lite", "efficientnet_lite0", (256, 224, "bicubic")),
    "timm__ghostnet_100": ("timm GhostNet", "ghostnet_100", (256, 224, "bicubic")),
    "timm__mobilenetv1_100": ("timm MobileNetV1", "mobilenetv1_100", (256, 224, "bicubic")),
    "timm__mobilenetv2_050": ("timm MobileNetV2", "mobilenetv2_050", (256, 224, "bicubic")),
    "timm__mobilenetv3_small_100": ("timm MobileNetV3-Small", "mobilenetv3_small_100", (256, 224, "bicubic")),
    "timm__mobilenetv4_conv_medium": ("timm MobileNetV4-Conv", "mobilenetv4_conv_medium", (269, 256, "bicubic")),
    "timm__mobilenetv4_conv_small": ("timm MobileNetV4-Conv-Small", "mobilenetv4_conv_small", (256, 224, "bicubic")),
    "timm__mobileone_s0": ("timm MobileOne", "mobileone_s0", (256, 224, "bilinear")),
    "tv__efficientnet_b0": ("torchvision EfficientNet", "efficientnet_b0", (256, 224, "bicubic")),
    "tv__mnasnet0_5": ("torchvision MNASNet", "mnasnet0_5", (256, 224, "bilinear")),
    "tv__mnasnet1_0": ("torchvision MNASNet", "mnasnet1_0", (256, 224, "bilinear")),
    "tv__mobilenet_v2": ("torchvision MobileNetV2", "mobilenet_v2", (256, 224, "bilinear")),
    "tv__mobilenet_v3_large": ("torchvision MobileNetV3-Large", "mobilenet_v3_large", (256, 224, "bilinear")),
    "tv__mobilenet_v3_small": ("torchvision MobileNetV3-Small", "mobilenet_v3_small", (256, 224, "bilinear")),
    "tv__shufflenet_v2_x1_0": ("torchvision ShuffleNetV2", "shufflenet_v2_x1_0", (256, 224, "bilinear")),
}

TINY = {
    "mobilenet_v2": torchvision_mobilenet_v2,
    "mobilenet_v3_small": torchvision_mobilenet_v3_small,
    "mobilenetv3_small": timm_mobilenetv3_small,
    "mobilenet_v1_stages": mobilenet_v1_stages,
}


def checkpoint(state: StateDict, path: str = "some.pth") -> Checkpoint:
    return Checkpoint(path, "torch-zip", state, {})


def recognised(state: StateDict, **choices: Any) -> Recognised:
    if any(key.startswith("stage1") for key in state):
        choices = {"leaky_slope": 0.1, **choices}
    return recognise(checkpoint(state), **choices)


def ops(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


def strided(graph: Graph) -> list[str]:
    """Names of the convolutions with a stride of 2."""
    return [node.name for node in graph.nodes if node.op == "conv2d" and node.attrs["strides"] == (2, 2)]


def test_every_golden_recipe_is_expected_here(data_dir: Path) -> None:
    assert {path.stem for path in (data_dir / "golden").glob("*.npz")} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_networks(data_dir: Path, name: str) -> None:
    recipes, path = golden(data_dir), str(data_dir / "golden" / f"{name}.npz")
    state = recipes.state_dict(path)
    found = recognise(checkpoint(state, path))
    family, arch, (resize, size, interpolation) = GOLDEN[name]
    assert (found.family, found.arch, found.num_classes) == (family, arch, 1000)
    preprocess = found.preprocess
    assert (preprocess.resize, preprocess.input_size, preprocess.interpolation) == (resize, (size, size), interpolation)
    with np.load(path) as recipe:
        (eps,) = json.loads(str(recipe["recipe"]))["batch_norm_eps"]
    assert found.conventions.bn_eps == eps
    verify(found.graph)
    (x, logits), = list(zip(recipes.inputs(path), recipes.logits(path)))[1:]  # fmt: skip
    (made,) = run_reference(found.graph, {"input": x})
    assert np.abs(made - logits).max() <= 1e-4 * logits.std()
    takers = [f.name for f in FAMILIES if Attempts(state).variant(f, None) is not None]
    assert takers == [family]


@pytest.mark.parametrize(
    ("file", "reference", "arch", "choices"),
    [
        ("mobilenet_v2.pth", "mobilenet_v2", "mobilenet_v2", {}),
        (
            "mobilenetv1_x0.25_leaky.legacy.pth.tar",
            "mobilenetv1_x0.25_leaky",
            "mobilenet_v1_stages",
            {"leaky_slope": 0.1},
        ),
        ("mcunet_320kb.legacy.pth", "mcunet_320kb", "mcunet_in3", {}),
    ],
)
def test_real_networks(data_dir: Path, file: str, reference: str, arch: str, choices: dict[str, Any]) -> None:
    found = recognise(read_checkpoint(data_dir / "weights" / file), **choices)
    assert (found.arch, found.num_classes) == (arch, 1000)
    trained = json.loads((data_dir / "reference" / "models.json").read_text())[reference]
    assert found.preprocess.resize == trained["resize"]
    assert found.preprocess.input_size == (trained["input"], trained["input"])
    assert found.preprocess.interpolation == trained["interpolation"]
    assert [list(found.preprocess.mean), list(found.preprocess.std)] == [trained["mean"], trained["std"]]
    with np.load(data_dir / "reference" / f"{reference}.npz") as expected:
        logits = expected["logits"][:2]
    pixels = np.load(data_dir / "reference" / f"crops{trained['input']}.npy")[:2] / 255
    x = ((pixels - trained["mean"]) / trained["std"]).astype(np.float32).transpose(0, 3, 1, 2)
    (made,) = run_reference(found.graph, {"input": np.ascontiguousarray(x)})
    assert np.abs(made - logits).max() <= 1e-4 * logits.std()


def test_half_precision_becomes_single(data_dir: Path) -> None:
    single = recognise(read_checkpoint(data_dir / "weights" / "mobilenet_v2.pth")).graph.constants
    half = recognise(read_checkpoint(data_dir / "weights" / "mobilenet_v2.fp16.safetensors")).graph.constants
    assert half.keys() == single.keys()
    assert {array.dtype for array in half.values()} == {np.dtype(np.float32)}
    key = "features.1.conv.0.0.weight"
    np.testing.assert_array_equal(half[key], single[key].astype(np.float16))


@pytest.mark.parametrize("arch", TINY)
def test_widths_and_classes_are_those_of_the_shapes(arch: str) -> None:
    state = TINY[arch](3)
    found = recognised(state)
    assert (found.arch, found.num_classes) == (arch, 3)
    verify(found.graph)
    assert [str(value) for value in found.graph.inputs] == ["input: float32[n, 3, h, w]"]
    (made,) = run_reference(found.graph, {"input": np.zeros((2, 3, 32, 40), np.float32)})
    assert made.shape == (2, 3)
    weights = {key for key in state if not key.endswith("num_batches_tracked")}
    assert set(found.graph.constants) == weights


def test_strides_and_residuals_of_mobilenet_v2() -> None:
    graph = recognised(torchvision_mobilenet_v2()).graph
    at = ["features.0.0", *(f"features.{block}.conv.1.0" for block in (2, 4, 7, 14))]
    assert strided(graph) == at
    # Stages of like widths: its stride alone keeps block 2 from adding its input, and block 1 adds its own.
    added = {node.source for node in graph.nodes if node.op == "add"}
    assert added == {f"features.{block}.add" for block in (1, 3, 5, 6, 8, 9, 10, 11, 12, 13, 15, 16)}


def test_strides_of_mobilenet_v1() -> None:
    graph = recognised(mobilenet_v1_stages()).graph
    assert strided(graph) == ["stage1.0.0", "stage1.2.0", "stage1.4.0", "stage2.0.0", "stage3.0.0"]
    assert ops(graph)["leaky_relu"] == 27


def test_the_same_network_in_both_spellings() -> None:
    theirs, ours = (recognised(state()).graph for state in (torchvision_mobilenet_v3_small, timm_mobilenetv3_small))
    common = ("conv2d", "batch_norm", "relu", "hardsigmoid", "mul", "add")
    # timm's head is a 1x1 convolution where torchvision's is linear.
    assert {op: ops(theirs)[op] + (op == "conv2d") for op in common} == {op: ops(ours)[op] for op in common}
    assert ops(theirs)["hardswish"] == ops(ours)["hardswish"] == 19
    assert len(strided(theirs)) == len(strided(ours)) == 5


def test_nodes_are_named_after_modules() -> None:
    graph = recognised(torchvision_mobilenet_v2()).graph
    names = {node.name: node.op for node in graph.nodes}
    assert names["features.3.conv.0.0"] == "conv2d"
    assert names["features.3.conv.0.1"] == "batch_norm"
    assert names["features.3.conv.0.2"] == "clamp"
    assert names["classifier.1"] == "linear"
    assert all(node.source == node.name for node in graph.nodes)


@pytest.mark.parametrize("arch", TINY)
def test_wrappers_and_counters_do_not_matter(arch: str) -> None:
    state = TINY[arch]()
    state["total_ops"] = np.zeros(1)
    first = next(key for key in state if key.endswith("0.weight") or key == "conv_stem.weight")
    state[first.replace("weight", "total_params")] = np.zeros(1)
    without = {key: array for key, array in state.items() if not key.endswith("num_batches_tracked")}
    assert recognised(state).arch == recognised(without).arch == arch


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(dtype: type) -> None:
    state = {key: array.astype(dtype) for key, array in torchvision_mobilenet_v2().items()}
    constants = recognised(state).graph.constants
    assert {array.dtype for array in constants.values()} == {np.dtype(np.float32)}
    key = "features.0.0.weight"
    np.testing.assert_array_equal(constants[key], state[key].astype(np.float32))


def head_of(found: Recognised) -> tuple[str, int]:
    """The last node's operator and name, and the number of classes."""
    node = found.graph.nodes[-1]
    return f"{node.op} {node.name}", found.num_classes


@pytest.mark.parametrize("path", ["classifier", "classifier.0", "classifier.1", "classifier.1.0", "classifier.1.1"])
def test_one_linear_layer_is_the_head_wherever_fine_tuning_put_it(path: str) -> None:
    state = torchvision_mobilenet_v2()
    weight, _ = state.pop("classifier.1.weight"), state.pop("classifier.1.bias")
    state[f"{path}.weight"] = weight
    assert head_of(recognised(state)) == (f"linear {path}", CLASSES)


@pytest.mark.parametrize("arch", TINY)
def test_a_network_without_a_head_gives_features(arch: str) -> None:
    state = {key: array for key, array in TINY[arch]().items() if not key.startswith(("classifier", "fc"))}
    found = recognised(state)
    assert (found.arch, found.num_classes) == (arch, 0)
    (made,) = run_reference(found.graph, {"input": np.zeros((1, 3, 32, 32), np.float32)})
    assert made.shape == (1, {"mobilenet_v2": 48, "mobilenet_v3_small": 40, "mobilenetv3_small": 32}.get(arch, 24))


def test_overrides_reach_the_nodes() -> None:
    state = torchvision_mobilenet_v2()
    plain, chosen = recognised(state), recognised(state, padding="same", bn_eps=1e-3, activation="hardswish")
    assert ops(plain.graph)["clamp"] == ops(chosen.graph)["hardswish"] == 35
    assert {node.attrs["eps"] for node in chosen.graph.nodes if node.op == "batch_norm"} == {1e-3}
    padding = {node.name: node.attrs["padding"] for node in chosen.graph.nodes if node.op == "conv2d"}
    assert [name for name, style in padding.items() if style == "same"] == strided(chosen.graph)
    assert padding["features.1.conv.0.0"] == (1, 1, 1, 1)
    assert chosen.conventions.padding == "same"


def test_a_slope_is_taken_as_given() -> None:
    graph = recognised(mobilenet_v1_stages(), leaky_slope=0.25).graph
    assert {node.attrs["slope"] for node in graph.nodes if node.op == "leaky_relu"} == {0.25}
    assert ops(recognised(torchvision_mobilenet_v2(), activation="leaky_relu", leaky_slope=0).graph)["leaky_relu"] == 35


def test_a_name_chooses_among_networks_with_the_same_keys(data_dir: Path) -> None:
    recipes, path = golden(data_dir), str(data_dir / "golden" / "timm__mobilenetv3_small_100.npz")
    state = recipes.state_dict(path)
    found = recognise(checkpoint(state), arch="tf_mobilenetv3_small_100")
    assert found.arch == "tf_mobilenetv3_small_100"
    assert (found.conventions.padding, found.conventions.bn_eps) == ("same", 1e-3)
    assert (found.preprocess.interpolation, found.preprocess.mean) == ("bilinear", (0.5, 0.5, 0.5))
    any_size = recognise(checkpoint(state), arch="mobilenetv3_small")
    assert (any_size.arch, any_size.conventions.padding) == ("mobilenetv3_small", "symmetric")


def test_the_list_of_families_is_consistent() -> None:
    rows = families()
    assert len({row.family for row in rows}) == len(rows)
    for family, row in zip(FAMILIES, rows, strict=True):
        assert len(set(row.archs)) == len(row.archs)
        assert any(not variant.named_only for variant in family.variants)
    archs = {arch for row in rows for arch in row.archs}
    assert {"mobilenet_v2", "mobilenetv1_125", "mobilenetv1_100h", "mobileone_s4", "tf_efficientnet_lite4"} <= archs
