"""A vector of float32 lanes as a first-class Numba value, so that simple kernels read as Python.

``Lanes(isa)`` gives the leaf operations for one instruction set; memory is reached by integer addresses. Kernels whose
registers must be counted are emitted whole instead (pointwise/tile.py, depthwise/tile.py).
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from sepcore.kernels.activation import codes
from sepcore.kernels.activation.emit import emit_activation
from sepcore.kernels.emit import F32, POINTER, Emitter, i64
from sepcore.kernels.isa import Isa


class Vec(types.Type):
    """Numba type of a register of ``lanes`` float32 values."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"vec{lanes}xf32")


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Vec) -> None:
        super().__init__(manager, fe_type, ir.VectorType(F32, fe_type.lanes))


@cache
def lanes_of(isa: Isa) -> SimpleNamespace:
    """load, store, load_part, store_part, splat, add, sub, mul, div, fma, maximum, minimum, activate for ``isa``.

    load(address), store(address, v); load_part and store_part take a lane count and touch nothing past it;
    activate(v, code, p, q) dispatches on an activation code at run time. ``binary(emit)`` makes an operation of two
    vectors, ``function(emit)`` one of a vector with the signature of ``activate``, from code that an emitter writes.
    """
    vec = Vec(isa.lanes)

    @intrinsic
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(builder, isa)
            return e.load(builder.inttoptr(args[0], POINTER))

        return vec(types.int64), codegen

    @intrinsic
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            Emitter(builder, isa).store(args[1], builder.inttoptr(args[0], POINTER))
            return context.get_dummy_value()

        return types.void(types.int64, vec), codegen

    @intrinsic
    def load_part(typingctx: Any, address: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return Emitter(builder, isa).load_masked(builder.inttoptr(args[0], POINTER), args[1])

        return vec(types.int64, types.int64), codegen

    @intrinsic
    def store_part(typingctx: Any, address: Any, value: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            Emitter(builder, isa).store_masked(args[1], builder.inttoptr(args[0], POINTER), args[2])
            return context.get_dummy_value()

        return types.void(types.int64, vec, types.int64), codegen

    @intrinsic
    def splat(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return Emitter(builder, isa).splat(args[0])

        return vec(types.float32), codegen

    @intrinsic
    def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return Emitter(builder, isa).fma(*args)

        return vec(vec, vec, vec), codegen

    @intrinsic
    def activate(typingctx: Any, x: Any, code: Any, p: Any, q: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(builder, isa)
            x, code, p, q = args
            p, q = e.splat(p), e.splat(q)
            done = builder.append_basic_block("activated")
            blocks = {c: builder.append_basic_block(codes.NAMES[c]) for c in codes.NAMES}
            switch = builder.switch(code, blocks[codes.LINEAR])
            results = []
            for c, block in blocks.items():
                if c != codes.LINEAR:
                    switch.add_case(i64(c), block)
                builder.position_at_end(block)
                results.append((emit_activation(e, c, x, p, q), builder.block))
                builder.branch(done)
            builder.position_at_end(done)
            phi = builder.phi(e.vector)
            for value, block in results:
                phi.add_incoming(value, block)
            return phi

        return vec(vec, types.int64, types.float32, types.float32), codegen

    def binary(emit: Any) -> Any:
        @intrinsic
        def operation(typingctx: Any, x: Any, y: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                return emit(Emitter(builder, isa), *args)

            return vec(vec, vec), codegen

        return operation

    def function(emit: Any) -> Any:
        @intrinsic
        def operation(typingctx: Any, x: Any, code: Any, p: Any, q: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                e = Emitter(builder, isa)
                return emit(e, args[0], e.splat(args[2]), e.splat(args[3]))

            return vec(vec, types.int64, types.float32, types.float32), codegen

        return operation

    return SimpleNamespace(
        width=isa.lanes,
        bytes=4 * isa.lanes,
        load=load,
        store=store,
        load_part=load_part,
        store_part=store_part,
        splat=splat,
        fma=fma,
        activate=activate,
        binary=binary,
        function=function,
        add=binary(lambda e, x, y: e.b.fadd(x, y)),
        sub=binary(lambda e, x, y: e.b.fsub(x, y)),
        mul=binary(lambda e, x, y: e.b.fmul(x, y)),
        div=binary(lambda e, x, y: e.b.fdiv(x, y)),
        maximum=binary(lambda e, x, y: e.maximum(y, x)),
        minimum=binary(lambda e, x, y: e.minimum(y, x)),
    )
