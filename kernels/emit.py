"""Writes LLVM vector code through llvmlite for Numba intrinsics whose arguments are all integers.

It must not know operators: tiles and activations build on it. Importing it imports numba and llvmlite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sepcore.kernels.isa import Isa

F32 = ir.FloatType()
I1 = ir.IntType(1)
I8 = ir.IntType(8)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
POINTER = ir.PointerType()
VOID = ir.VoidType()

FLOAT_BYTES = 4


def i64(value: int) -> ir.Constant:
    """A 64-bit integer constant."""
    return ir.Constant(I64, value)


class Emitter:
    """An IRBuilder with the vector operations of one instruction set.

    Addresses are LLVM pointers, offsets are in bytes (Python integers or i64 values).
    """

    def __init__(self, builder: ir.IRBuilder, isa: Isa, lanes: int | None = None) -> None:
        self.b = builder
        self.isa = isa
        self.lanes = isa.lanes if lanes is None else lanes
        self.vector = self.typed(F32)
        self.int_vector = self.typed(I32)
        self.bytes = self.lanes * FLOAT_BYTES

    def typed(self, lane: Any) -> Any:
        """The type of a register whose lanes have the type ``lane``."""
        return ir.VectorType(lane, self.lanes)

    def all_lanes(self, lane: Any, value: float) -> ir.Constant:
        """A constant of such a register, the same in every lane."""
        return ir.Constant(ir.VectorType(lane, self.lanes), [value] * self.lanes)

    def declared(self, name: str, result: Any, arguments: Sequence[Any]) -> ir.Function:
        """A function of this name in the module, declared on first use."""
        known = self.b.module.globals.get(name)
        return known or ir.Function(self.b.module, ir.FunctionType(result, list(arguments)), name=name)

    def pointer(self, address: Any) -> Any:
        """An integer address as a pointer; only at a kernel's entry, LLVM's alias analysis loses track behind it."""
        return self.b.inttoptr(address, POINTER)

    def at(self, pointer: Any, offset: Any) -> Any:
        """``pointer`` + ``offset`` bytes."""
        if isinstance(offset, int):
            if offset == 0:
                return pointer
            offset = i64(offset)
        return self.b.gep(pointer, [offset], source_etype=I8)

    def opaque(self, pointer: Any) -> Any:
        """The same pointer; LLVM knows nothing of what stands there, and loads it."""
        return self.b.asm(ir.FunctionType(POINTER, [POINTER]), "", "=r,0", [pointer], True)

    def times(self, factor: int, value: Any) -> Any:
        """``factor * value`` for an i64 value or a Python integer; a plain 0 or the value itself where that is it."""
        if isinstance(value, int) or factor == 0:
            return factor * value if isinstance(value, int) else 0
        return value if factor == 1 else self.b.mul(i64(factor), value)

    def load(self, pointer: Any) -> Any:
        """A vector from memory, aligned to a float only."""
        return self.b.load(pointer, align=4, typ=self.vector)

    def load_masked(self, pointer: Any, count: Any) -> Any:
        """The first ``count`` lanes (i64 value) from memory, zeros behind; reads nothing past them."""
        return self.load_where(pointer, self.lane_mask(count))

    def load_where(self, pointer: Any, mask: Any) -> Any:
        """The lanes of a mask from memory, zeros elsewhere."""
        fn = self.declared(f"llvm.masked.load.v{self.lanes}f32.p0", self.vector, [POINTER, I32, mask.type, self.vector])
        return self.b.call(fn, [pointer, ir.Constant(I32, 4), mask, self.splat_constant(0.0)])

    def store(self, value: Any, pointer: Any) -> None:
        """A whole vector (of any lane count) to memory."""
        self.b.store(value, pointer, align=4)

    def store_masked(self, value: Any, pointer: Any, count: Any) -> None:
        """The first ``count`` lanes (i64 value) to memory; writes nothing past them."""
        mask = self.lane_mask(count)
        fn = self.declared(f"llvm.masked.store.v{self.lanes}f32.p0", VOID, [self.vector, POINTER, I32, mask.type])
        self.b.call(fn, [value, pointer, ir.Constant(I32, 4), mask])

    def lane_mask(self, count: Any) -> Any:
        """A mask of the first ``count`` lanes."""
        wide = ir.VectorType(I64, self.lanes)
        ramp = ir.Constant(wide, list(range(self.lanes)))
        return self.b.icmp_signed(
            "<",
            ramp,
            self.b.shuffle_vector(
                self.b.insert_element(ir.Constant(wide, ir.Undefined), count, ir.Constant(I32, 0)),
                ir.Constant(wide, ir.Undefined),
                ir.Constant(self.int_vector, [0] * self.lanes),
            ),
        )

    def splat_constant(self, value: float) -> ir.Constant:
        """A vector constant with ``value`` in every lane."""
        return self.all_lanes(F32, float(value))

    def integers(self, value: int) -> ir.Constant:
        """A vector constant with the 32-bit integer ``value`` in every lane."""
        return self.all_lanes(I32, value)

    def splat(self, scalar: Any) -> Any:
        """A vector with a float value in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, undefined, ir.Constant(self.int_vector, [0] * self.lanes))

    def broadcast(self, pointer: Any) -> Any:
        """A vector with the float at ``pointer`` in every lane."""
        return self.splat(self.b.load(pointer, align=4, typ=F32))

    def part(self, vector: Any, first: int, count: int) -> Any:
        """``count`` lanes of ``vector`` from ``first`` on, as a shorter vector."""
        lanes = ir.Constant(ir.VectorType(I32, count), list(range(first, first + count)))
        return self.b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), lanes)

    def join(self, low: Any, high: Any) -> Any:
        """Two half vectors as one."""
        lanes = ir.Constant(self.int_vector, list(range(self.lanes)))
        return self.b.shuffle_vector(low, high, lanes)

    def blend(self, mask: Any, yes: Any, no: Any) -> Any:
        """Per lane ``yes`` where ``mask`` is set, ``no`` elsewhere."""
        return self.b.select(mask, yes, no)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """``x*y + z``: fused where the instruction set has it; a libm call per lane if asked for elsewhere."""
        if not self.isa.fma:
            return self.b.fadd(self.b.fmul(x, y), z)
        return self.llvm("fma", x, y, z)

    def llvm(self, name: str, *values: Any) -> Any:
        """LLVM's intrinsic ``name`` of float32 registers, lane by lane."""
        fn = self.declared(f"llvm.{name}.v{self.lanes}f32", self.vector, [self.vector] * len(values))
        return self.b.call(fn, values)

    def maximum(self, x: Any, y: Any) -> Any:
        """``x > y ? x : y`` per lane: y where x is NaN."""
        return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        """``x < y ? x : y`` per lane: y where x is NaN."""
        return self.b.select(self.b.fcmp_ordered("<", x, y), x, y)

    def prefetch(self, pointer: Any) -> None:
        """Ask for the line at ``pointer`` in all caches (never faults).

        On Zen 4, LLVM's localities below 3 leave lines where layers that run after a chain have no use of them.
        """
        fn = self.declared("llvm.prefetch.p0", VOID, [POINTER, I32, I32, I32])
        self.b.call(fn, [pointer] + [ir.Constant(I32, v) for v in (0, 3, 1)])


