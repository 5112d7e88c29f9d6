"""Loops whose speed is the machine's limit: multiply-adds that touch no memory, and reads that do little else.

They compute nothing of use, and no program calls them. Compiling starts when a row is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels.isa import Isa
from sepcore.kernels.spec import KernelSpec

# Independent sums: latency times instructions per cycle is 8 to 10 on today's cores, and all must fit the registers.
_READ_SUMS = 8


def fma_sums(isa: Isa) -> int:
    """Independent multiply-add chains of the peak loop; what remains of the registers holds the two constants."""
    return 3 * isa.registers // 4


def flops(isa: Isa) -> int:
    """Floating-point operations of one iteration of ``fma_peak``: a multiply and an add per lane of every chain."""
    return 2 * isa.lanes * fma_sums(isa)


def read_bytes(isa: Isa) -> int:
    """Bytes that one iteration of ``read_memory`` reads; sizes must be multiples of it."""
    return 4 * isa.lanes * _READ_SUMS


def result_bytes(isa: Isa) -> int:
    """Bytes that either loop writes at its last argument."""
    return 4 * isa.lanes * max(fma_sums(isa), _READ_SUMS)


def fma_peak_row(isa: str) -> KernelSpec:
    """``fma_peak(iterations, constants, result)``: x = x * a + b with the two floats a, b at ``constants``."""
    return KernelSpec(f"fma_peak__{isa}", "limits", isa, None, _fma_peak, arity=3)


def read_memory_row(isa: str) -> KernelSpec:
    """``read_memory(address, bytes, passes, result)``: add up the floats at ``address``, ``passes`` times."""
    return KernelSpec(f"read_memory__{isa}", "limits", isa, None, _read_memory, arity=4)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    yield fma_peak_row(isa)
    yield read_memory_row(isa)


def find(name: str) -> KernelSpec:
    """The row called ``name``; KeyError where there is none."""
    isa = name.rpartition("__")[2]
    isas.by_name(isa)
    return {spec.name: spec for spec in rows(isa)}[name]


def _fma_peak(spec: KernelSpec) -> Callable[[int, int, int], None]:
    from sepcore.kernels.emit import FLOAT_BYTES, Emitter, Loop, integer_intrinsic

    isa = isas.by_name(spec.isa)

    def body(builder: Any, arguments: Any) -> None:
        e = Emitter(builder, isa)
        iterations, constants, result = arguments
        at, out = e.pointer(constants), e.pointer(result)
        factor, term = e.broadcast(at), e.broadcast(e.at(at, FLOAT_BYTES))
        # The chains start apart, or the compiler would see that they are one.
        start = [e.splat_constant(float(i)) for i in range(fma_sums(isa))]
        loop = Loop(builder, iterations, 1, start)
        sums = [e.fma(x, factor, term) for x in loop.carried]
        loop.end(sums)
        for i, x in enumerate(sums):
            e.store(x, e.at(out, i * e.bytes))

    fma_loop = integer_intrinsic(f"fma_loop_{isa.name}", 3, body)

    def fma_peak(iterations: int, constants: int, result: int) -> None:
        fma_loop(iterations, constants, result)

    return fma_peak


def _read_memory(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.emit import Emitter, Loop, integer_intrinsic

    isa = isas.by_name(spec.isa)

    def body(builder: Any, arguments: Any) -> None:
        e = Emitter(builder, isa)
        address, size, passes, result = arguments
        memory, out = e.pointer(address), e.pointer(result)
        again = Loop(builder, passes, 1, [e.splat_constant(0.0)] * _READ_SUMS)
        loop = Loop(builder, size, read_bytes(isa), again.carried)
        here = e.at(memory, loop.i)
        sums = [builder.fadd(x, e.load(e.at(here, i * e.bytes))) for i, x in enumerate(loop.carried)]
        loop.end(sums)
        again.end(sums)
        for i, x in enumerate(sums):
            e.store(x, e.at(out, i * e.bytes))

    read_loop = integer_intrinsic(f"read_loop_{isa.name}", 4, body)

    def read_memory(address: int, size: int, passes: int, result: int) -> None:
        read_loop(address, size, passes, result)

    return read_memory
