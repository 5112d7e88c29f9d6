"""Sum, maximum and minimum over up to three axes, the sum times a number, so that it can be a mean.

``across``: columns are kept, contiguous in X and OUT, and each lane reduces its own; ``along``: the last reduced axis
is contiguous in X, and lanes share it. Operands of a step: X and OUT float32. KEPT are the lengths of four kept axes,
the last of them the columns (1 for ``along``, whose four strides all count); REDUCED those of three reduced axes.
PARAMETERS' first float is the number. ``along`` needs one vector of scratch memory.
Every output is added up by one thread in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

KEPT_AXES, REDUCED_AXES = 4, 3
KEPT = step.FIRST_SHAPE
X_KEPT = KEPT + KEPT_AXES
OUT_KEPT = X_KEPT + KEPT_AXES
REDUCED = OUT_KEPT + KEPT_AXES
X_REDUCED = REDUCED + REDUCED_AXES
BLOCKS = X_REDUCED + REDUCED_AXES

KINDS = ("sum", "maximum", "minimum")
DIRECTIONS = ("across", "along")


def row(kind: str, direction: str, isa: str) -> KernelSpec:
    """The row of a reduction."""
    build = _across if direction == "across" else _along
    return KernelSpec(f"f32_reduce_{kind}_{direction}__{isa}", "reduce", isa, (kind, direction), build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(kind, direction, isa) for kind in KINDS for direction in DIRECTIONS)


def _operation(v: Any, kind: str) -> tuple[Any, Any]:
    """The vector operation and what it starts from."""
    import numpy as np

    from sepcore.kernels.strided.functions import larger, smaller

    start = {"sum": 0.0, "maximum": -np.inf, "minimum": np.inf}[kind]
    return {"sum": v.add, "maximum": v.binary(larger), "minimum": v.binary(smaller)}[kind], np.float32(start)


def _across(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, load_part, store_part, splat, multiply, lanes = v.load, v.load_part, v.store_part, v.splat, v.mul, v.width
    join, start = _operation(v, spec.parameters[0])

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        columns = load_word(at + 8 * (KEPT + 3))
        r0, r1, r2 = load_word(at + 8 * REDUCED), load_word(at + 8 * (REDUCED + 1)), load_word(at + 8 * (REDUCED + 2))
        s0, s1 = load_word(at + 8 * X_REDUCED), load_word(at + 8 * (X_REDUCED + 1))
        s2 = load_word(at + 8 * (X_REDUCED + 2))
        groups = (columns + lanes - 1) // lanes
        units = groups * load_word(at + 8 * KEPT) * load_word(at + 8 * (KEPT + 1)) * load_word(at + 8 * (KEPT + 2))
        blocks, scale = load_word(at + 8 * BLOCKS), splat(load_float(at + 8 * step.PARAMETERS))
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            column = unit % groups * lanes
            count = min(lanes, columns - column)
            source, target, rest = x + 4 * column, out + 4 * column, unit // groups
            for axis in range(2, -1, -1):
                length = load_word(at + 8 * (KEPT + axis))
                source += rest % length * load_word(at + 8 * (X_KEPT + axis))
                target += rest % length * load_word(at + 8 * (OUT_KEPT + axis))
                rest //= length
            total = splat(start)
            for i in range(r0):
                for j in range(r1):
                    place = source + i * s0 + j * s1
                    for _ in range(r2):
                        if count == lanes:
                            total = join(total, load(place))
                        else:
                            total = join(total, load_part(place, count))
                        place += s2
            store_part(target, multiply(total, scale), count)

    return kernel


def _along(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, store_part, splat, multiply = v.load, v.store, v.store_part, v.splat, v.mul
    lanes, vector_bytes = v.width, v.bytes
    join, start = _operation(v, spec.parameters[0])

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        scratch = load_word(thread + 8 * step.THREAD_SCRATCH)
        r0, r1, r2 = load_word(at + 8 * REDUCED), load_word(at + 8 * (REDUCED + 1)), load_word(at + 8 * (REDUCED + 2))
        s0, s1 = load_word(at + 8 * X_REDUCED), load_word(at + 8 * (X_REDUCED + 1))
        units = 1
        for axis in range(KEPT_AXES):
            units *= load_word(at + 8 * (KEPT + axis))
        blocks, scale = load_word(at + 8 * BLOCKS), splat(load_float(at + 8 * step.PARAMETERS))
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            source, target, rest = x, out, unit
            for axis in range(KEPT_AXES - 1, -1, -1):
                length = load_word(at + 8 * (KEPT + axis))
                source += rest % length * load_word(at + 8 * (X_KEPT + axis))
                target += rest % length * load_word(at + 8 * (OUT_KEPT + axis))
                rest //= length
            # Lanes share the vectors; what is left of each run goes into a sum of its own.
            total, left = splat(start), splat(start)
            for i in range(r0):
                for j in range(r1):
                    place = source + i * s0 + j * s1
                    for _ in range(r2 // lanes):
                        total = join(total, load(place))
                        place += vector_bytes
                    for _ in range(r2 % lanes):
                        left = join(left, splat(load_float(place)))
                        place += 4
            store(scratch, total)
            for lane in range(lanes):
                left = join(left, splat(load_float(scratch + 4 * lane)))
            store_part(target, multiply(left, scale), 1)

    return kernel
