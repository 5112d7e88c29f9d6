"""Pictures to the float32 tensor a network takes; the arithmetic of training, operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sepcore.errors import InputError
from sepcore.image.read import Picture, load_rgb, picture_name
from sepcore.image.resize import resize_and_crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sepcore.image.preprocess import Preprocess


def prepare(
    pictures: Sequence[Picture], preprocess: Preprocess, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Read, resize, crop and normalise pictures.

    Parameters
    ----------
    pictures : anything that `sepcore.image.read.read_image` takes, n of them.
    preprocess : the network's preprocessing.
    out : float32 (n, 3, h, w), C-contiguous, to be filled instead of a new array.

    Returns
    -------
    float32 (n, 3, h, w), C-contiguous; bit-equal to torchvision's Resize, CenterCrop, ToTensor and Normalize.

    Raises
    ------
    ImageError
        A picture cannot be read; it names the picture.
    InputError
        ``out`` has another dtype, shape or layout.
    """
    shape = (len(pictures), 3, *preprocess.input_size)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.dtype != np.float32 or out.shape != shape or not out.flags.c_contiguous:
        raise InputError(f"out: expected C-contiguous float32 {shape}, found {out.dtype} {out.shape}")
    for picture, plane in zip(pictures, out):
        prepare_into(picture, preprocess, plane)
    return out


def prepare_into(picture: Picture, preprocess: Preprocess, out: NDArray[np.float32]) -> None:
    """`prepare` for one picture: fills ``out``, float32 (3, h, w)."""
    image = resize_and_crop(load_rgb(picture), preprocess, picture_name(picture))
    normalize(np.asarray(image), preprocess, out)


def normalize(pixels: NDArray[np.uint8], preprocess: Preprocess, out: NDArray[np.float32]) -> None:
    """(pixel / 255 - mean) / std.

    Every step is rounded to float32, in this order, as torchvision's ToTensor and Normalize do; folding the steps
    into one factor and one offset would change last bits.

    Parameters
    ----------
    pixels : uint8 (h, w, 3).
    out : float32 (3, h, w), filled.
    """
    mean = np.asarray(preprocess.mean, np.float32).reshape(3, 1, 1)
    std = np.asarray(preprocess.std, np.float32).reshape(3, 1, 1)
    np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=out, dtype=np.float32)
    np.subtract(out, mean, out=out)
    np.divide(out, std, out=out)
