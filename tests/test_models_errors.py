"""State dicts that are broken, foreign or ambiguous, and senseless options: one error that says which and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_state_dicts import (
    StateDict,
    mobilenet_v1_stages,
    timm_mobilenetv3_small,
    torchvision_mobilenet_v2,
    torchvision_mobilenet_v3_small,
)

from sepcore.errors import OptionError, UnsupportedModelError
from sepcore.formats.checkpoint import Checkpoint
from sepcore.models import families, recognise


def problem(state: StateDict, **choices: Any) -> str:
    """The last line of the error that ``state`` raises."""
    with pytest.raises(UnsupportedModelError) as caught:
        recognise(Checkpoint("some.pth", "torch-zip", state, {}), **choices)
    assert "some.pth" in str(caught.value)
    return caught.value.problems[-1]


def test_a_foreign_state_dict_lists_what_it_was_held_against() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        recognise(Checkpoint("resnet.pth", "torch-zip", {"layer1.0.conv1.weight": np.zeros((4, 4, 3, 3))}, {}))
    held, closest = caught.value.problems
    for row in families():
        assert row.family in held
    assert "layer1.0.conv1.weight" in closest


def test_an_empty_state_dict() -> None:
    assert "no tensor" in problem({})


@pytest.mark.parametrize("create", [torchvision_mobilenet_v2, torchvision_mobilenet_v3_small, timm_mobilenetv3_small])
def test_each_missing_tensor_is_missed(create: Callable[[], StateDict]) -> None:
    """Without any one tensor (but a linear layer's bias, which may be absent) the error names its block."""
    whole = create()
    # Without this one the network resembles MobileNetV3-Large for longer than it resembles its own family.
    misleading = "blocks.0.0.se.conv_reduce.weight"
    for key in whole:
        if key.endswith("num_batches_tracked") or key.startswith("classifier") or key == misleading:
            continue
        found = problem({name: array for name, array in whole.items() if name != key})
        parts = key.split(".")
        block = ".".join(parts[:2] if parts[0] == "features" else parts[:-1] if parts[0] != "blocks" else parts[:3])
        assert block in found, key


@pytest.mark.parametrize(
    ("key", "array", "expected"),
    [
        ("features.3.conv.1.0.weight", np.zeros((17, 1, 3, 3), np.float32), "[16, 1, *, *], found [17, 1, 3, 3]"),
        ("features.3.conv.1.0.weight", np.zeros((16, 1, 3, 5), np.float32), "a square kernel of odd size, found"),
        ("features.3.conv.1.0.weight", np.zeros((16, 1, 2, 2), np.float32), "a square kernel of odd size, found"),
        ("features.3.conv.2.weight", np.zeros((0, 16, 1, 1), np.float32), "found [0, 16, 1, 1]"),
        ("features.3.conv.2.weight", np.zeros((8, 16), np.float32), "found [8, 16]"),
        ("features.3.conv.3.running_var", np.full(8, -1, np.float32), "variances of at least 0"),
        ("features.3.conv.3.running_var", np.full(8, np.nan, np.float32), "variances of at least 0"),
        ("features.3.conv.3.weight", np.ones(8, np.int64), "floating-point numbers, found int64"),
        ("features.3.conv.3.weight", np.ones(8, np.complex64), "floating-point numbers, found complex64"),
        ("features.3.conv.3.weight", np.full(8, 1e300), "within float32's range"),
        ("features.0.0.weight", np.zeros((8, 1, 3, 3), np.float32), "[*, 3, *, *], found [8, 1, 3, 3]"),
        ("features.19.0.weight", np.zeros((8, 8, 1, 1), np.float32), "no such tensor, found [8, 8, 1, 1]"),
        ("ema.features.0.0.weight", np.zeros((8, 3, 3, 3), np.float32), "no such tensor"),
        ("optimizer.state.0", np.zeros(3, np.float32), "no such tensor"),
        ("classifier.1.weight", np.zeros((5, 47), np.float32), "[*, 48], found [5, 47]"),
        ("classifier.4.weight", np.zeros((5, 5), np.float32), "one linear layer under classifier"),
    ],
)
def test_one_wrong_tensor_is_named(key: str, array: Any, expected: str) -> None:
    found = problem({**torchvision_mobilenet_v2(), key: array})
    assert found.startswith(f"closest is torchvision MobileNetV2: {key}: ")
    assert expected in found


def test_a_linear_layer_after_something_unknown() -> None:
    state = torchvision_mobilenet_v2()
    state["classifier.3.weight"], _ = state.pop("classifier.1.weight"), state.pop("classifier.1.bias")
    assert "export the graph" in problem(state)


def test_the_first_half_of_a_two_layer_head_alone() -> None:
    state = torchvision_mobilenet_v3_small()
    del state["classifier.3.weight"], state["classifier.3.bias"]
    assert "classifier.3.weight" in problem(state)


def test_indices_are_bounded() -> None:
    state = torchvision_mobilenet_v2()
    state["features.999999999999.0.weight"] = np.zeros(1, np.float32)
    assert "features.999999999999.0.weight" in problem(state)
    timm = timm_mobilenetv3_small()
    timm["blocks.1.9999.conv_pw.weight"] = np.zeros(1, np.float32)
    assert "blocks.1.2.conv_pw.weight" in problem(timm)


def test_a_wrong_name_names_the_first_mismatch() -> None:
    found = problem(timm_mobilenetv3_small(), arch="mobilenetv3_small_100")
    assert found.startswith(
        "not a state dict of mobilenetv3_small_100 (timm MobileNetV3-Small): blocks.0.0.conv_pw.weight"
    )
    assert "[16, 8, 1, 1], found [8, 8, 1, 1]" in found
    assert "features.0.0.weight" in problem(timm_mobilenetv3_small(), arch="mobilenet_v2")


def test_an_unknown_name_is_an_option_error() -> None:
    with pytest.raises(OptionError, match="mobilenet_v2"):
        recognise(Checkpoint("some.pth", "", torchvision_mobilenet_v2(), {}), arch="mobilenet_v22")


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"width": 2}, "width: expected one of the overrides activation, bn_eps"),
        ({"padding": "valid"}, "padding: expected one of symmetric, same, found 'valid'"),
        ({"bn_eps": 0}, "bn_eps: expected a positive number, found 0"),
        ({"bn_eps": float("nan")}, "bn_eps: expected a positive number, found nan"),
        ({"bn_eps": True}, "bn_eps: expected a positive number, found True"),
        ({"activation": "tanh"}, "activation: expected one of relu, relu6"),
        ({"activation": ["relu"]}, "activation: expected one of relu, relu6"),
        ({"leaky_slope": -0.1}, "leaky_slope: expected a number of at least 0"),
        ({"leaky_slope": 0.1}, "the activation of torchvision MobileNetV2 is relu6"),
        ({"activation": "leaky_relu"}, "pass the one"),
    ],
)
def test_overrides_are_checked(choices: dict[str, Any], expected: str) -> None:
    with pytest.raises(OptionError) as caught:
        recognise(Checkpoint("some.pth", "", torchvision_mobilenet_v2(), {}), **choices)
    assert expected in str(caught.value)


