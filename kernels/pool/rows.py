"""Global average pooling: the mean of every channel over a map.

Operands of a step: X float32 [pixels][x_pixel bytes], OUT float32 [channels]; channels are a multiple of the lanes.
The sum runs pixel by pixel in one order, so the result does not depend on how channels are divided among threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

PIXELS, CHANNELS, X_PIXEL, CHANNEL_BLOCKS = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 4)


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
    load, store, splat, add, mul, vector_bytes, width = v.load, v.store, v.splat, v.add, v.mul, v.bytes, v.width
    zero, one = np.float32(0.0), np.float32(1.0)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        pixels, pixel = load_word(at + 8 * PIXELS), load_word(at + 8 * X_PIXEL)
        groups = load_word(at + 8 * CHANNELS) // width
        blocks = load_word(at + 8 * CHANNEL_BLOCKS)
        scale = splat(one / np.float32(pixels))
        g, end = index * groups // blocks, (index + 1) * groups // blocks
        while g + 4 <= end:
            source = x + g * vector_bytes
            a, b, c, d = splat(zero), splat(zero), splat(zero), splat(zero)
            for _ in range(pixels):
                a = add(a, load(source))
                b = add(b, load(source + vector_bytes))
                c = add(c, load(source + 2 * vector_bytes))
                d = add(d, load(source + 3 * vector_bytes))
                source += pixel
            target = out + g * vector_bytes
            store(target, mul(a, scale))
            store(target + vector_bytes, mul(b, scale))
            store(target + 2 * vector_bytes, mul(c, scale))
            store(target + 3 * vector_bytes, mul(d, scale))
            g += 4
        while g < end:
            source = x + g * vector_bytes
            total = splat(zero)
            for _ in range(pixels):
                total = add(total, load(source))
                source += pixel
            store(out + g * vector_bytes, mul(total, scale))
            g += 1

    return kernel
