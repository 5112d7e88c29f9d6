"""Products of computed matrices: ``OUT = X EXTRA``, for each of a batch of up to three axes.

Operands of a step: X float32 [rows][inner], EXTRA [inner][columns], OUT [rows][columns]; columns are contiguous in
EXTRA and OUT, all other strides are in bytes and free. BATCH are the lengths of the batch's axes.
Nothing past the last element is read or written. Products are added in one order, whatever the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

BATCH_AXES = 3
BATCH = step.FIRST_SHAPE
X_BATCH = BATCH + BATCH_AXES
EXTRA_BATCH = X_BATCH + BATCH_AXES
OUT_BATCH = EXTRA_BATCH + BATCH_AXES
ROWS, INNER, COLUMNS, X_ROW, X_INNER, EXTRA_ROW, OUT_ROW, BLOCKS = range(
    OUT_BATCH + BATCH_AXES, OUT_BATCH + BATCH_AXES + 8
)

TILE_ROWS = 4


def row(isa: str) -> KernelSpec:
    """The row of an instruction set."""
    return KernelSpec(f"f32_matmul__{isa}", "matmul", isa, None, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """The one row of an instruction set."""
    yield row(isa)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    import numpy as np

    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, load_part, store_part, splat, fma = v.load, v.store, v.load_part, v.store_part, v.splat, v.fma
    lanes = v.width
    zero = np.float32(0.0)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        extra = load_word(at + 8 * step.EXTRA) + image * load_word(at + 8 * step.EXTRA_IMAGE)
        rows, inner, columns = load_word(at + 8 * ROWS), load_word(at + 8 * INNER), load_word(at + 8 * COLUMNS)
        x_row, x_inner = load_word(at + 8 * X_ROW), load_word(at + 8 * X_INNER)
        extra_row, out_row = load_word(at + 8 * EXTRA_ROW), load_word(at + 8 * OUT_ROW)
        down = (rows + TILE_ROWS - 1) // TILE_ROWS
        units = down * load_word(at + 8 * BATCH) * load_word(at + 8 * (BATCH + 1)) * load_word(at + 8 * (BATCH + 2))
        blocks = load_word(at + 8 * BLOCKS)
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            first, rest = unit % down * TILE_ROWS, unit // down
            left, right, target = x + first * x_row, extra, out + first * out_row
            for axis in range(BATCH_AXES - 1, -1, -1):
                size = load_word(at + 8 * (BATCH + axis))
                left += rest % size * load_word(at + 8 * (X_BATCH + axis))
                right += rest % size * load_word(at + 8 * (EXTRA_BATCH + axis))
                target += rest % size * load_word(at + 8 * (OUT_BATCH + axis))
                rest //= size
            count = min(TILE_ROWS, rows - first)
            whole = columns // lanes * lanes if count == TILE_ROWS else 0
            for c in range(0, whole, lanes):
                a0, a1, a2, a3 = splat(zero), splat(zero), splat(zero), splat(zero)
                place, other = left, right + 4 * c
                for _ in range(inner):
                    b = load(other)
                    a0 = fma(splat(load_float(place)), b, a0)
                    a1 = fma(splat(load_float(place + x_row)), b, a1)
                    a2 = fma(splat(load_float(place + 2 * x_row)), b, a2)
                    a3 = fma(splat(load_float(place + 3 * x_row)), b, a3)
                    place, other = place + x_inner, other + extra_row
                store(target + 4 * c, a0)
                store(target + out_row + 4 * c, a1)
                store(target + 2 * out_row + 4 * c, a2)
                store(target + 3 * out_row + 4 * c, a3)
            for c in range(whole, columns, lanes):
                width = min(lanes, columns - c)
                for r in range(count):
                    total = splat(zero)
                    place, other = left + r * x_row, right + 4 * c
                    for _ in range(inner):
                        total = fma(splat(load_float(place)), load_part(other, width), total)
                        place, other = place + x_inner, other + extra_row
                    store_part(target + r * out_row + 4 * c, total, width)

    return kernel
