"""Copies between tensors of any strides: transposing, slicing, repeating, joining, and from one layout to another.

Operands of a step: X and OUT float32, with the words of ``walk``; ``fill`` writes PARAMETERS' first float and reads no
X. Where both sides' columns are contiguous they move as vectors; nothing past the last element is read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec
from sepcore.kernels.strided import walk as w

KINDS = ("copy", "fill")


def row(kind: str, isa: str) -> KernelSpec:
    """The row that copies, or that fills with one number."""
    return KernelSpec(f"f32_strided_{kind}__{isa}", "strided_copy", isa, kind, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(kind, isa) for kind in KINDS)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_float, load_word, store_float

    v = lanes_of(isas.by_name(spec.isa))
    load, store, load_part, store_part, splat = v.load, v.store, v.load_part, v.store_part, v.splat
    width, vector_bytes = v.width, v.bytes
    count, extent, place = w.walk()

    def copy(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        x_row, x_column = load_word(at + 8 * (w.X_STRIDES + w.ROW)), load_word(at + 8 * (w.X_STRIDES + w.COLUMN))
        out_row = load_word(at + 8 * (w.OUT_STRIDES + w.ROW))
        out_column = load_word(at + 8 * (w.OUT_STRIDES + w.COLUMN))
        units, blocks = count(at), load_word(at + 8 * w.BLOCKS)
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            rows, columns = extent(at, unit)
            source, target = x + place(at, unit, w.X_STRIDES), out + place(at, unit, w.OUT_STRIDES)
            if x_column == 4 and out_column == 4:
                whole, rest = columns // width, columns % width
                for r in range(rows):
                    a, b = source + r * x_row, target + r * out_row
                    for g in range(whole):
                        store(b + g * vector_bytes, load(a + g * vector_bytes))
                    if rest:
                        store_part(b + whole * vector_bytes, load_part(a + whole * vector_bytes, rest), rest)
            else:
                for r in range(rows):
                    a, b = source + r * x_row, target + r * out_row
                    for c in range(columns):
                        store_float(b + c * out_column, load_float(a + c * x_column))

    def fill(at: int, index: int, thread: int, image: int) -> None:
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        out_row = load_word(at + 8 * (w.OUT_STRIDES + w.ROW))
        out_column = load_word(at + 8 * (w.OUT_STRIDES + w.COLUMN))
        number = load_float(at + 8 * step.PARAMETERS)
        vector = splat(number)
        units, blocks = count(at), load_word(at + 8 * w.BLOCKS)
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            rows, columns = extent(at, unit)
            target = out + place(at, unit, w.OUT_STRIDES)
            for r in range(rows):
                b = target + r * out_row
                if out_column == 4:
                    whole, rest = columns // width, columns % width
                    for g in range(whole):
                        store(b + g * vector_bytes, vector)
                    if rest:
                        store_part(b + whole * vector_bytes, vector, rest)
                else:
                    for c in range(columns):
                        store_float(b + c * out_column, number)

    return copy if spec.parameters == "copy" else fill