def test_a_slope_that_nobody_gave_is_not_guessed() -> None:
    checkpoint = Checkpoint("some.pth", "", mobilenet_v1_stages(), {})
    with pytest.raises(OptionError, match=r"leaky_slope=0\.1"):
        recognise(checkpoint)
    assert recognise(checkpoint, leaky_slope=0.1).conventions.leaky_slope == 0.1
    assert recognise(checkpoint, activation="relu").conventions.activation == "relu"


def test_an_override_that_the_family_does_not_know() -> None:
    without = [row.family for row in families() if "padding" not in row.overrides]
    assert without == ["torchvision ShuffleNetV2", "timm MobileOne"]
    one = {"stem.reparam_conv.weight": np.ones((48, 3, 3, 3), np.float32), "stem.reparam_conv.bias": np.ones(48)}
    c = 48
    for stage, (blocks, oc) in enumerate(((4, 48), (16, 128), (20, 256), (2, 1024))):
        for block in range(blocks):
            path, shape = f"stages.{stage}.{block}.reparam_conv", (c, 1, 3, 3) if block % 2 == 0 else (oc, c, 1, 1)
            one[f"{path}.weight"], one[f"{path}.bias"] = np.ones(shape, np.float32), np.ones(shape[0], np.float32)
            c = shape[0]
    checkpoint = Checkpoint("some.pth", "", one, {})
    assert recognise(checkpoint).arch == "mobileone_s0"
    with pytest.raises(OptionError, match="padding: expected an override that timm MobileOne knows"):
        recognise(checkpoint, padding="same")
