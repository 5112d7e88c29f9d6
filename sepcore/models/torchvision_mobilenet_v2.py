"""torchvision's MobileNetV2, of any width (Sandler et al. 2018, table 2).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from sepcore.image.preprocess import Preprocess
from sepcore.models.blocks import BlockPaths, inverted_residual
from sepcore.models.conventions import Conventions
from sepcore.models.family import Family, Stage, Variant
from sepcore.models.network import Head, Layer, Network
from sepcore.models.torchvision_layout import stem_or_head

STAGES = (
    Stage("ir", stride=1, channels=16, blocks=1),
    Stage("ir", stride=2, channels=24, blocks=2),
    Stage("ir", stride=2, channels=32, blocks=3),
    Stage("ir", stride=2, channels=64, blocks=4),
    Stage("ir", stride=1, channels=96, blocks=3),
    Stage("ir", stride=2, channels=160, blocks=3),
    Stage("ir", stride=1, channels=320, blocks=1),
)


def _build(net: Network, variant: Variant) -> Head:
    x = stem_or_head(net, net.image(), "features.0", stride=2)
    strides = [stage.stride if first else 1 for stage in STAGES for first in [True] + [False] * (stage.blocks - 1)]
    for index, stride in enumerate(strides, 1):
        x = inverted_residual(net, x, _paths(net, f"features.{index}"), stride=stride)
    x = stem_or_head(net, x, f"features.{len(strides) + 1}", kernel=1)
    return net.classifier(net.global_pool(x, "avgpool"), "classifier")


def _paths(net: Network, path: str) -> BlockPaths:
    """A block's layers: ``conv.0`` expands, unless the block's input is as wide as its filter; then it is left out."""
    expands = f"{path}.conv.1.0.weight" in net.weights
    layers = [Layer(f"{path}.conv.{i}.0", f"{path}.conv.{i}.1", f"{path}.conv.{i}.2") for i in range(1 + expands)]
    last = 1 + expands
    project = Layer(f"{path}.conv.{last}", f"{path}.conv.{last + 1}", "")
    return BlockPaths(path, layers[0] if expands else None, layers[-1], None, project)


FAMILIES = (
    Family(
        name="torchvision MobileNetV2",
        keys=r"features\.\d+\.(conv\.|\d\.)",
        build=_build,
        variants=(Variant("mobilenet_v2", Preprocess(), Conventions(activation="relu6")),),
    ),
)
