"""Functions of single elements over tensors of any strides: ``OUT = f(X)`` or ``OUT = f(X, EXTRA)``.

Operands of a step: X, OUT and EXTRA float32, with the words of ``walk``. Columns are contiguous in OUT; in X and EXTRA
they are contiguous or one element repeated (stride 0). PARAMETERS are those of the function. OUT may be X where their
strides are the same. Nothing past the last element is read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec
from sepcore.kernels.strided import walk as w

# The vector code of each is in functions.py, which imports the compiler.
UNARY = (
    "tanh", "exp", "log", "erf", "sqrt", "rsqrt", "reciprocal", "floor", "ceil", "round", "neg", "abs", "sign", "gelu",
    "gelu_tanh", "softplus", "mish", "elu", "activation",
)  # fmt: skip
"""``activation`` is any of the codes that a step's ACTIVATION word can hold."""

BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "prelu")


def row(function: str, isa: str) -> KernelSpec:
    """The row of a function of one or two elements."""
    op = "strided_binary" if function in BINARY else "strided_unary"
    return KernelSpec(f"f32_{op}_{function}__{isa}", op, isa, function, _binary if function in BINARY else _unary)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(function, isa) for function in (*UNARY, *BINARY))


def _unary(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.strided import functions
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, load_part, store_part, splat = v.load, v.store, v.load_part, v.store_part, v.splat
    width, vector_bytes = v.width, v.bytes
    count, extent, place = w.walk()
    function: Any = v.activate if spec.parameters == "activation" else v.function(functions.UNARY[spec.parameters])

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        x_row, x_column = load_word(at + 8 * (w.X_STRIDES + w.ROW)), load_word(at + 8 * (w.X_STRIDES + w.COLUMN))
        out_row = load_word(at + 8 * (w.OUT_STRIDES + w.ROW))
        code = load_word(at + 8 * step.ACTIVATION)
        p, q = load_float(at + 8 * step.PARAMETERS), load_float(at + 8 * step.PARAMETERS + 4)
        units, blocks = count(at), load_word(at + 8 * w.BLOCKS)
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            rows, columns = extent(at, unit)
            source, target = x + place(at, unit, w.X_STRIDES), out + place(at, unit, w.OUT_STRIDES)
            whole = columns // width if x_column == 4 else 0
            for r in range(rows):
                a, b = source + r * x_row, target + r * out_row
                for g in range(whole):
                    store(b + g * vector_bytes, function(load(a + g * vector_bytes), code, p, q))
                for c in range(whole * width, columns, width):
                    rest = min(width, columns - c)
                    if x_column == 4:
                        value = load_part(a + 4 * c, rest)
                    else:
                        value = splat(load_float(a))
                    store_part(b + 4 * c, function(value, code, p, q), rest)

    return kernel


def _binary(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.strided import functions
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, load_part, store_part, splat = v.load, v.store, v.load_part, v.store_part, v.splat
    width, vector_bytes = v.width, v.bytes
    count, extent, place = w.walk()
    function: Any = v.binary(functions.BINARY[spec.parameters])

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        extra = load_word(at + 8 * step.EXTRA) + image * load_word(at + 8 * step.EXTRA_IMAGE)
        x_row, x_column = load_word(at + 8 * (w.X_STRIDES + w.ROW)), load_word(at + 8 * (w.X_STRIDES + w.COLUMN))
        out_row = load_word(at + 8 * (w.OUT_STRIDES + w.ROW))
        extra_row = load_word(at + 8 * (w.EXTRA_STRIDES + w.ROW))
        extra_column = load_word(at + 8 * (w.EXTRA_STRIDES + w.COLUMN))
        units, blocks = count(at), load_word(at + 8 * w.BLOCKS)
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            rows, columns = extent(at, unit)
            source, target = x + place(at, unit, w.X_STRIDES), out + place(at, unit, w.OUT_STRIDES)
            other = extra + place(at, unit, w.EXTRA_STRIDES)
            for r in range(rows):
                a, b, c = source + r * x_row, other + r * extra_row, target + r * out_row
                whole = columns // width * width
                if x_column == 4 and extra_column == 4:
                    for _ in range(0, whole, width):
                        store(c, function(load(a), load(b)))
                        a, b, c = a + vector_bytes, b + vector_bytes, c + vector_bytes
                elif x_column == 4:
                    one = splat(load_float(b))
                    for _ in range(0, whole, width):
                        store(c, function(load(a), one))
                        a, c = a + vector_bytes, c + vector_bytes
                else:
                    whole = 0
                for first in range(whole, columns, width):
                    rest = min(width, columns - first)
                    if x_column == 4:
                        left = load_part(a, rest)
                    else:
                        left = splat(load_float(a))
                    if extra_column == 4:
                        right = load_part(b, rest)
                    else:
                        right = splat(load_float(b))
                    store_part(c, function(left, right), rest)
                    a, b, c = a + width * x_column, b + width * extra_column, c + vector_bytes

    return kernel
