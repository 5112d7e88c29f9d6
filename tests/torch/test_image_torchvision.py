"""sepcore.image held against torchvision's own transforms on Pillow images, bit for bit."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sepcore.image.normalize import prepare
from sepcore.image.preprocess import Preprocess
from sepcore.image.resize import INTERPOLATION_FILTERS

pytestmark = pytest.mark.torch


def torchvision_tensor(image: Image.Image, preprocess: Preprocess) -> NDArray[np.float32]:
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    steps: list[object] = []
    if preprocess.resize is not None:
        steps.append(transforms.Resize(preprocess.resize, InterpolationMode(preprocess.interpolation)))
    steps += [
        transforms.CenterCrop(preprocess.input_size),
        transforms.ToTensor(),
        transforms.Normalize(preprocess.mean, preprocess.std),
    ]
    found: NDArray[np.float32] = transforms.Compose(steps)(image).numpy()
    return found


SIZES = [(256, 256), (375, 500), (500, 375), (1, 9), (9, 1), (31, 64), (255, 257), (640, 427), (224, 1000), (97, 89)]
PREPROCESSES = [
    Preprocess(),
    Preprocess((224, 224), 232),
    Preprocess((224, 224), 256, interpolation="bicubic"),
    Preprocess((176, 176), 201, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    Preprocess((240, 200), 220, interpolation="lanczos", mean=(0.1, 0.2, 0.3), std=(1.0, 0.7, 0.3)),
    Preprocess((33, 64), 48, interpolation="nearest"),
    Preprocess((65, 32), 48, interpolation="box"),
    Preprocess((63, 63), 63, interpolation="hamming"),
    Preprocess((100, 77), None),
]


def test_every_filter_is_compared() -> None:
    assert {p.interpolation for p in PREPROCESSES} == set(INTERPOLATION_FILTERS)


@pytest.mark.parametrize("preprocess", PREPROCESSES, ids=lambda p: f"{p.interpolation}{p.resize}to{p.input_size}")
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_noise_of_many_sizes(size: tuple[int, int], preprocess: Preprocess) -> None:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = torchvision_tensor(Image.fromarray(pixels), preprocess)
    np.testing.assert_array_equal(prepare([pixels], preprocess)[0], expected)


@pytest.mark.parametrize("preprocess", PREPROCESSES[:4], ids=lambda p: f"{p.interpolation}{p.resize}")
def test_photographs(preprocess: Preprocess, data_dir: Path) -> None:
    with (data_dir / "images" / "labels.csv").open(newline="") as file:
        paths = [data_dir / "images" / row["file"] for row in csv.DictReader(file)][::50]
    for path in paths:
        with Image.open(path) as image:
            expected = torchvision_tensor(image.convert("RGB"), preprocess)
        np.testing.assert_array_equal(prepare([path], preprocess)[0], expected)
