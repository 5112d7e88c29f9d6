"""Loads kernel objects into this process and finds their functions.

It must not compile: on Linux neither numba nor llvmlite is imported.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from typing import Any

from sepcore.errors import CompileError

_kept: list[Any] = []


def load(objects: Mapping[str, bytes]) -> dict[str, int]:
    """Address of each function in ``objects``: name -> the object that defines it. All share one mapping.

    Raises
    ------
    CompileError : an object is broken, is for another machine, lacks its function or needs a symbol that is not
        allowed, or the system refuses executable memory.
    """
    if sys.platform == "darwin":
        return _load_with_llvm(objects)
    from sepcore.compile.code import place
    from sepcore.compile.link import link

    return place(link(objects, platform.machine()))


def _load_with_llvm(objects: Mapping[str, bytes]) -> dict[str, int]:
    """macOS: objects are Mach-O there, so LLVM's own linker loads them; llvmlite (not numba) is imported."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(codemodel="jitdefault", jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    _kept.append(engine)
    for name, code in objects.items():
        try:
            engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        except RuntimeError as error:
            raise CompileError(f"kernel object {name!r}: {error}") from error
    engine.finalize_object()
    addresses = {name: int(engine.get_function_address(name)) for name in objects}
    for name, address in addresses.items():
        if address == 0:
            raise CompileError(f"kernel object {name!r}: expected a function of that name in it, found none")
    return addresses
