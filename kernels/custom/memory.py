"""Memory as users' functions see it: arrays at an address, and a tile's worth of floats on the stack.

It must not know operators. Importing it imports numba and llvmlite.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable
from numba.np.arrayobj import make_array, populate_array

from sepcore.kernels.emit import F32, FLOAT_BYTES, I64, POINTER, i64
from sepcore.kernels.isa import Isa

_LINE = 64


@intrinsic
def floats(typingctx: Any, address: Any, count: Any) -> Any:
    """The ``count`` floats at ``address`` as an array."""
    array = types.Array(types.float32, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _array(context, builder, array, arguments[0], [arguments[1]])

    return array(types.int64, types.int64), codegen


@cache
def array_of(rank: int) -> Any:
    """An intrinsic ``f(address, lengths)``: the floats at an address in C order, with the lengths at another."""
    array = types.Array(types.float32, rank, "C")

    @intrinsic
    def operation(typingctx: Any, address: Any, lengths: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            table = builder.inttoptr(arguments[1], POINTER)
            places = (builder.gep(table, [i64(axis)], source_etype=I64) for axis in range(rank))
            shape = [builder.load(place, align=8, typ=I64) for place in places]
            return _array(context, builder, array, arguments[0], shape)

        return array(types.int64, types.int64), codegen

    return operation


def _array(context: Any, builder: Any, array: Any, address: Any, shape: list[Any]) -> Any:
    made = make_array(array)(context, builder)
    strides: list[Any] = []
    stride: Any = i64(FLOAT_BYTES)
    for length in reversed(shape):
        strides.insert(0, stride)
        stride = builder.mul(stride, length)
    populate_array(made, builder.inttoptr(address, F32.as_pointer()), shape, strides, i64(FLOAT_BYTES), None)
    return made._getvalue()


@intrinsic
def stack_floats(typingctx: Any, count: Any) -> Any:
    """The address of ``count`` floats, a constant, that last until the function returns."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = cgutils.alloca_once(builder, ir.ArrayType(F32, count.literal_value))
        place.align = _LINE
        return builder.ptrtoint(place, I64)

    return types.int64(count), codegen


@cache
def copier(isa: Isa) -> Any:
    """``copy(source, target, count)``: copy floats from one address to another that is not within the source."""
    from sepcore.kernels.simd import lanes_of

    v = lanes_of(isa)
    load, store, load_part, store_part, width, vector_bytes = (
        v.load, v.store, v.load_part, v.store_part, v.width, v.bytes,
    )  # fmt: skip

    @register_jitable(error_model="numpy")
    def copy(source: int, target: int, count: int) -> None:
        for _ in range(count // width):
            store(target, load(source))
            source, target = source + vector_bytes, target + vector_bytes
        rest = count % width
        if rest > 0:
            store_part(target, load_part(source, rest), rest)

    return copy
