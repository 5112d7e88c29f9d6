"""Picture files and objects to 8-bit RGB, by Pillow; never resizes, and never lets a broken picture pass unnamed."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from sepcore.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Picture: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]"
)

# Decoders that Pillow brings itself; others would start programs (EPS: Ghostscript) or are seldom exercised.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_MAGIC_BYTES = 8

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(picture: Picture) -> NDArray[np.uint8]:
    """Decode a picture to RGB.

    Alpha is dropped, not blended with a background: the result is that of Pillow's ``convert("RGB")``, which is what
    pictures go through in torchvision's and timm's loaders. Grey is repeated in three channels, palettes are looked
    up, CMYK is converted, of 16-bit grey the high byte is kept (as Pillow does for 16-bit colour), the first frame
    of an animation is taken. Unlike a plain ``Image.open``, the rotation that EXIF asks for is carried out.

    Parameters
    ----------
    picture : a path; an encoded file as bytes or as a binary stream; a Pillow image; or uint8 (h, w, 3) RGB.

    Returns
    -------
    uint8 (h, w, 3), RGB, owned by the caller.

    Raises
    ------
    ImageError
        The file is missing, truncated, of no known format, a decompression bomb, or of a mode with no 8-bit meaning.
    """
    return np.array(load_rgb(picture))


def load_rgb(picture: Picture) -> Image.Image:
    """As `read_image`, but a decoded Pillow image of mode RGB, which may be the one that was given."""
    name = picture_name(picture)
    if isinstance(picture, np.ndarray):
        return _from_array(picture, name)
    if isinstance(picture, Image.Image):
        return _decode(picture, name)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _open(io.BytesIO(picture), name)
    try:
        if isinstance(picture, (str, os.PathLike)):
            with open(picture, "rb") as file:
                if file.seekable():
                    return _open(file, name, os.fspath(picture))
                return _open(io.BytesIO(file.read()), name)
        # A stream may be a pipe, in which Pillow could not seek.
        return _open(io.BytesIO(picture.read()), name)
    except ImageError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ImageError(name, getattr(error, "strerror", None) or str(error)) from error


def picture_name(picture: Picture) -> str:
    """What messages and results call a picture: its path, or ``<bytes>``, ``<array>``, ``<image>``, ``<stream>``."""
    if isinstance(picture, (str, os.PathLike)):
        return os.fspath(picture)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(picture, np.ndarray):
        return "<array>"
    if isinstance(picture, Image.Image):
        return str(getattr(picture, "filename", "") or "<image>")
    if hasattr(picture, "read"):
        return str(getattr(picture, "name", "") or "<stream>")
    raise ImageError(
        f"<{type(picture).__name__}>", "expected a path, bytes, a binary stream, a Pillow image or an array"
    )


def _from_array(array: NDArray[np.uint8], name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(name, f"expected uint8 (h, w, 3), found {array.dtype} {array.shape}")
    return Image.fromarray(array)


def _open(file: BinaryIO, name: str, path: str | None = None) -> Image.Image:
    """Decode what is in ``file``, which lies at ``path`` if it is one that Pillow can open by itself."""
    formats = _formats(file.read(_MAGIC_BYTES))
    file.seek(0)
    try:
        # By a path's extension Pillow imports one decoder, else five or more.
        image = Image.open(file if path is None else path, formats=formats)
    except UnidentifiedImageError as error:
        raise ImageError(name, _why_unidentified(file)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(name, f"refused as a decompression bomb: {error}") from error
    except Exception as error:
        raise ImageError(name, f"cannot be decoded: {error}") from error
    with image:
        return _decode(image, name)


def _formats(start: bytes) -> tuple[str, ...]:
    """The formats that a file which starts so may have."""
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return (name,)
    return FORMATS


def _why_unidentified(file: BinaryIO) -> str:
    file.seek(0)
    if not file.read(1):
        return "the file is empty"
    return f"not a picture of a known format ({', '.join(FORMATS)}), or its header is broken"


def _decode(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
    # Decoders raise whatever they trip over (OSError, SyntaxError, struct.error, ...): all of it means one thing here.
    except Exception as error:
        raise ImageError(name, f"cannot be decoded: {error}") from error
    if 0 in image.size:
        raise ImageError(name, f"expected at least one pixel, found {image.width} x {image.height}")
    rotation = _rotation(image)
    rgb = _to_rgb(image, name)
    return rgb if rotation is None else rgb.transpose(rotation)


def _rotation(image: Image.Image) -> Image.Transpose | None:
    """What EXIF asks for; broken EXIF asks for nothing, and viewers show such pictures as they are stored."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow's own conversion of these modes clips at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(
            name, f"mode {image.mode}: expected samples of 8 or 16 bits, found 32, whose range no file states"
        )
    if isinstance(image.info.get("transparency"), bytes):
        # Alpha of single palette entries is dropped like any alpha; left in, Pillow would warn on every such picture.
        image = image.copy()
        del image.info["transparency"]
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(name, f"mode {image.mode} cannot be converted to RGB: {error}") from error
