"""Packed weights times one factor for each input channel: how a squeeze-excite block scales its projection's input.

Operands of a step: X packed weights [panels][1 + k][columns], the bias first, as ``pack`` lays them out; EXTRA float32
[k], the factors; OUT like X. Biases stay as they are. ROWS = panels * (1 + k); OUT may not overlap X.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

ROWS, K, COLUMNS, ROW_BLOCKS = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 4)


def row(isa: str) -> KernelSpec:
    """The row of an instruction set."""
    return KernelSpec(f"f32_scale_weights__{isa}", "scale_weights", isa, None, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """The one row of an instruction set."""
    yield row(isa)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    import numpy as np

    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, splat, mul, width = v.load, v.store, v.splat, v.mul, v.width
    one = np.float32(1.0)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        factors = load_word(at + 8 * step.EXTRA) + image * load_word(at + 8 * step.EXTRA_IMAGE)
        count, k, columns = load_word(at + 8 * ROWS), load_word(at + 8 * K), load_word(at + 8 * COLUMNS)
        blocks = load_word(at + 8 * ROW_BLOCKS)
        for r in range(index * count // blocks, (index + 1) * count // blocks):
            channel = r % (k + 1) - 1
            factor = one
            if channel >= 0:
                factor = load_float(factors + 4 * channel)
            factor_vector = splat(factor)
            for c in range(0, columns, width):
                # The last vector is moved up to end with the row, where that is no multiple of the vector.
                offset = 4 * (r * columns + min(c, columns - width))
                store(out + offset, mul(load(x + offset), factor_vector))

    return kernel
