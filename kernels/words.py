"""Numba access to memory by address: loads and stores of words and floats, for the scalar part of kernels."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from sepcore.kernels.emit import F32, I64, POINTER


@intrinsic
def load_word(typingctx: Any, address: Any) -> Any:
    """The int64 at ``address``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], POINTER), align=8, typ=I64)

    return types.int64(types.int64), codegen


@intrinsic
def store_word(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the int64 ``value`` at ``address``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], POINTER), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def load_float(typingctx: Any, address: Any) -> Any:
    """The float32 at ``address``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], POINTER), align=4, typ=F32)

    return types.float32(types.int64), codegen


@intrinsic
def store_float(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the float32 ``value`` at ``address``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], POINTER), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), codegen


__all__ = ["load_float", "load_word", "store_float", "store_word"]
