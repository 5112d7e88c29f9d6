"""Copies between PyTorch's layout [c][h][w] without padding and the kernels' [h][w][c], c padded to the lanes.

Operands of a step: X and OUT float32; PIXELS = h*w, CHANNELS the true count, PIXEL the bytes of one pixel in the
[h][w][c] layout. ``pack`` writes zeros into the padding; ``unpack`` writes exactly channels * pixels floats; ``trim``
writes [pixels][channels], the padding left out: the copy for vectors, one a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

PIXELS, CHANNELS, PIXEL, BLOCKS = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 4)

DIRECTIONS = ("pack", "unpack", "trim")


def row(direction: str, isa: str) -> KernelSpec:
    """The row of a direction: ``pack``, ``unpack`` or ``trim``."""
    return KernelSpec(f"f32_layout_{direction}__{isa}", "layout", isa, direction, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every layout row of an instruction set."""
    return (row(direction, isa) for direction in DIRECTIONS)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    import numpy as np

    from sepcore.kernels.words import load_float, load_word, store_float

    zero = np.float32(0.0)

    def pack(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        pixels, channels = load_word(at + 8 * PIXELS), load_word(at + 8 * CHANNELS)
        pixel_bytes, blocks = load_word(at + 8 * PIXEL), load_word(at + 8 * BLOCKS)
        for pixel in range(index * pixels // blocks, (index + 1) * pixels // blocks):
            target = out + pixel * pixel_bytes
            for c in range(channels):
                store_float(target + 4 * c, load_float(x + 4 * (c * pixels + pixel)))
            for c in range(channels, pixel_bytes // 4):
                store_float(target + 4 * c, zero)

    def unpack(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        pixels, channels = load_word(at + 8 * PIXELS), load_word(at + 8 * CHANNELS)
        pixel_bytes, blocks = load_word(at + 8 * PIXEL), load_word(at + 8 * BLOCKS)
        for c in range(index * channels // blocks, (index + 1) * channels // blocks):
            for pixel in range(pixels):
                store_float(out + 4 * (c * pixels + pixel), load_float(x + pixel * pixel_bytes + 4 * c))

    def trim(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        pixels, channels = load_word(at + 8 * PIXELS), load_word(at + 8 * CHANNELS)
        pixel_bytes, blocks = load_word(at + 8 * PIXEL), load_word(at + 8 * BLOCKS)
        for pixel in range(index * pixels // blocks, (index + 1) * pixels // blocks):
            source, target = x + pixel * pixel_bytes, out + pixel * channels * 4
            for c in range(channels):
                store_float(target + 4 * c, load_float(source + 4 * c))

    return {"pack": pack, "unpack": unpack, "trim": trim}[spec.parameters]
