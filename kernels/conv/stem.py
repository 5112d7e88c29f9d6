"""The first convolution: few input channels, read straight from PyTorch's planar [c][h][w] input.

Operands of a step: X float32 [channels][height][width], WEIGHTS as ``pack`` lays them out, OUT float32
[out_height][out_width][out channels padded], ZEROS at least one input row. Sides and bands as in the depthwise kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

(HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH, IN_CHANNELS, OUT_PIXEL, OUT_ROW, PAD_TOP, PANELS, ROW_BLOCKS, FIRST_ROW) = range(
    step.FIRST_SHAPE, step.FIRST_SHAPE + 11
)

_ROW_POINTERS = 64  # where the row pointers stand in a thread's block, bytes
MAX_ROW_POINTERS = 64


@dataclass(frozen=True)
class Stem:
    """Kernel ``size`` and ``stride``; a tile of ``width`` outputs x ``vectors`` of output channels; side columns."""

    size: int
    stride: int
    width: int
    vectors: int
    left: int
    right: int

    @property
    def input_columns(self) -> int:
        """Input columns that a tile covers."""
        return (self.width - 1) * self.stride + self.size


_TILES = {
    "avx512": ((14, 1), (7, 2), (7, 3), (4, 1), (4, 2), (4, 3), (1, 1), (1, 2), (1, 3)),
    "avx2": ((7, 1), (4, 2), (1, 1), (1, 2)),
    "neon": ((7, 1), (7, 2), (1, 1), (1, 2)),
    "portable": ((4, 2), (1, 2)),
}
_SIDES = {(3, 2): ((1, 0), (1, 1), (0, 1), (0, 0)), (3, 1): ((1, 1),)}


def stems(isa: str) -> list[Stem]:
    """Every first-layer tile of an instruction set."""
    return [
        Stem(size, stride, width, vectors, *side)
        for (size, stride), sides in _SIDES.items()
        for side in sides
        for width, vectors in _TILES[isa]
    ]


def row(stem: Stem, isa: str) -> KernelSpec:
    """The row of a first-layer tile."""
    columns = stem.vectors * isas.by_name(isa).lanes
    name = f"f32_stem_k{stem.size}s{stem.stride}_{stem.width}x{columns}_l{stem.left}r{stem.right}__{isa}"
    return KernelSpec(name, "stem", isa, stem, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every first-layer row of an instruction set."""
    return (row(stem, isa) for stem in stems(isa))


def pack(weight: NDArray[np.float32], bias: NDArray[np.float32] | None, stem: Stem, lanes: int) -> NDArray[np.float32]:
    """Packed weights [panel][1 + ic*size*size][vectors * lanes], bias first, of PyTorch's (oc, ic, size, size)."""
    oc = weight.shape[0]
    columns = stem.vectors * lanes
    panels = -(-oc // columns)
    flat = weight.reshape(oc, -1)
    full = np.zeros((1 + flat.shape[1], panels * columns), np.float32)
    full[1:, :oc] = flat.T
    if bias is not None:
        full[0, :oc] = bias
    return np.ascontiguousarray(full.reshape(-1, panels, columns).transpose(1, 0, 2)).ravel()


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.conv.stem_tile import stem_tile
    from sepcore.kernels.words import load_word, store_word

    isa = isas.by_name(spec.isa)
    s: Stem = spec.parameters
    inner: Any = stem_tile(s, 0, 0, isa)
    leftmost: Any = stem_tile(s, s.left, 0, isa)
    rightmost: Any = stem_tile(s, 0, s.right, isa)
    whole: Any = stem_tile(s, s.left, s.right, isa)
    size, stride, tile_width, left, input_columns = s.size, s.stride, s.width, s.left, s.input_columns
    column_bytes = 4 * s.vectors * isa.lanes

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        weights, zeros = load_word(at + 8 * step.WEIGHTS), load_word(at + 8 * step.ZEROS)
        height, width = load_word(at + 8 * HEIGHT), load_word(at + 8 * WIDTH)
        out_height, out_width = load_word(at + 8 * OUT_HEIGHT), load_word(at + 8 * OUT_WIDTH)
        first_row = load_word(at + 8 * FIRST_ROW)
        channels, pad_top = load_word(at + 8 * IN_CHANNELS), load_word(at + 8 * PAD_TOP)
        out_pixel, out_row = load_word(at + 8 * OUT_PIXEL), load_word(at + 8 * OUT_ROW)
        panels, blocks = load_word(at + 8 * PANELS), load_word(at + 8 * ROW_BLOCKS)
        taps = channels * size
        panel_bytes = (1 + taps * size) * column_bytes
        pointers = thread + _ROW_POINTERS
        for y in range(index * out_height // blocks, (index + 1) * out_height // blocks):
            for c in range(channels):
                for r in range(size):
                    iy = (first_row + y) * stride - pad_top + r
                    source = x + 4 * width * (c * height + iy)
                    if iy < 0 or iy >= height:
                        source = zeros
                    store_word(pointers + 8 * (c * size + r), source)
            for x0 in range(0, out_width, tile_width):
                first = min(x0, out_width - tile_width)
                column = first * stride - left
                lacks_left, lacks_right = column < 0, column + input_columns > width
                for panel in range(panels):
                    target = out + y * out_row + first * out_pixel + panel * column_bytes
                    w = weights + panel * panel_bytes
                    if lacks_left and lacks_right:
                        whole(pointers, 4 * column, taps, w, target, out_pixel, at)
                    elif lacks_left:
                        leftmost(pointers, 4 * column, taps, w, target, out_pixel, at)
                    elif lacks_right:
                        rightmost(pointers, 4 * column, taps, w, target, out_pixel, at)
                    else:
                        inner(pointers, 4 * column, taps, w, target, out_pixel, at)

    return kernel