class ScalarEmitter(Emitter):
    """Writes the same code for a single float32 instead of a vector of them."""

    def __init__(self, builder: ir.IRBuilder, isa: Isa) -> None:
        super().__init__(builder, isa, 1)

    def typed(self, lane: Any) -> Any:
        return lane

    def all_lanes(self, lane: Any, value: float) -> ir.Constant:
        return ir.Constant(lane, value)

    def llvm(self, name: str, *values: Any) -> Any:
        fn = self.declared(f"llvm.{name}.f32", self.vector, [self.vector] * len(values))
        return self.b.call(fn, values)


class Loop:
    """``for i in range(0, count, step)`` with values carried in registers; runs at least once.

    ``i`` is the index, ``carried`` the values at the head of an iteration; ``end`` closes it with their next values
    and leaves the builder behind the loop, where ``carried`` of the last iteration are the values given to ``end``.
    """

    def __init__(self, builder: ir.IRBuilder, count: Any, step: int = 1, carried: Sequence[Any] = ()) -> None:
        self.b = builder
        self._count, self._step = count, step
        before = builder.block
        self._body = builder.append_basic_block("body")
        self._exit = builder.append_basic_block("exit")
        builder.branch(self._body)
        builder.position_at_end(self._body)
        self.i = builder.phi(I64)
        self.i.add_incoming(i64(0), before)
        self.carried = []
        for value in carried:
            phi = builder.phi(value.type)
            phi.add_incoming(value, before)
            self.carried.append(phi)

    def end(self, values: Sequence[Any] = ()) -> None:
        block = self.b.block
        following = self.b.add(self.i, i64(self._step))
        self.i.add_incoming(following, block)
        for phi, value in zip(self.carried, values):
            phi.add_incoming(value, block)
        self.b.cbranch(self.b.icmp_signed("<", following, self._count), self._body, self._exit)
        self.b.position_at_end(self._exit)


def integer_intrinsic(name: str, arity: int, body: Callable[[ir.IRBuilder, Sequence[Any]], None]) -> Any:
    """A Numba intrinsic ``name(int64 * arity) -> None`` whose code ``body`` writes into a function of its own.

    The function is not inlined: its register allocation then depends on itself alone.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(VOID, [I64] * arity), name=name)
            function.linkage = "internal"
            function.attributes.add("noinline")
            function.attributes.add("nounwind")
            inner = ir.IRBuilder(function.append_basic_block("entry"))
            body(inner, function.args)
            inner.ret_void()
        builder.call(function, arguments)
        return context.get_dummy_value()

    # Numba reads the arity off the typing function's own parameters.
    parameters = ", ".join(f"a{i}" for i in range(arity))
    scope = {"types": types, "codegen": codegen, "arity": arity}
    exec(f"def {name}(typingctx, {parameters}):\n    return types.void(*([types.intp] * arity)), codegen\n", scope)
    return intrinsic(scope[name])
