"""What a family file fills in: a stage table, the named variants with their defaults, the function that builds them.

It must not know any single family, nor how a state dict is held against one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from sepcore.image.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from sepcore.models.conventions import OVERRIDES, Conventions
from sepcore.models.network import Head, Network

INCEPTION_MEAN = INCEPTION_STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Stage:
    """One row of a family's stage table: what shapes cannot say, and what its named variants are known by.

    Attributes
    ----------
    block : kind of block; the family's builder knows the kinds.
    stride : of the stage's first block; the others have 1.
    channels, blocks : the last block's output channels and the number of blocks, before width and depth are scaled.
    kernel : size of the first block's filter where it sets the family apart from others; None takes any.
    squeeze : whether the first block has a squeeze-excite, where that sets the family apart; None takes either.
    activation : where it is not the network's own.
    skip : whether blocks add their input where shapes allow it.
    fixed_depth : whether the number of blocks stays as it is when depth is scaled.
    """

    block: str
    stride: int
    channels: int
    blocks: int = 1
    kernel: int | None = None
    squeeze: bool | None = None
    activation: str | None = None
    skip: bool = True
    fixed_depth: bool = False


def round_channels(channels: float, divisor: int = 8) -> int:
    """To the nearest multiple of ``divisor``, but not to less than nine tenths (the rule of MobileNetV2's authors)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


@dataclass(frozen=True)
class Variant:
    """A network of a family by name.

    Attributes
    ----------
    arch : its name in torchvision or timm.
    width : what the stages' channels are multiplied by.
    depth : what the numbers of blocks are multiplied by, rounded up.
    stage_channels : the stages' channels where they follow no rule; the numbers of blocks are then free. Where neither
        this nor ``width`` is given, channels and numbers of blocks may be any.
    features : channels after the head's convolution; None for any, 0 for a head without one.
    conventions : what its weights cannot say.
    preprocess : what it wants done to a picture.
    named_only : its keys and shapes are another variant's too, so that it must be asked for by name.
    """

    arch: str
    preprocess: Preprocess
    conventions: Conventions = field(default_factory=Conventions)
    width: float | None = None
    depth: float = 1.0
    stage_channels: tuple[int, ...] | None = None
    features: int | None = None
    named_only: bool = False

    def channels(self, index: int, stage: Stage, divisor: int = 8) -> int | None:
        """Output channels of the last block of the stage of that index; None where any will do."""
        if self.stage_channels is not None:
            return self.stage_channels[index]
        return None if self.width is None else round_channels(stage.channels * self.width, divisor)

    def blocks(self, stage: Stage, found: int) -> int:
        """The number of blocks of a stage of which ``found`` were found."""
        if self.width is None:
            return max(found, 1)
        return stage.blocks if stage.fixed_depth else math.ceil(stage.blocks * self.depth)


@dataclass(frozen=True)
class Family:
    """Networks of one key layout and one stage table.

    Attributes
    ----------
    name : for people: where the layout comes from, and the paper's name.
    keys : regular expression for the start of its keys but the classifier's, which many networks share; it finds the
        family closest to an unknown state dict.
    build : adds the layers of a variant to a network; a tensor that does not fit raises a Mismatch.
    variants : by name; the ones that stand for any sizes last.
    overrides : the conventions that a user may choose.
    """

    name: str
    keys: str
    build: Callable[[Network, Variant], Head]
    variants: tuple[Variant, ...]
    overrides: tuple[str, ...] = OVERRIDES


def timm_preprocess(
    size: int = 224,
    crop_pct: float = 0.875,
    interpolation: str = "bicubic",
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Preprocess:
    """timm's evaluation transform: the short side becomes ``floor(size / crop_pct)``, the crop is ``size``."""
    return Preprocess((size, size), math.floor(size / crop_pct), "center", interpolation, mean, std)
