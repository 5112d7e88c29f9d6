"""Compiles kernels to one relocatable object with Numba and LLVM; it must not cache, load or run anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sepcore.compile import elf
from sepcore.compile.code import LIBC_SYMBOLS
from sepcore.compile.numba_abi import RAISED, compiler_lock, lower
from sepcore.errors import CompileError
from sepcore.kernels.isa import Isa


@dataclass(frozen=True)
class KernelSource:
    """A function to compile to ``void symbol(int64_t, ...)``, or to one that returns int64_t if ``function`` does.

    Attributes
    ----------
    symbol : name of the C function.
    function : Python function of ``arity`` positional arguments that Numba can compile; it may not raise.
    arity : number of int64 arguments.
    """

    symbol: str
    function: Callable[..., Any]
    arity: int = 4


def build_object(sources: Sequence[KernelSource], isa: Isa) -> bytes:
    """A relocatable object (ELF; Mach-O for macOS itself) that holds ``sources``, for any CPU that has ``isa``.

    Raises
    ------
    CompileError : a function cannot be compiled, may raise an exception, or needs symbols that are not in libc.
    """
    module, machine = _optimised(sources, isa)
    code = bytes(machine.emit_object(module))
    if elf.is_elf(code):
        undefined = elf.undefined_symbols(code)
    else:
        undefined = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
    names = ", ".join(source.symbol for source in sources)
    if RAISED in undefined:
        raise CompileError(f"kernels {names}: a kernel may raise an exception, which its caller could not see")
    foreign = sorted(undefined - LIBC_SYMBOLS)
    if foreign:
        raise CompileError(f"kernels {names}: expected no symbols from outside, found {', '.join(foreign)}")
    return code


def build_assembly(sources: Sequence[KernelSource], isa: Isa) -> str:
    """The assembly of what ``build_object`` makes, to look for spills and vector widths."""
    module, machine = _optimised(sources, isa)
    return str(machine.emit_assembly(module))


def _optimised(sources: Sequence[KernelSource], isa: Isa) -> tuple[Any, Any]:
    """The LLVM module of all ``sources`` after O3, all but their symbols internal; and the machine it is for."""
    import llvmlite.binding as llvm

    with compiler_lock():
        modules = [lower(source.function, source.symbol, source.arity) for source in sources]
        machine = _target_machine(isa)
        module = modules[0]
        for other in modules[1:]:
            module.link_in(other)
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        symbols = {source.symbol for source in sources}
        for thing in (*module.functions, *module.global_variables):
            if not thing.is_declaration and thing.name not in symbols:
                thing.linkage = "internal"
        module.verify()
        tuning = llvm.create_pipeline_tuning_options(speed_level=3)
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
    return module, machine


def _target_machine(isa: Isa) -> Any:
    import llvmlite.binding as llvm

    triple = llvm.get_process_triple()
    if triple.split("-")[0].replace("arm64", "aarch64") != isa.machine:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        triple = f"{isa.machine}-unknown-linux-gnu"
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=isa.cpu, features=isa.features, opt=3, reloc="pic", codemodel="small"
    )
