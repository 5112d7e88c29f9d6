"""sepcore.image.batches: order, batching, and broken pictures among good ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sepcore.errors import ImageError, OptionError
from sepcore.image.batches import classify_files
from sepcore.image.preprocess import Preprocess


class BrightnessNet:
    """Ten classes of brightness, read off the picture's first pixel; notes the size of every batch."""

    preprocess = Preprocess((4, 4), resize=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    labels = tuple(f"level {i}" for i in range(10))

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(len(x))
        assert x.dtype == np.float32 and x.shape[1:] == (3, 4, 4) and x.flags.c_contiguous
        levels = np.rint(x[:, 0, 0, 0] * 255 / 20)
        return -np.abs(np.arange(10, dtype=np.float32) - levels[:, None].astype(np.float32))


def grey(level: int) -> NDArray[np.uint8]:
    return np.full((4, 4, 3), level * 20, np.uint8)


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_results_keep_the_order_in_every_batch_size(batch_size: int, batches: list[int]) -> None:
    net = BrightnessNet()
    levels = [3, 1, 4, 1, 5, 9, 2]
    results = list(classify_files(net, [grey(level) for level in levels], k=2, batch_size=batch_size))
    assert net.batches == batches
    found = []
    for name, predicted in results:
        assert name == "<array>" and not isinstance(predicted, ImageError) and len(predicted) == 2
        found.append(predicted[0].index)
        assert predicted[0].label == f"level {predicted[0].index}"
    assert found == levels


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_broken_pictures_are_reported_in_their_place(tmp_path: Path, batch_size: int) -> None:
    names = []
    for position, level in enumerate([7, None, 2, None, None, 8]):
        path = tmp_path / f"{position}.png"
        if level is None:
            path.write_bytes(b"no picture")
        else:
            Image.fromarray(grey(level)).save(path)
        names.append(str(path))
    net = BrightnessNet()
    results = list(classify_files(net, names, k=1, batch_size=batch_size))
    assert [name for name, _ in results] == names
    assert [isinstance(r, ImageError) or r[0].index for _, r in results] == [7, True, 2, True, True, 8]
    assert sum(net.batches) == 3


def test_a_batch_of_broken_pictures_does_not_call_the_network() -> None:
    net = BrightnessNet()
    results = list(classify_files(net, [b"", b"x"], k=1, batch_size=2))
    assert all(isinstance(r, ImageError) for _, r in results)
    assert net.batches == []
    assert list(classify_files(net, [])) == []


def test_pictures_are_read_one_batch_ahead_at_most() -> None:
    taken = 0

    def pictures() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for level in range(9):
            taken += 1
            yield grey(level)

    results = classify_files(BrightnessNet(), pictures(), batch_size=3)
    assert taken == 0
    next(results)
    assert taken == 3


@pytest.mark.parametrize("batch_size", [0, -1, 1.5])
def test_batch_size_is_checked(batch_size: int) -> None:
    with pytest.raises(OptionError, match=r"^batch_size: expected"):
        list(classify_files(BrightnessNet(), [grey(1)], batch_size=batch_size))
