"""How torchvision spells the layers that several of its networks share.

It must not know a family's stages.
"""

from __future__ import annotations

from typing import Any

from sepcore.models.blocks import BlockPaths, SqueezePaths
from sepcore.models.network import Layer, Map, Network
from sepcore.models.weights import Mismatch


def triple(path: str) -> Layer:
    """A ``Conv2dNormActivation``: convolution, BatchNorm and activation in sequence."""
    return Layer(f"{path}.0", f"{path}.1", f"{path}.2")


def stem_or_head(net: Network, x: Map, path: str, **conv: Any) -> Map:
    """The first or last convolution of a feature extractor."""
    return net.conv_bn(x, triple(path), **conv)


def block_paths(net: Network, path: str, *, fused: bool = False) -> BlockPaths:
    """The layers of the sequence ``path.block``, told apart by their keys.

    Raises
    ------
    Mismatch
        They are not [expand,] depthwise, [squeeze-excite,] project or, where ``fused``, expand, project.
    """
    count = net.weights.count(f"{path}.block")
    squeezes = [i for i in range(count) if f"{path}.block.{i}.fc1.weight" in net.weights]
    layers = [triple(f"{path}.block.{i}") for i in range(count) if i not in squeezes]
    most = 2 if fused else 3
    if not 2 <= len(layers) <= most or len(squeezes) > (0 if fused else 1) or squeezes not in ([], [count - 2]):
        expected = "the layers of an inverted residual block (2 to 3 convolutions, squeeze-excite before the last)"
        raise Mismatch(f"{path}.block.0.0.weight", expected, f"{len(layers)} and {len(squeezes)} squeeze-excites")
    squeeze = _squeeze_paths(f"{path}.block.{squeezes[0]}") if squeezes else None
    if fused:
        return BlockPaths(path, layers[0], None, None, layers[1])
    return BlockPaths(path, layers[0] if len(layers) == 3 else None, layers[-2], squeeze, layers[-1])


def _squeeze_paths(path: str) -> SqueezePaths:
    return SqueezePaths(
        f"{path}.avgpool", f"{path}.fc1", f"{path}.activation", f"{path}.fc2", f"{path}.scale_activation"
    )
