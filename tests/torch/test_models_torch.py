"""Every network that a family names, built by torchvision or timm: recognised by name, with PyTorch's logits."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from graph_in_torch import run_in_torch
from torch import nn

from sepcore.formats.checkpoint import Checkpoint
from sepcore.models import Recognised, families, recognise

pytestmark = pytest.mark.torch

CLASSES = 7
SIZE = (96, 64)
NAMED = [
    (row.family.split()[0], arch)
    for row in families()
    for arch in row.archs
    if arch in (timm.list_models() if row.family.startswith("timm") else torchvision.models.list_models())
]


def randomised(module: nn.Module, seed: int = 0, least_variance: float = 0.0) -> nn.Module:
    """``module`` with BatchNorm statistics that do something, scaled so that activations keep their size.

    A deep network whose channels have next to no variance multiplies rounding errors until PyTorch's own float32
    logits are noise; ``least_variance`` keeps it well-conditioned.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.2, generator=generator)
            part.momentum = 1.0
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0, part.in_features**-0.5, generator=generator)
    module.train()
    for part in module.modules():
        if isinstance(part, nn.Dropout) or type(part).__name__ in ("StochasticDepth", "DropPath"):
            part.eval()
    with torch.no_grad():
        module(torch.randn(4, 3, *SIZE, generator=generator))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.clamp_(min=least_variance)
    return module.eval()


def state_dict(module: nn.Module) -> dict[str, np.ndarray]:
    return {key: tensor.numpy() for key, tensor in module.state_dict().items()}


def recognised(module: nn.Module, **choices: Any) -> Recognised:
    return recognise(Checkpoint("made.pth", "torch-zip", state_dict(module), {}), **choices)


def assert_same(found: Recognised, module: nn.Module) -> None:
    x = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = module(x).numpy()
    got = run_in_torch(found.graph, x.numpy())
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize(("source", "arch"), NAMED)
def test_named_networks(source: str, arch: str) -> None:
    create = timm.create_model if source == "timm" else torchvision.models.get_model
    module = randomised(create(arch, num_classes=CLASSES), least_variance=0.5 if arch == "mobileone_s4" else 0.0)
    named_only = any(part in arch for part in ("tf_", "_aa_", "blur")) and "minimal" not in arch
    found = recognised(module, arch=arch) if named_only else recognised(module)
    assert (found.family.split()[0], found.arch, found.num_classes) == (source, arch, CLASSES)
    assert_same(found, module)
    if named_only:
        plain = recognised(module)
        assert plain.arch != arch
        with pytest.raises(AssertionError):
            assert_same(plain, module)
    if named_only and arch.startswith("tf_"):
        assert_same(recognised(module, padding="same", bn_eps=1e-3), module)


@pytest.mark.parametrize("arch", [arch for source, arch in NAMED if source == "timm"])
def test_preprocessing_is_timms(arch: str) -> None:
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(arch).to_dict())
    # Preprocess has no crop that squashes, which one tag's weights were tested with.
    assert config["crop_mode"] == "center" or arch == "efficientnet_b5"
    module = timm.create_model(arch, num_classes=1)
    preprocess = recognised(module, arch=arch).preprocess
    assert preprocess.input_size == config["input_size"][1:]
    assert preprocess.resize == math.floor(config["input_size"][1] / config["crop_pct"])
    assert (preprocess.interpolation, preprocess.mean, preprocess.std) == (
        config["interpolation"],
        config["mean"],
        config["std"],
    )


@pytest.mark.parametrize("arch", [arch for source, arch in NAMED if source == "torchvision"])
def test_preprocessing_is_torchvisions(arch: str) -> None:
    transforms = next(iter(torchvision.models.get_model_weights(arch))).transforms()
    preprocess = recognised(torchvision.models.get_model(arch, num_classes=1)).preprocess
    assert [preprocess.input_size[0], preprocess.resize] == transforms.crop_size + transforms.resize_size
    assert preprocess.interpolation == transforms.interpolation.value
    assert [list(preprocess.mean), list(preprocess.std)] == [transforms.mean, transforms.std]


def efficientnet_module(name: str, *arguments: Any, **choices: Any) -> nn.Module:
    """timm's generator ``name`` in its file of EfficientNets or MobileNets."""
    models = timm.models
    generate = getattr(models.efficientnet, name, None) or getattr(models.mobilenetv3, name)
    return generate(*arguments, num_classes=CLASSES, **choices)


