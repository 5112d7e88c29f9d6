"""Compiling kernels: right results on every level, the vectors that the level has, and refusals by name."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from sepcore.compile import elf, numba_abi
from sepcore.compile.build import KernelSource, build_assembly, build_object
from sepcore.compile.code import LIBC_SYMBOLS
from sepcore.compile.loader import load
from sepcore.errors import CompileError
from sepcore.kernels import isa as isas
from sepcore.kernels.emit import Emitter
from sepcore.kernels.isa import Isa
from sepcore.kernels.jit import range_kernel
from sepcore.kernels.words import load_float, load_word, store_float, store_word

X86 = (isas.AVX512, isas.AVX2, isas.PORTABLE)
HOST = isas.available()[-1]
usable = [isa for isa in X86 if isa in isas.available()]


def c_function(code: bytes, symbol: str, arity: int = 4, result: Any = None) -> Callable[..., Any]:
    return ctypes.CFUNCTYPE(result, *[ctypes.c_int64] * arity)(load({symbol: code})[symbol])


def scaled_sum(at: int, tile: int, thread: int, image: int) -> None:
    """out[i] = 2 x[i] + y[i] for the floats i of [0, n)."""
    x, y, out, n = load_word(at), load_word(at + 8), load_word(at + 16), load_word(at + 24)
    for i in range(n):
        store_float(out + 4 * i, np.float32(2) * load_float(x + 4 * i) + load_float(y + 4 * i))


def mixed(a: int, n: int) -> int:
    """A loop for the vectoriser, which cannot tell whether addresses overlap and leaves others alone."""
    total = 0
    for i in range(n):
        total += i ^ a
    return total


def vector_square(isa: Isa) -> Callable[..., None]:
    """Squares one vector of the instruction set's own width, in place, through explicit vector code."""

    @intrinsic
    def square(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            e = Emitter(builder, isa)
            value = e.load(e.pointer(arguments[0]))
            e.store(e.fma(value, value, e.splat_constant(0.0)), e.pointer(arguments[0]))
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    def kernel(at: int, tile: int, thread: int, image: int) -> None:
        square(at + 4 * tile)

    return kernel


@pytest.mark.parametrize("isa", usable, ids=lambda isa: isa.name)
def test_loop_computes_the_same_on_every_level(isa: Isa) -> None:
    x = np.linspace(-3, 5, 133, dtype=np.float32)
    y = np.linspace(7, -2, 133, dtype=np.float32)
    out = np.full(134, -1, np.float32)
    words = np.array([x.ctypes.data, y.ctypes.data, out.ctypes.data, 133], np.int64)
    call = c_function(build_object([KernelSource("scaled_sum", scaled_sum)], isa), "scaled_sum")
    call(words.ctypes.data, 0, 0, 0)
    np.testing.assert_array_equal(out[:133], np.float32(2) * x + y)
    assert out[133] == -1


@pytest.mark.parametrize("isa", usable, ids=lambda isa: isa.name)
def test_explicit_vectors_compute(isa: Isa) -> None:
    values = np.arange(1, 2 * isa.lanes + 1, dtype=np.float32)
    call = c_function(build_object([KernelSource("square", vector_square(isa))], isa), "square")
    call(values.ctypes.data, isa.lanes, 0, 0)
    expected = [float(v) if v <= isa.lanes else float(v) ** 2 for v in range(1, 2 * isa.lanes + 1)]
    assert values.tolist() == expected


def test_vectors_are_as_wide_as_the_level_has_them() -> None:
    text = {isa: build_assembly([KernelSource("square", vector_square(isa))], isa) for isa in X86}
    # 16 lanes in one register: x86-64-v4 by itself would split them into two of 8.
    assert re.search(r"mulps[^\n]*%zmm|vfmadd[^\n]*ps[^\n]*%zmm", text[isas.AVX512])
    assert "%ymm" not in text[isas.AVX512]
    assert "%ymm" in text[isas.AVX2] and "%zmm" not in text[isas.AVX2]
    assert "%xmm" in text[isas.PORTABLE] and not re.search(r"%[yz]mm|\bv(mul|add|mov|fm)\w*ps", text[isas.PORTABLE])


@pytest.mark.parametrize(
    ("isa", "register", "absent"),
    [(isas.AVX512, "%zmm", "no such"), (isas.AVX2, "%ymm", "%zmm"), (isas.PORTABLE, "%xmm", "%[yz]mm")],
    ids=lambda value: getattr(value, "name", ""),
)
def test_loops_are_vectorised_for_the_level_and_not_for_this_machine(isa: Isa, register: str, absent: str) -> None:
    source = KernelSource("mixed", mixed, 2)
    text = build_assembly([source], isa)
    assert re.search(rf"paddq[^\n]*{register}", text)
    assert not re.search(absent, text)
    if isa in usable:
        call = c_function(build_object([source], isa), "mixed", 2, ctypes.c_int64)
        assert call(5, 1003) == sum(i ^ 5 for i in range(1003))


def test_multiplication_and_addition_are_not_fused() -> None:
    assert "fmadd" not in build_assembly([KernelSource("scaled_sum", scaled_sum)], isas.AVX512)


def test_int64_is_returned() -> None:
    def dot(a: int, b: int, c: int, d: int, e: int, f: int) -> int:
        return a * b + c * d + e * f

    call = c_function(build_object([KernelSource("dot", dot, 6)], HOST), "dot", 6, ctypes.c_int64)
    assert call(3, -5, 7, 11, 1 << 40, 8) == 62 + (1 << 43)


def test_several_kernels_share_an_object() -> None:
    def twice(x: int) -> int:
        return 2 * x

    def thrice(x: int) -> int:
        return 3 * x

    code = build_object([KernelSource("twice", twice, 1), KernelSource("thrice", thrice, 1)], HOST)
    assert c_function(code, "twice", 1, ctypes.c_int64)(7) == 14
    assert c_function(code, "thrice", 1, ctypes.c_int64)(7) == 21


def test_functions_called_through_numba_are_linked_in() -> None:
    @njit
    def clipped(x: int) -> int:
        return min(max(x, 0), 255)

    def kernel(x: int) -> int:
        return clipped(x) + 1

    call = c_function(build_object([KernelSource("kernel", kernel, 1)], HOST), "kernel", 1, ctypes.c_int64)
    assert [call(v) for v in (-4, 7, 300)] == [1, 8, 256]


def test_only_the_kernel_is_visible_and_libc_is_reached() -> None:
    @intrinsic
    def system_call(typingctx: Any, number: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            variadic = ir.FunctionType(ir.IntType(64), [ir.IntType(64)], var_arg=True)
            return builder.call(ir.Function(builder.module, variadic, "syscall"), arguments)

        return types.int64(types.int64), codegen

    def kernel(number: int) -> int:
        return system_call(number)

    code = build_object([KernelSource("kernel", kernel, 1)], HOST)
    assert elf.undefined_symbols(code) == {"syscall"}
    assert [s.name for s in elf.parse(code).symbols if s.is_global and s.section is not None] == ["kernel"]
    getpid = {"x86_64": 39, "aarch64": 172}[platform.machine()]
    assert c_function(code, "kernel", 1, ctypes.c_int64)(getpid) == os.getpid()


def test_kernel_that_may_raise_is_refused() -> None:
    def kernel(at: int, tile: int, thread: int, image: int) -> None:
        for i in range(0, tile, thread):  # raises where thread is 0
            store_word(at + 8 * i, image)

    with pytest.raises(CompileError, match="stepping: a kernel may raise an exception"):
        build_object([KernelSource("stepping", kernel)], HOST)


def test_division_does_not_raise() -> None:
    def quotient(x: int, y: int) -> int:
        return x // y

    call = c_function(build_object([KernelSource("q", quotient, 2)], HOST), "q", 2, ctypes.c_int64)
    assert [call(7, 2), call(-7, 2), call(7, 0)] == [3, -4, 0]


def test_foreign_symbols_are_refused_by_name() -> None:
    # Without FMA instructions LLVM calls libm for it, lane by lane: a trap that costs a factor of hundreds.
    fused_without_hardware = Isa("portable", 4, 16, True, "x86-64")
    with pytest.raises(CompileError, match=r"slow: expected no symbols from outside, found fmaf"):
        build_object([KernelSource("slow", vector_square(fused_without_hardware))], isas.PORTABLE)


def test_memory_of_numbas_runtime_is_refused() -> None:
    def kernel(at: int) -> int:
        return len(np.zeros(at))

    with pytest.raises(CompileError, match="allocating"):
        build_object([KernelSource("allocating", kernel, 1)], HOST)


@pytest.mark.parametrize(
    ("function", "said"),
    [(lambda x: "text", "expected to return int64 or nothing, found"), (lambda x: x.nothing, "Numba refuses it")],
    ids=["wrong result", "not typable"],
)
def test_functions_that_are_no_kernels_are_refused(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(CompileError, match=f"(?s)kernel 'odd'.*{said}"):
        build_object([KernelSource("odd", function, 1)], HOST)


def test_other_machines_are_built_for() -> None:
    here = HOST.machine
    other = isas.NEON if here == "x86_64" else isas.AVX2
    source = KernelSource("square", vector_square(other))
    code = build_object([source], other)
    assert elf.parse(code).machine == other.machine
    assert elf.undefined_symbols(code) <= LIBC_SYMBOLS
    assert re.search(r"fml[as]\s+v\d+\.4s|vfmadd\d+ps", build_assembly([source], other))
    with pytest.raises(CompileError, match=f"square': expected code for {here}, found code for {other.machine}"):
        load({"square": code})


def test_what_numba_keeps_private_is_as_expected() -> None:
    """Fails where a release of Numba changes what numba_abi.py relies on."""
    text = str(numba_abi.lower(mixed, "mixed", 2))
    entry = re.search(r"define i64 @mixed\(i64 %\S+, i64 %\S+\)[^{]*{(.*?)\n}", text, re.S)
    assert entry is not None
    called = re.search(r'call i32 @"?([\w.$]+)"?\(ptr[^,]*, ptr[^,]*, i64[^,]*, i64[^,]*\)', entry[1])
    assert called is not None, "calling convention: status(result*, exception**, arguments...)"
    assert f"@{numba_abi.RAISED}()" in entry[1]
    # Not yet inlined, and its loop not yet vectorised for this machine.
    native = text[text.index(f"define i32 @{called[1]}(") :]
    assert " xor i64 " in native and not re.search(r"<\d+ x i64>", text)
    # Neither wrappers for Python nor Numba's memory runtime.
    assert "cpython" not in text and "cfunc" not in text and "NRT_" not in text


def test_jit_compiles_at_once_for_integers() -> None:
    @range_kernel
    def kernel(at: int, tile: int, thread: int, image: int) -> int:
        return at + 10 * tile + 100 * thread + 1000 * image

    assert [tuple(s) for s in kernel.signatures] == [(types.int64,) * 4]
    assert kernel(1, 2, 3, 4) == 4321
    with pytest.raises(TypeError, match="No matching definition"):
        kernel("text", 2, 3, 4)
