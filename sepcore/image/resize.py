"""Resize and crop a picture exactly as torchvision's transforms do on Pillow images; knows nothing about files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from sepcore.errors import ImageError

if TYPE_CHECKING:
    from sepcore.image.preprocess import Preprocess

# A picture one pixel high and 60000 wide, brought to 256 pixels on its short side, would fill 15 GB.
MAX_RESIZED_PIXELS = 1 << 26

INTERPOLATION_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resize_and_crop(image: Image.Image, preprocess: Preprocess, name: str = "<image>") -> Image.Image:
    """Bring a picture to ``preprocess.input_size``.

    Parameters
    ----------
    image : mode RGB, any size.
    preprocess : the network's preprocessing; its mean and std are not applied here.
    name : what an error calls the picture.

    Returns
    -------
    Image of mode RGB and exactly ``preprocess.input_size``; the given one where nothing had to be done.

    Raises
    ------
    ImageError
        The picture is so elongated that the resized one would exceed MAX_RESIZED_PIXELS.
    """
    if preprocess.resize is not None:
        width, height = resized_size(image.size, preprocess.resize)
        if width * height > MAX_RESIZED_PIXELS:
            raise ImageError(
                name,
                f"{image.width} x {image.height} is too elongated: resizing the short side to {preprocess.resize} "
                f"would make {width} x {height}, more than {MAX_RESIZED_PIXELS} pixels",
            )
        if (width, height) != image.size:
            image = image.resize((width, height), INTERPOLATION_FILTERS[preprocess.interpolation])
    return center_crop(image, preprocess.input_size)


def resized_size(size: tuple[int, int], short: int) -> tuple[int, int]:
    """(width, height) with the short side brought to ``short``; the long side is rounded down, as torchvision does."""
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cut ``size`` = (height, width) out of the middle; black is added where the picture is smaller.

    The odd pixel goes where torchvision.transforms.CenterCrop puts it: padding has it at the right and bottom, a cut
    starts at half the excess, rounded to the even neighbour.
    """
    height, width = size
    if (width, height) == image.size:
        return image
    left = _crop_start(image.width, width)
    top = _crop_start(image.height, height)
    # Pillow fills what lies outside the picture with zeros.
    return image.crop((left, top, left + width, top + height))


def _crop_start(length: int, wanted: int) -> int:
    if length < wanted:
        return -((wanted - length) // 2)
    return round((length - wanted) / 2)
