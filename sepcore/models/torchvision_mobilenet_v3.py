"""torchvision's MobileNetV3, large and small, of any width (Howard et al. 2019, tables 1 and 2).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from functools import partial

from sepcore.image.preprocess import Preprocess
from sepcore.models.blocks import SqueezeKind, inverted_residual
from sepcore.models.conventions import Conventions
from sepcore.models.family import Family, Stage, Variant
from sepcore.models.network import Head, Map, Network
from sepcore.models.torchvision_layout import block_paths, stem_or_head
from sepcore.models.weights import Mismatch

LARGE = (
    Stage("ir", stride=1, channels=16, blocks=1, activation="relu"),
    Stage("ir", stride=2, channels=24, blocks=2, activation="relu"),
    Stage("ir", stride=2, channels=40, blocks=3, activation="relu"),
    Stage("ir", stride=2, channels=80, blocks=4),
    Stage("ir", stride=1, channels=112, blocks=2),
    Stage("ir", stride=2, channels=160, blocks=3),
)
SMALL = (
    Stage("ir", stride=2, channels=16, blocks=1, activation="relu"),
    Stage("ir", stride=2, channels=24, blocks=2, activation="relu"),
    Stage("ir", stride=2, channels=40, blocks=3),
    Stage("ir", stride=1, channels=48, blocks=2),
    Stage("ir", stride=2, channels=96, blocks=3),
)

SQUEEZE = SqueezeKind("relu", "hardsigmoid")


def _build(net: Network, variant: Variant, stages: tuple[Stage, ...]) -> Head:
    x = stem_or_head(net, net.image(), "features.0", stride=2)
    index = 0
    for stage in stages:
        for block in range(stage.blocks):
            index += 1
            paths, stride = block_paths(net, f"features.{index}"), 1 if block else stage.stride
            x = inverted_residual(net, x, paths, SQUEEZE, stride=stride, activation=stage.activation)
    x = stem_or_head(net, x, f"features.{index + 1}", kernel=1)
    return _head(net, net.global_pool(x, "avgpool"))


def _head(net: Network, x: Map) -> Head:
    """Two linear layers with an activation between them, or what fine-tuning has put in their place."""
    found = net.weights.linear_layers("classifier")
    if found == ["classifier.0"]:
        expected = "a second linear layer (alone, the first may be the whole head or a headless network's last layer)"
        raise Mismatch("classifier.3.weight", expected, "none")
    if found and found[0] == "classifier.0":
        x = net.activation(net.linear(x, "classifier.0"), "classifier.1")
        return net.classifier(x, "classifier.3")
    return net.classifier(x, "classifier")


def _family(size: str, stages: tuple[Stage, ...]) -> Family:
    return Family(
        name=f"torchvision MobileNetV3-{size.capitalize()}",
        keys=r"features\.\d+\.(block\.|\d\.)",
        build=partial(_build, stages=stages),
        variants=(Variant(f"mobilenet_v3_{size}", Preprocess(), Conventions(activation="hardswish", bn_eps=1e-3)),),
    )


FAMILIES = (_family("large", LARGE), _family("small", SMALL))
