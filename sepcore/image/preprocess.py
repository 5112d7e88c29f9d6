"""What a network wants done to a picture before it sees it; describes the steps and performs none of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sepcore.errors import OptionError

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
CROPS = ("center",)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """From a picture of any size to the network's input.

    The order is fixed: resize the short side, crop, scale bytes to 0..1, subtract ``mean``, divide by ``std``.

    Attributes
    ----------
    input_size : (height, width) of the network's input, in pixels.
    resize : length of the picture's short side before the crop, in pixels; None leaves the size alone.
    crop : where the input is cut out; only "center". A side shorter than the input is padded with black.
    interpolation : Pillow's antialiased filter used by the resize, one of INTERPOLATIONS.
    mean, std : per channel (red, green, blue), for values scaled to 0..1.

    Raises
    ------
    OptionError
        A field has a value that is not allowed.
    """

    input_size: tuple[int, int] = (224, 224)
    resize: int | None = 256
    crop: str = "center"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.input_size) != 2 or not all(_is_length(side) for side in self.input_size):
            raise OptionError(f"input_size: expected two positive integers (h, w), found {self.input_size!r}")
        if self.resize is not None and not _is_length(self.resize):
            raise OptionError(f"resize: expected a positive integer or None, found {self.resize!r}")
        if self.crop not in CROPS:
            raise OptionError(f"crop: expected one of {', '.join(CROPS)}, found {self.crop!r}")
        if self.interpolation not in INTERPOLATIONS:
            raise OptionError(
                f"interpolation: expected one of {', '.join(INTERPOLATIONS)}, found {self.interpolation!r}"
            )
        if len(self.mean) != 3 or not all(math.isfinite(value) for value in self.mean):
            raise OptionError(f"mean: expected three finite numbers, found {self.mean!r}")
        if len(self.std) != 3 or not all(math.isfinite(value) and value > 0 for value in self.std):
            raise OptionError(f"std: expected three positive numbers, found {self.std!r}")


def _is_length(value: object) -> bool:
    return type(value) is int and value > 0
