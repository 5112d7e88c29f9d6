"""What threads need of the CPU and of C, as Numba intrinsics: atomics, calls by address, floating-point mode.

It must not know programs or pools. Importing it imports numba and llvmlite. Inline assembly is not used: Numba has no
assembly parser, LLVM would end the process.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sepcore.kernels.emit import I32, I64, POINTER, VOID

_WORD = types.int64
_WORD_POINTER = I64.as_pointer()  # typed: llvmlite's atomic operations ask for it

# Round to nearest, no exception traps, denormals read and written as zero (they are slow to compute with).
MXCSR = 0x1F80 | 0x8000 | 0x0040  # all exceptions masked | flush to zero | denormals are zero
FPCR = 1 << 24  # FZ


def _declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name=name)


@intrinsic
def atomic_load(typingctx: Any, address: Any) -> Any:
    """The int64 at ``address``; sequentially consistent: never earlier than a swap before it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(arguments[0], _WORD_POINTER), "seq_cst", 8, typ=I64)

    return _WORD(_WORD), codegen


@intrinsic
def atomic_store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write ``value`` at ``address`` for others to see, with all that this thread wrote before it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], _WORD_POINTER), "release", 8)
        return context.get_dummy_value()

    return types.void(_WORD, _WORD), codegen


@intrinsic
def atomic_add(typingctx: Any, address: Any, value: Any) -> Any:
    """Add ``value`` to the int64 at ``address``; returns what was there before."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(arguments[0], _WORD_POINTER), arguments[1], "seq_cst")

    return _WORD(_WORD, _WORD), codegen


@intrinsic
def atomic_swap(typingctx: Any, address: Any, value: Any) -> Any:
    """Write ``value`` at ``address``; returns what was there before."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("xchg", builder.inttoptr(arguments[0], _WORD_POINTER), arguments[1], "seq_cst")

    return _WORD(_WORD, _WORD), codegen


@intrinsic
def compare_and_swap(typingctx: Any, address: Any, expected: Any, value: Any) -> Any:
    """Write ``value`` at ``address`` if ``expected`` is there: 1 if so, else 0."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pair = builder.cmpxchg(
            builder.inttoptr(arguments[0], _WORD_POINTER), arguments[1], arguments[2], "seq_cst", "seq_cst"
        )
        return builder.zext(builder.extract_value(pair, 1), I64)

    return _WORD(_WORD, _WORD, _WORD), codegen


@intrinsic
def call_kernel(typingctx: Any, code: Any, step: Any, tile: Any, thread: Any, image: Any) -> Any:
    """Call the kernel at address ``code``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kernel_type = ir.FunctionType(VOID, [I64] * 4)
        _call(builder, kernel_type, arguments[0], arguments[1:])
        return context.get_dummy_value()

    return types.void(*[_WORD] * 5), codegen


@intrinsic
def call_c(typingctx: Any, code: Any, a: Any, b: Any, c: Any) -> Any:
    """The int that the C function at address ``code`` returns for up to three integers or pointers.

    Arguments it does not have are harmless: they are passed in registers on x86-64 (System V) and on AArch64.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = _call(builder, ir.FunctionType(I32, [I64] * 3), arguments[0], arguments[1:])
        return builder.sext(result, I64)

    return _WORD(*[_WORD] * 4), codegen


def _call(builder: Any, function_type: Any, address: Any, arguments: Any) -> Any:
    # llvmlite takes the function's type from a typed pointer, and prints an opaque one.
    return builder.call(builder.inttoptr(address, function_type.as_pointer()), arguments)


def pause_of(machine: str) -> Any:
    """The intrinsic ``pause()`` of ``machine``: tells the CPU that this thread spins."""

    @intrinsic
    def pause(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if machine == "x86_64":
                builder.call(_declared(builder, "llvm.x86.sse2.pause", VOID, []), [])
            else:
                yield_hint = ir.Constant(I32, 1)
                builder.call(_declared(builder, "llvm.aarch64.hint", VOID, [I32]), [yield_hint])
            return context.get_dummy_value()

        return types.void(), codegen

    return pause


def float_modes_of(machine: str) -> tuple[Any, Any, int]:
    """``float_mode()``, ``set_float_mode(mode)`` of ``machine``, and the mode that programs run in.

    The mode is the whole control register: MXCSR (with its status flags) or FPCR.
    """

    @intrinsic
    def float_mode(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if machine != "x86_64":
                return builder.call(_declared(builder, "llvm.aarch64.get.fpcr", I64, []), [])
            place = _stack_word(builder)
            builder.call(_declared(builder, "llvm.x86.sse.stmxcsr", VOID, [POINTER]), [place])
            return builder.zext(builder.load(place, align=4, typ=I32), I64)

        return _WORD(), codegen

    @intrinsic
    def set_float_mode(typingctx: Any, mode: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if machine != "x86_64":
                builder.call(_declared(builder, "llvm.aarch64.set.fpcr", VOID, [I64]), arguments)
                return context.get_dummy_value()
            place = _stack_word(builder)
            builder.store(builder.trunc(arguments[0], I32), place, align=4)
            builder.call(_declared(builder, "llvm.x86.sse.ldmxcsr", VOID, [POINTER]), [place])
            return context.get_dummy_value()

        return types.void(_WORD), codegen

    return float_mode, set_float_mode, MXCSR if machine == "x86_64" else FPCR


def _stack_word(builder: Any) -> Any:
    """Four bytes of the function's frame, allocated at its entry so that a loop does not grow the stack."""
    with builder.goto_entry_block():
        return builder.alloca(I32)
