"""Where a value is in memory: as a map of the kernels, in PyTorch's layout, or as a view of either.

It must not know kernels or operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from sepcore.plan.drafts import Buffer

FLOAT = 4


@dataclass(frozen=True, slots=True)
class View:
    """Elements of a buffer at any strides, in bytes: 0 where an axis repeats, negative where it runs backwards."""

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def permuted(self, axes: Sequence[int]) -> View:
        """Axis i is axis ``axes[i]`` of this view."""
        return replace(self, shape=tuple(self.shape[a] for a in axes), strides=tuple(self.strides[a] for a in axes))

    def part(self, axis: int, first: int, count: int, step: int = 1) -> View:
        """``count`` elements of an axis from ``first`` on, every ``step``-th (any sign)."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + first * strides[axis]
        shape[axis], strides[axis] = count, step * strides[axis]
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=offset)

    def split(self, axis: int, outer: int) -> View:
        """An axis as two, the first ``outer`` long."""
        inner, stride = self.shape[axis] // outer, self.strides[axis]
        return replace(
            self,
            shape=(*self.shape[:axis], outer, inner, *self.shape[axis + 1 :]),
            strides=(*self.strides[:axis], inner * stride, stride, *self.strides[axis + 1 :]),
        )

    def broadcast(self, shape: Sequence[int]) -> View:
        """Repeated to ``shape`` by numpy's rule."""
        missing = len(shape) - len(self.shape)
        strides = [0] * missing
        for length, wanted, stride in zip(self.shape, shape[missing:], self.strides):
            strides.append(stride if length == wanted else 0)
        return replace(self, shape=tuple(shape), strides=tuple(strides))

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """The same elements in the same order as another shape; None where strides cannot say it."""
        old = [(length, stride) for length, stride in zip(self.shape, self.strides) if length != 1]
        strides = [0] * len(shape)
        axes = [axis for axis, length in enumerate(shape) if length != 1]
        while axes:
            # The shortest runs of both shapes with as many elements.
            mine, theirs = [old.pop(0)], [axes.pop(0)]
            while (have := prod(length for length, _ in mine)) != (want := prod(shape[a] for a in theirs)):
                if have < want:
                    mine.append(old.pop(0))
                else:
                    theirs.append(axes.pop(0))
            for (_, outer), (length, inner) in pairwise(mine):
                if outer != length * inner:
                    return None
            stride = mine[-1][1]
            for axis in reversed(theirs):
                strides[axis] = stride
                stride *= shape[axis]
        return replace(self, shape=tuple(shape), strides=tuple(strides))


@dataclass(frozen=True, slots=True)
class Map:
    """A tensor of pixels x channels as the kernels want it: [height][width][channels padded to the lanes].

    A vector (n, c) is a map of one pixel. ``batched`` maps hold all images of a call, image after image. A ``part`` is
    some channels of another map, whose padding is that map's other channels: to be read only. Where channels are not
    next to each other, ``slots`` says how many floats from the first pixel's start each is. ``factors``, a map of one
    pixel, has yet to be multiplied with every pixel: only the layer that it was left for may see it.
    """

    buffer: Buffer
    height: int
    width: int
    channels: int
    pixel_bytes: int
    offset: int = 0
    batched: bool = False
    part: bool = False
    slots: tuple[int, ...] = ()
    factors: Map | None = None

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def view(self, shape: tuple[int, ...]) -> View:
        """One image as a view of (1, c, h, w) or (1, c); of channels next to each other only."""
        assert not self.slots
        strides = (0, FLOAT, self.width * self.pixel_bytes, self.pixel_bytes)
        return View(self.buffer, shape, strides[: len(shape)], self.offset)


@dataclass(frozen=True, slots=True)
class Plain:
    """A tensor in PyTorch's layout: C-contiguous, no padding."""

    buffer: Buffer
    shape: tuple[int, ...]
    batched: bool = False

    def view(self) -> View:
        """The tensor as a view."""
        return contiguous(self.buffer, self.shape)


def contiguous(buffer: Buffer, shape: tuple[int, ...]) -> View:
    """A view of C-contiguous memory."""
    strides = [FLOAT * prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return View(buffer, shape, tuple(strides))


def map_shape(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Channels, height and width of a value that can be a map; None where it cannot."""
    if len(shape) == 4 and shape[0] == 1:
        return shape[1], shape[2], shape[3]
    if len(shape) == 2 and shape[0] == 1:
        return shape[1], 1, 1
    return None


Tensor = Map | Plain | View