OTHER_SIZES = {
    "tv mobilenet_v2 narrow": (lambda: torchvision.models.mobilenet_v2(width_mult=0.25), "mobilenet_v2"),
    "tv mobilenet_v2 wide": (lambda: torchvision.models.mobilenet_v2(width_mult=1.4), "mobilenet_v2"),
    "tv mobilenet_v3 narrow": (lambda: torchvision.models.mobilenet_v3_large(width_mult=0.35), "mobilenet_v3_large"),
    "tv mobilenet_v3 short tail": (
        lambda: torchvision.models.mobilenet_v3_small(reduced_tail=True),
        "mobilenet_v3_small",
    ),
    "tv mnasnet": (lambda: torchvision.models.MNASNet(0.35), "mnasnet"),
    "tv shufflenet": (lambda: torchvision.models.ShuffleNetV2([3, 5, 2], [24, 60, 128, 240, 512]), "shufflenet_v2"),
    "timm v1": (lambda: efficientnet_module("_gen_mobilenet_v1", "x", 0.5), "mobilenetv1"),
    "timm v2": (lambda: efficientnet_module("_gen_mobilenet_v2", "x", 0.6), "mobilenetv2"),
    "timm v2 deep": (lambda: efficientnet_module("_gen_mobilenet_v2", "x", 1.0, 1.5), "mobilenetv2"),
    "timm v3 large": (lambda: efficientnet_module("_gen_mobilenet_v3", "large", 0.5), "mobilenetv3_large"),
    "timm v3 small": (lambda: efficientnet_module("_gen_mobilenet_v3", "small", 0.35), "mobilenetv3_small"),
    "timm v3 rw": (lambda: efficientnet_module("_gen_mobilenet_v3_rw", "rw", 0.5, bn_eps=1e-3), "mobilenetv3_large_rw"),
    "timm v4 small": (lambda: efficientnet_module("_gen_mobilenet_v4", "conv_small", 0.75), "mobilenetv4_small"),
    "timm v4 medium": (lambda: efficientnet_module("_gen_mobilenet_v4", "conv_medium", 0.5), "mobilenetv4"),
    "timm efficientnet": (lambda: efficientnet_module("_gen_efficientnet", "x", 0.5, 0.5), "efficientnet"),
    "timm lite": (lambda: efficientnet_module("_gen_efficientnet_lite", "x", 0.5, 1.0), "efficientnet_lite"),
    "timm ghostnet": (lambda: timm.models.ghostnet._create_ghostnet("ghostnet_100", width=0.7), "ghostnet"),
}


@pytest.mark.parametrize("case", OTHER_SIZES)
def test_networks_of_other_sizes(case: str) -> None:
    create, arch = OTHER_SIZES[case]
    module = randomised(create())
    found = recognised(module)
    assert found.arch == arch
    assert_same(found, module)


@pytest.mark.parametrize("arch", ["mobileone_s0", "mobileone_s4"])
def test_reparameterised_mobileone(arch: str) -> None:
    trained = randomised(timm.create_model(arch, num_classes=CLASSES), least_variance=0.5)
    module = timm.utils.reparameterize_model(trained)
    found = recognised(module)
    assert found.arch == arch
    assert_same(found, module)


def test_first_version_of_mnasnet_has_a_stem_of_fixed_width() -> None:
    module = torchvision.models.mnasnet0_5(num_classes=CLASSES)
    nothing: Any = OrderedDict()
    nothing._metadata = {"": {"version": 1}}
    module.load_state_dict(nothing, strict=False)
    assert module.layers[0].out_channels == 32
    found = recognised(randomised(module))
    assert found.arch == "mnasnet0_5"
    assert_same(found, module)


HEADS = {
    "linear in place of the sequence": (torchvision.models.mobilenet_v2, "classifier", lambda c: nn.Linear(c, 5), 5),
    "last linear": (torchvision.models.mobilenet_v2, "classifier.1", lambda c: nn.Linear(c, 3), 3),
    "no bias": (torchvision.models.mobilenet_v2, "classifier.1", lambda c: nn.Linear(c, 3, bias=False), 3),
    "nested": (
        torchvision.models.mobilenet_v2,
        "classifier.1",
        lambda c: nn.Sequential(nn.Dropout(0.3), nn.Linear(c, 4)),
        4,
    ),
    "none": (torchvision.models.mobilenet_v2, "classifier", lambda c: nn.Identity(), 0),
    "v3's last": (torchvision.models.mobilenet_v3_small, "classifier.3", lambda c: nn.Linear(1024, 6), 6),
    "v3's whole": (torchvision.models.mobilenet_v3_small, "classifier", lambda c: nn.Linear(576, 6), 6),
    "v3 without": (torchvision.models.mobilenet_v3_small, "classifier", lambda c: nn.Identity(), 0),
    "shufflenet's": (torchvision.models.shufflenet_v2_x0_5, "fc", lambda c: nn.Linear(1024, 2), 2),
}


@pytest.mark.parametrize("case", HEADS)
def test_fine_tuned_heads(case: str) -> None:
    create, path, head, classes = HEADS[case]
    module = create()
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, head(1280))
    found = recognised(randomised(module))
    assert found.num_classes == classes
    assert_same(found, module)


@pytest.mark.parametrize(
    "arch", ["mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv4_conv_small_050", "ghostnet_050"]
)
def test_timm_backbones_without_classes(arch: str) -> None:
    module = randomised(timm.create_model(arch, num_classes=0))
    found = recognised(module)
    assert (found.arch, found.num_classes) == (arch, 0)
    assert_same(found, module)


def test_activation_is_an_override() -> None:
    module = randomised(timm.create_model("mobilenetv2_050", act_layer="silu", num_classes=CLASSES))
    assert_same(recognised(module, activation="silu"), module)
