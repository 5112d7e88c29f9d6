"""Softmax and its logarithm along one axis, the largest element subtracted first.

``across``: columns are contiguous in X and OUT, and each lane has its own softmax; ``along``: the axis is contiguous in
both, COLUMNS is 1. Operands of a step: X and OUT float32, not the same memory. OUTER are the lengths of three more
axes. ``along`` needs one vector of scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

OUTER_AXES = 3
OUTER = step.FIRST_SHAPE
X_OUTER = OUTER + OUTER_AXES
OUT_OUTER = X_OUTER + OUTER_AXES
LENGTH, X_STRIDE, OUT_STRIDE, COLUMNS, BLOCKS = range(OUT_OUTER + OUTER_AXES, OUT_OUTER + OUTER_AXES + 5)

KINDS = ("softmax", "log_softmax")
DIRECTIONS = ("across", "along")


def row(kind: str, direction: str, isa: str) -> KernelSpec:
    """The row of a function in a direction."""
    build = _across if direction == "across" else _along
    return KernelSpec(f"f32_{kind}_{direction}__{isa}", "softmax", isa, (kind, direction), build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(kind, direction, isa) for kind in KINDS for direction in DIRECTIONS)


def _across(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    import numpy as np

    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.strided import functions
    from sepcore.kernels.words import load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, splat, lanes = v.load_part, v.store_part, v.splat, v.width
    add, subtract, divide, larger = v.add, v.sub, v.div, v.binary(functions.larger)
    exp, log = v.function(functions.UNARY["exp"]), v.function(functions.UNARY["log"])
    logarithmic = spec.parameters[0] == "log_softmax"
    zero, lowest = np.float32(0.0), np.float32(-np.inf)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        length, columns = load_word(at + 8 * LENGTH), load_word(at + 8 * COLUMNS)
        x_stride, out_stride = load_word(at + 8 * X_STRIDE), load_word(at + 8 * OUT_STRIDE)
        groups = (columns + lanes - 1) // lanes
        units = groups * load_word(at + 8 * OUTER) * load_word(at + 8 * (OUTER + 1)) * load_word(at + 8 * (OUTER + 2))
        blocks = load_word(at + 8 * BLOCKS)
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            column = unit % groups * lanes
            count = min(lanes, columns - column)
            source, target, rest = x + 4 * column, out + 4 * column, unit // groups
            for axis in range(OUTER_AXES - 1, -1, -1):
                size = load_word(at + 8 * (OUTER + axis))
                source += rest % size * load_word(at + 8 * (X_OUTER + axis))
                target += rest % size * load_word(at + 8 * (OUT_OUTER + axis))
                rest //= size
            largest, total = splat(lowest), splat(zero)
            for i in range(length):
                largest = larger(largest, load(source + i * x_stride, count))
            for i in range(length):
                power = exp(subtract(load(source + i * x_stride, count), largest), 0, zero, zero)
                total = add(total, power)
                if not logarithmic:
                    store(target + i * out_stride, power, count)
            if logarithmic:
                total = log(total, 0, zero, zero)
            for i in range(length):
                if logarithmic:
                    value = subtract(subtract(load(source + i * x_stride, count), largest), total)
                else:
                    value = divide(load(target + i * out_stride, count), total)
                store(target + i * out_stride, value, count)

    return kernel


def _along(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    import numpy as np

    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.strided import functions
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, splat, lanes = v.load_part, v.store_part, v.splat, v.width
    store_whole = v.store
    add, subtract, divide, larger = v.add, v.sub, v.div, v.binary(functions.larger)
    exp, log = v.function(functions.UNARY["exp"]), v.function(functions.UNARY["log"])
    logarithmic = spec.parameters[0] == "log_softmax"
    zero, lowest = np.float32(0.0), np.float32(-np.inf)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        scratch = load_word(thread + 8 * step.THREAD_SCRATCH)
        length = load_word(at + 8 * LENGTH)
        units = load_word(at + 8 * OUTER) * load_word(at + 8 * (OUTER + 1)) * load_word(at + 8 * (OUTER + 2))
        blocks = load_word(at + 8 * BLOCKS)
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            source, target, rest = x, out, unit
            for axis in range(OUTER_AXES - 1, -1, -1):
                size = load_word(at + 8 * (OUTER + axis))
                source += rest % size * load_word(at + 8 * (X_OUTER + axis))
                target += rest % size * load_word(at + 8 * (OUT_OUTER + axis))
                rest //= size
            largest, total = splat(lowest), splat(zero)
            for i in range(length):
                largest = larger(largest, splat(load_float(source + 4 * i)))
            for i in range(0, length, lanes):
                count = min(lanes, length - i)
                store(target + 4 * i, exp(subtract(load(source + 4 * i, count), largest), 0, zero, zero), count)
                # Lanes past the end are left out of the sum.
                total = add(total, load(target + 4 * i, count))
            store_whole(scratch, total)
            total = splat(zero)
            for lane in range(lanes):
                total = add(total, splat(load_float(scratch + 4 * lane)))
            if logarithmic:
                total = log(total, 0, zero, zero)
            for i in range(0, length, lanes):
                count = min(lanes, length - i)
                if logarithmic:
                    value = subtract(subtract(load(source + 4 * i, count), largest), total)
                else:
                    value = divide(load(target + 4 * i, count), total)
                store(target + 4 * i, value, count)

    return kernel
