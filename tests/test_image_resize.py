"""sepcore.image.resize and normalize: sizes, crops, arithmetic, and the reference crops bit for bit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sepcore.errors import ImageError, InputError, OptionError
from sepcore.image.normalize import normalize, prepare
from sepcore.image.preprocess import INTERPOLATIONS, Preprocess
from sepcore.image.read import load_rgb
from sepcore.image.resize import INTERPOLATION_FILTERS, center_crop, resize_and_crop, resized_size

NETWORKS = (
    "mobilenetv1_x0.25_leaky",
    "mcunet_320kb",
    "mobilenet_v2",
    "mobilenetv1_0.75_samepad",
    "mobilenet_v3_small_samepad",
)


def pixels(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(1, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("network", NETWORKS)
def test_reference_crops_bit_for_bit(network: str, data_dir: Path) -> None:
    described = json.loads((data_dir / "reference" / "models.json").read_text())[network]
    preprocess = Preprocess(
        input_size=(described["input"], described["input"]),
        resize=described["resize"],
        interpolation=described["interpolation"],
    )
    with (data_dir / "images" / "labels.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    with np.load(data_dir / "reference" / f"{network}.npz") as reference:
        rows, crops = reference["rows"], np.load(data_dir / "reference" / str(reference["crops"]))
    assert len(rows) == len(crops) == 20
    for row, crop in zip(rows, crops):
        image = load_rgb(data_dir / "images" / names[row])
        np.testing.assert_array_equal(np.asarray(resize_and_crop(image, preprocess)), crop)


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((500, 375), 256, (341, 256)),
        ((375, 500), 256, (256, 341)),
        ((256, 256), 256, (256, 256)),
        ((1, 7), 3, (3, 21)),
        ((3, 10), 8, (8, 26)),
        ((100, 299), 201, (201, 600)),
    ],
)
def test_the_long_side_is_rounded_down(size: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    assert resized_size(size, short) == expected


@pytest.mark.parametrize(
    ("length", "wanted", "start"),
    # Half the excess, to the even neighbour: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4.
    [(10, 10, 0), (11, 10, 0), (12, 10, 1), (13, 10, 2), (15, 10, 2), (17, 10, 4), (341, 224, 58)],
)
def test_crops_start_where_torchvision_starts_them(length: int, wanted: int, start: int) -> None:
    tall = pixels(length, 10)
    found = np.asarray(center_crop(Image.fromarray(tall), (wanted, 10)))
    np.testing.assert_array_equal(found, tall[start : start + wanted])
    wide = tall.transpose(1, 0, 2).copy()
    found = np.asarray(center_crop(Image.fromarray(wide), (10, wanted)))
    np.testing.assert_array_equal(found, wide[:, start : start + wanted])


@pytest.mark.parametrize(("height", "width"), [(5, 8), (8, 5), (5, 5), (1, 20), (20, 1)])
def test_small_pictures_are_padded_with_black(height: int, width: int) -> None:
    array = pixels(height, width)
    found = np.asarray(center_crop(Image.fromarray(array), (8, 8)))
    expected = np.zeros((8, 8, 3), np.uint8)
    top, left = max(0, (8 - height) // 2), max(0, (8 - width) // 2)
    # The only crop among the cases is 20 -> 8, which starts at 6.
    kept = array[6:14] if height == 20 else array[:, 6:14] if width == 20 else array
    expected[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    resize=st.one_of(st.none(), st.integers(1, 60)),
    input_size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
def test_the_result_always_has_the_input_size(
    height: int, width: int, resize: int | None, input_size: tuple[int, int]
) -> None:
    preprocess = Preprocess(input_size=input_size, resize=resize)
    image = resize_and_crop(Image.fromarray(pixels(height, width)), preprocess)
    assert (image.height, image.width, image.mode) == (*input_size, "RGB")


def test_a_thin_picture_cannot_fill_the_memory() -> None:
    with pytest.raises(ImageError, match=r"line\.png: 60000 x 1 is too elongated"):
        resize_and_crop(Image.new("RGB", (60000, 1)), Preprocess(), "line.png")


def naive_tensor(crop: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """Pixel by pixel in float32 scalars, each operation rounded, as ToTensor and Normalize define it."""
    out = np.empty((3, *crop.shape[:2]), np.float32)
    for (y, x, c), value in np.ndenumerate(crop):
        scaled = np.float32(value) / np.float32(255)
        out[c, y, x] = (scaled - np.float32(preprocess.mean[c])) / np.float32(preprocess.std[c])
    return out


@pytest.mark.parametrize("preprocess", [Preprocess((16, 16)), Preprocess((16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)])
def test_normalize_rounds_after_every_operation(preprocess: Preprocess) -> None:
    every_byte = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=2)
    every_byte[..., 1] = every_byte[::-1, :, 1]
    out = np.empty((3, 16, 16), np.float32)
    normalize(every_byte, preprocess, out)
    np.testing.assert_array_equal(out, naive_tensor(every_byte, preprocess))


def test_prepare_keeps_the_order_and_fills_the_given_array() -> None:
    preprocess = Preprocess((6, 5), resize=None)
    pictures = [pixels(6, 5), pixels(9, 9), Image.fromarray(pixels(7, 5))]
    x = prepare(pictures, preprocess)
    assert x.shape == (3, 3, 6, 5) and x.dtype == np.float32 and x.flags.c_contiguous
    np.testing.assert_array_equal(x[0], naive_tensor(pixels(6, 5), preprocess))
    np.testing.assert_array_equal(x[2], naive_tensor(pixels(7, 5)[:6], preprocess))
    out = np.full_like(x, np.nan)
    assert prepare(pictures, preprocess, out) is out
    np.testing.assert_array_equal(out, x)
    assert prepare([], preprocess).shape == (0, 3, 6, 5)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((1, 3, 6, 5), np.float64),
        np.empty((2, 3, 6, 5), np.float32),
        np.empty((1, 6, 5, 3), np.float32).transpose(0, 3, 1, 2),
    ],
)
def test_prepare_refuses_an_array_it_cannot_fill(out: NDArray[np.float32]) -> None:
    with pytest.raises(InputError, match=r"expected C-contiguous float32 \(1, 3, 6, 5\)"):
        prepare([pixels(6, 5)], Preprocess((6, 5), resize=None), out)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_size", (0, 4)),
        ("input_size", (4,)),
        ("input_size", (4.0, 4)),
        ("resize", 0),
        ("resize", 2.5),
        ("crop", "corner"),
        ("interpolation", "area"),
        ("mean", (0.5, 0.5)),
        ("mean", (0.5, float("nan"), 0.5)),
        ("std", (1.0, 0.0, 1.0)),
        ("std", (1.0, float("inf"), 1.0)),
    ],
)
def test_preprocess_checks_its_fields(field: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"^{field}: expected"):
        Preprocess(**{field: value})  # type: ignore[arg-type]


def test_every_interpolation_that_may_be_asked_for_has_a_filter() -> None:
    assert set(INTERPOLATION_FILTERS) == set(INTERPOLATIONS)
