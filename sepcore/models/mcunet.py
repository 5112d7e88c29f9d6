"""MCUNet: searched inverted residuals in seven stages, keys as in Once-for-All networks (Lin et al. 2020, section 3.1).

It must not know more of the network than the search kept fixed: the stages' strides.
"""

from __future__ import annotations

from sepcore.models.blocks import BlockPaths, inverted_residual
from sepcore.models.conventions import Conventions
from sepcore.models.family import INCEPTION_MEAN, INCEPTION_STD, Family, Stage, Variant, timm_preprocess
from sepcore.models.network import Head, Layer, Network
from sepcore.models.weights import Mismatch

STAGES = (
    Stage("ir", stride=1, channels=8, blocks=1),
    Stage("ir", stride=2, channels=16, blocks=4),
    Stage("ir", stride=2, channels=24, blocks=3),
    Stage("ir", stride=2, channels=40, blocks=3),
    Stage("ir", stride=1, channels=48, blocks=3),
    Stage("ir", stride=2, channels=96, blocks=3),
    Stage("ir", stride=1, channels=160, blocks=1),
)


def _build(net: Network, variant: Variant) -> Head:
    """A stage begins with every block whose output has other channels than its input."""
    x = net.conv_bn(net.image(), _layer("first_conv"), stride=2)
    index = -1
    for number in range(max(net.weights.count("blocks"), 1)):
        path = f"blocks.{number}"
        key = f"{path}.mobile_inverted_conv.point_linear.conv.weight"
        first = net.weights.take(key, (None, None, 1, 1)).shape[0] != x.channels
        index += first
        if not 0 <= index < len(STAGES):
            raise Mismatch(key, f"{len(STAGES)} stages, each with other channels than the one before", "another")
        stage = STAGES[index]
        stride, out = (stage.stride, variant.channels(index, stage)) if first else (1, None)
        x = inverted_residual(net, x, _paths(net, path), stride=stride, out=out)
    if index != len(STAGES) - 1:
        raise Mismatch(f"blocks.{number + 1}", f"{len(STAGES)} stages of blocks", f"only {index + 1}")
    return net.classifier(net.global_pool(x, "global_avg_pool"), "classifier.linear")


def _paths(net: Network, path: str) -> BlockPaths:
    inner = f"{path}.mobile_inverted_conv"
    expands = f"{inner}.inverted_bottleneck.conv.weight" in net.weights
    expand = _layer(f"{inner}.inverted_bottleneck") if expands else None
    return BlockPaths(path, expand, _layer(f"{inner}.depth_conv"), None, _layer(f"{inner}.point_linear"))


def _layer(path: str) -> Layer:
    return Layer(f"{path}.conv", f"{path}.bn", f"{path}.act")


_PREPROCESS = timm_preprocess(176, 0.875, "bilinear", INCEPTION_MEAN, INCEPTION_STD)
_CONVENTIONS = Conventions(activation="relu6")

FAMILIES = (
    Family(
        name="MCUNet",
        keys=r"first_conv\.|blocks\.\d+\.mobile_inverted_conv\.",
        build=_build,
        variants=(
            Variant("mcunet_in3", _PREPROCESS, _CONVENTIONS, width=1.0),
            Variant("mcunet", _PREPROCESS, _CONVENTIONS),
        ),
    ),
)
