"""Global average pooling: the mean of every channel over a map.

Operands of a step: X float32 [rows][width][x_pixel bytes], OUT float32 [channels]; channels are a multiple of the
lanes. Each row is summed pixel by pixel, then the rows: the result does not depend on how channels are divided among
threads, nor on whether the kernel before has added up the rows (X is their sums then, WIDTH 1). PIXELS divides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

PIXELS, ROWS, WIDTH, CHANNELS, X_PIXEL, CHANNEL_BLOCKS = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 6)


def row(isa: str) -> KernelSpec:
    """The row of an instruction set."""
    return KernelSpec(f"f32_global_average_pool__{isa}", "global_average_pool", isa, None, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every pooling row of an instruction set."""
    yield row(isa)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    import numpy as np

    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, splat, add, mul, vector_bytes, lanes = v.load, v.store, v.splat, v.add, v.mul, v.bytes, v.width
    zero, one = np.float32(0.0), np.float32(1.0)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        pixels, pixel = load_word(at + 8 * PIXELS), load_word(at + 8 * X_PIXEL)
        rows, width = load_word(at + 8 * ROWS), load_word(at + 8 * WIDTH)
        groups = load_word(at + 8 * CHANNELS) // lanes
        blocks = load_word(at + 8 * CHANNEL_BLOCKS)
        scale = splat(one / np.float32(pixels))
        group, end = index * groups // blocks, (index + 1) * groups // blocks
        while group + 4 <= end:
            source = x + group * vector_bytes
            a, b, c, d = splat(zero), splat(zero), splat(zero), splat(zero)
            for _ in range(rows):
                e, f = load(source), load(source + vector_bytes)
                g, h = load(source + 2 * vector_bytes), load(source + 3 * vector_bytes)
                source += pixel
                for _ in range(1, width):
                    e = add(e, load(source))
                    f = add(f, load(source + vector_bytes))
                    g = add(g, load(source + 2 * vector_bytes))
                    h = add(h, load(source + 3 * vector_bytes))
                    source += pixel
                a, b, c, d = add(a, e), add(b, f), add(c, g), add(d, h)
            target = out + group * vector_bytes
            store(target, mul(a, scale))
            store(target + vector_bytes, mul(b, scale))
            store(target + 2 * vector_bytes, mul(c, scale))
            store(target + 3 * vector_bytes, mul(d, scale))
            group += 4
        while group < end:
            source = x + group * vector_bytes
            total = splat(zero)
            for _ in range(rows):
                row_total = load(source)
                source += pixel
                for _ in range(1, width):
                    row_total = add(row_total, load(source))
                    source += pixel
                total = add(total, row_total)
            store(out + group * vector_bytes, mul(total, scale))
            group += 1

    return kernel
