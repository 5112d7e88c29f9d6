"""sepcore.image.read: every mode and container, and every way a picture can be broken."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sepcore.errors import ImageError
from sepcore.image.read import load_rgb, read_image


def pixels(height: int = 20, width: int = 30, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, so that what is expected does not come from Pillow's own writer."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True})],
)
def test_lossless_formats_give_back_the_pixels(file_format: str, options: dict[str, object]) -> None:
    array = pixels()
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(array), file_format, **options)), array)


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(file_format: str) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    array = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)], axis=2)
    found = read_image(encoded(Image.fromarray(array), file_format, quality=95))
    assert found.shape == array.shape
    assert np.abs(found.astype(int) - array).mean() < 3


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    array = pixels()
    content = encoded(Image.fromarray(array), "PNG")
    path = tmp_path / "a picture.png"
    path.write_bytes(content)

    class Pipe(io.RawIOBase):
        """A stream that cannot seek, as standard input is when something is piped into it."""

        def __init__(self) -> None:
            self.rest = content

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            part, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)

    sources = [path, str(path), content, bytearray(content), memoryview(content), io.BytesIO(content), Pipe()]
    sources += [Image.fromarray(array), array]
    for source in sources:
        found = read_image(source)  # type: ignore[arg-type]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP"])
@pytest.mark.parametrize("suffix", [".png", ".JPG", ".tiff", ".txt", ""])
def test_a_files_name_does_not_say_what_is_in_it(file_format: str, suffix: str, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(pixels()), file_format)
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path), read_image(content))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_that_has_a_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(encoded(Image.fromarray(pixels()), "PNG"),))
    writer.start()
    np.testing.assert_array_equal(read_image(path), pixels())
    writer.join()


def test_the_result_belongs_to_the_caller() -> None:
    array = pixels()
    before = array.copy()
    image = Image.fromarray(array)
    read_image(array)[:] = 0
    read_image(image)[:] = 0
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(np.asarray(image), before)


def test_grey_is_repeated() -> None:
    grey = pixels(channels=1)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(grey), "PNG")), np.stack([grey] * 3, axis=2))


def test_one_bit_becomes_black_and_white() -> None:
    content = png(8, 1, depth=1, colour=0, rows=bytes([0, 0b10110001]))
    expected = np.array([255, 0, 255, 255, 0, 0, 0, 255], np.uint8)
    np.testing.assert_array_equal(read_image(content), np.repeat(expected[None, :, None], 3, axis=2))


def test_alpha_is_dropped_not_blended() -> None:
    rgba = pixels(channels=4)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(rgba), "PNG")), rgba[..., :3])
    grey_alpha = pixels(channels=2)
    image = Image.merge("LA", [Image.fromarray(grey_alpha[..., i].copy()) for i in range(2)])
    np.testing.assert_array_equal(read_image(encoded(image, "PNG")), np.repeat(grey_alpha[..., :1], 3, axis=2))


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_palettes_are_looked_up_whatever_is_transparent(transparency: int | bytes | None) -> None:
    colours = np.array([[10, 20, 30], [200, 100, 0], [0, 255, 9]], np.uint8)
    indices = np.random.default_rng(3).integers(0, 3, (6, 5), dtype=np.uint8)
    image = Image.frombytes("P", (5, 6), indices.tobytes())
    image.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(encoded(image, "PNG", **options))
    np.testing.assert_array_equal(found, colours[indices])


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for file_format in ("GIF", "PNG", "WEBP"):
        content = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True)
        with Image.open(io.BytesIO(content)) as check:
            assert getattr(check, "n_frames", 1) == 2
        np.testing.assert_array_equal(read_image(content), np.full((7, 9, 3), (255, 0, 0), np.uint8))


def test_cmyk_is_converted() -> None:
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], np.uint8)
    image = Image.frombytes("CMYK", (4, 1), inks.tobytes())
    expected = np.array([[[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(read_image(encoded(image, "TIFF")), expected)
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(read_image(encoded(flat, "JPEG")).astype(int) - [255, 0, 0]).max() <= 4


SAMPLES_16 = np.array([[0, 1, 255, 256, 511, 512, 32768, 65279, 65280, 65535]], np.uint16)
SAMPLES_8 = np.array([[0, 0, 0, 1, 1, 2, 128, 254, 255, 255]], np.uint8)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    rows = b"\0" + SAMPLES_16.astype(">u2").tobytes()
    sources = [png(SAMPLES_16.shape[1], 1, depth=16, colour=0, rows=rows)]
    sources.append(b"P5 10 1 65535\n" + SAMPLES_16.astype(">u2").tobytes())
    sources.append(encoded(Image.fromarray(SAMPLES_16), "TIFF"))
    for source in sources:
        np.testing.assert_array_equal(read_image(source), np.repeat(SAMPLES_8[..., None], 3, axis=2))


def test_sixteen_bit_colour_and_grey_agree() -> None:
    colour = np.repeat(SAMPLES_16[..., None], 3, axis=2)
    content = png(SAMPLES_16.shape[1], 1, depth=16, colour=2, rows=b"\0" + colour.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(content), np.repeat(SAMPLES_8[..., None], 3, axis=2))


# EXIF orientation says where the stored first row and first column belong (Exif 2.3, table 4).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_carried_out(orientation: int, file_format: str) -> None:
    array = pixels(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encoded(Image.fromarray(array), file_format, exif=exif, **options)
    np.testing.assert_array_equal(read_image(content), UPRIGHT[orientation](array))


def test_exif_rotation_of_jpeg_and_of_sixteen_bits() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = Image.fromarray(pixels(16, 32))
    upright = read_image(encoded(plain, "JPEG"))
    np.testing.assert_array_equal(read_image(encoded(plain, "JPEG", exif=exif)), UPRIGHT[6](upright))
    rotated = read_image(encoded(Image.fromarray(SAMPLES_16), "PNG", exif=exif))
    np.testing.assert_array_equal(rotated, np.repeat(SAMPLES_8.T[..., None], 3, axis=2))


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_does_not_hide_the_picture(exif: bytes) -> None:
    plain = Image.fromarray(pixels(16, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_image(encoded(plain, "JPEG", exif=exif))
    np.testing.assert_array_equal(found, read_image(encoded(plain, "JPEG")))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_truncated_files_are_refused_by_name(file_format: str, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(pixels(64, 64)), file_format)
    path = tmp_path / "cut.img"
    for keep in (len(content) // 2, 20, 3):
        path.write_bytes(content[:keep])
        with pytest.raises(ImageError, match=r"cut\.img") as caught:
            read_image(path)
        assert caught.value.name == str(path)
        assert len(caught.value.reason) > 5


def test_flipped_bytes_never_raise_anything_else() -> None:
    random = np.random.default_rng(11)
    contents = [encoded(Image.fromarray(pixels(24, 24)), f) for f in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")]
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in contents:
            for _ in range(60):
                broken = bytearray(content)
                for position in random.integers(0, min(len(broken), 200), 3):
                    broken[position] = random.integers(0, 256)
                try:
                    assert read_image(broken).ndim == 3
                except ImageError:
                    refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"hello, this is text", "known format"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "known format")],
)
def test_what_is_no_picture_says_so(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(content)
    assert caught.value.name == "<bytes>"


def test_missing_files_folders_and_odd_paths(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.jpg: No such file"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="null"):
        read_image("a\0b.jpg")


def test_decompression_bombs_are_refused_before_they_go_off() -> None:
    # 60000 x 60000 in a few bytes: decoding it would take 10 GB.
    content = png(60000, 60000, depth=8, colour=2, rows=b"")
    with pytest.raises(ImageError, match="decompression bomb"):
        read_image(content)


def test_samples_without_a_fixed_range_are_refused() -> None:
    for mode in ("F", "I"):
        with pytest.raises(ImageError, match=f"mode {mode}"):
            read_image(encoded(Image.new(mode, (4, 4)), "TIFF"))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_must_be_rgb_bytes(array: NDArray[np.uint8]) -> None:
    with pytest.raises(ImageError, match=r"expected uint8 \(h, w, 3\), found"):
        read_image(array)


def test_other_objects_are_refused() -> None:
    with pytest.raises(ImageError, match="<int>"):
        read_image(3)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="<stream>"):
        read_image(io.StringIO("text"))  # type: ignore[arg-type]


def test_strided_arrays_are_read_as_they_look() -> None:
    array = pixels(20, 30)
    view = array[::2, ::-3]
    np.testing.assert_array_equal(np.asarray(load_rgb(view)), view.copy())
