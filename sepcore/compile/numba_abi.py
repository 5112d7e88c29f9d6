"""Everything sepcore knows of Numba's insides: from a Python function to unoptimised LLVM code with a C entry point.

It must not optimise or emit code, and nothing else may import from ``numba.core``. tests/test_compile_build.py tells
when a release of Numba changes what is used here.

``Dispatcher.inspect_llvm`` would be public, but gives code that was optimised for this machine's CPU after machine
code for it was made: twice the time, and vector widths that another level does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from sepcore.errors import CompileError
from sepcore.kernels.jit import OPTIONS

# The C function calls this where the kernel returns an error; optimisation removes the call if none can occur.
RAISED = "sepcore_kernel_raised"


def compiler_lock() -> Any:
    """The lock, which one thread may take many times, that Numba holds while it uses LLVM."""
    return import_module("numba.core.compiler_lock").global_compiler_lock


def lower(function: Callable[..., Any], symbol: str, arity: int) -> Any:
    """LLVM module with ``int64_t symbol(int64_t, ...)``, or ``void`` where ``function`` returns nothing.

    Functions that a kernel calls through njit or ``numba.extending.overload`` are linked in as Numba optimised them
    for this machine's CPU: correct on every target, with this machine's vector widths.

    Returns
    -------
    llvmlite.binding.ModuleRef : unoptimised, in this machine's data layout.

    Raises
    ------
    CompileError : Numba refuses the function, or it returns something else than an int64 or nothing.
    """
    from numba import types
    from numba.core.errors import NumbaError

    # By name, because Numba's annotations cover only what it means to be public.
    compiler = import_module("numba.core.compiler")
    cpu_target = import_module("numba.core.registry").cpu_target
    memory_runtime = import_module("numba.core.runtime").rtsys
    flags = cpu_target.options.parse_as_flags(
        compiler.Flags(),
        {"nopython": True, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, **OPTIONS},
    )
    flags.no_compile = True
    context = cpu_target.target_context
    with compiler_lock():
        try:
            lowered = compiler.compile_extra(
                cpu_target.typing_context, context, function, (types.int64,) * arity, None, flags, {}
            )
        except NumbaError as error:
            raise CompileError(f"kernel {symbol!r}: Numba refuses it: {error}") from error
        result = lowered.signature.return_type
        if result not in (types.none, types.int64):
            raise CompileError(f"kernel {symbol!r}: expected to return int64 or nothing, found {result}")
        library = lowered.library
        library.add_ir_module(_c_entry(context, lowered.fndesc, symbol, result == types.int64))
        module = library._final_module
        for linked in library._linking_libraries:
            # Without Numba's memory runtime: what needs it is an undefined symbol, and refused by name.
            if linked is not memory_runtime.library:
                module.link_in(linked._get_module_for_linking(), preserve=True)
    return module


def _c_entry(context: Any, description: Any, symbol: str, returns: bool) -> Any:
    """A module with the C function ``symbol`` that calls the lowered one by Numba's own calling convention."""
    from llvmlite import ir

    word = ir.IntType(64)
    module = context.create_module(symbol)
    convention = context.call_conv
    native_type = convention.get_function_type(description.restype, description.argtypes)
    native = ir.Function(module, native_type, description.llvm_func_name)
    c_type = ir.FunctionType(word if returns else ir.VoidType(), [word] * len(description.argtypes))
    entry = ir.Function(module, c_type, symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    status, value = convention.call_function(builder, native, description.restype, description.argtypes, entry.args)
    with builder.if_then(status.is_error, likely=False):
        builder.call(ir.Function(module, ir.FunctionType(ir.VoidType(), []), RAISED), [])
    if returns:
        builder.ret(value)
    else:
        builder.ret_void()
    return module
