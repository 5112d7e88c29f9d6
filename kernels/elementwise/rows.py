"""Binary arithmetic over a map, with an activation behind it: ``OUT = activation(X op EXTRA)``.

Operands of a step: X and OUT float32 [pixels][pixel bytes], EXTRA likewise (its pixel stride 0 repeats one pixel, as a
squeeze-excite scale does). Strides are in bytes, channels a multiple of the lanes. OUT may be X or EXTRA.
The operation ``first`` ignores EXTRA and so is a plain activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

PIXELS, CHANNELS, X_PIXEL, OUT_PIXEL, EXTRA_PIXEL, PIXEL_BLOCKS = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 6)

OPERATIONS = ("first", "add", "sub", "mul", "div", "maximum", "minimum")


def row(operation: str, isa: str) -> KernelSpec:
    """The row of an operation."""
    return KernelSpec(f"f32_elementwise_{operation}__{isa}", "elementwise", isa, operation, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every elementwise row of an instruction set."""
    return (row(operation, isa) for operation in OPERATIONS)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, activate, vector_bytes, width = v.load, v.store, v.activate, v.bytes, v.width
    has_extra = spec.parameters != "first"
    operation: Any = getattr(v, spec.parameters) if has_extra else None

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        extra = load_word(at + 8 * step.EXTRA) + image * load_word(at + 8 * step.EXTRA_IMAGE)
        pixels, groups = load_word(at + 8 * PIXELS), load_word(at + 8 * CHANNELS) // width
        x_pixel, out_pixel = load_word(at + 8 * X_PIXEL), load_word(at + 8 * OUT_PIXEL)
        extra_pixel, blocks = load_word(at + 8 * EXTRA_PIXEL), load_word(at + 8 * PIXEL_BLOCKS)
        code = load_word(at + 8 * step.ACTIVATION)
        p = load_float(at + 8 * step.PARAMETERS)
        q = load_float(at + 8 * step.PARAMETERS + 4)
        for pixel in range(index * pixels // blocks, (index + 1) * pixels // blocks):
            for g in range(groups):
                offset = g * vector_bytes
                value = load(x + pixel * x_pixel + offset)
                if has_extra:
                    value = operation(value, load(extra + pixel * extra_pixel + offset))
                store(out + pixel * out_pixel + offset, activate(value, code, p, q))

    return kernel
