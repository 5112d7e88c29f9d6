"""The mathematical functions that users' functions may call, as Numba functions of one float32.

They are the code that the package's own kernels use, written for a single element, so that results depend on no
mathematics library; where they stand in a loop, LLVM makes vector code of them. It must not know steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from numba import types
from numba.extending import intrinsic

from sepcore.kernels.custom.source import MATHEMATICS
from sepcore.kernels.emit import I32, Emitter, ScalarEmitter
from sepcore.kernels.isa import Isa
from sepcore.kernels.strided import mathematics as m
from sepcore.kernels.strided.functions import UNARY

_LARGEST_ANGLE = 2.0**27  # beyond, float32 has neighbours further apart than a period: sin and cos give NaN
_SIN = (2.718311493989822e-6, -1.9839334836096632e-4, 8.333329385889463e-3, -1.6666666641626524e-1)
_COS = (-2.718311493989822e-7, 2.439044879627741e-5, -1.388678361e-3, 4.1666638908e-2, -0.5)


def _quarter_turns(e: Emitter, x: Any) -> tuple[Any, Any]:
    """``x = n pi / 2 + rest``: n as an integer, the rest as float32; reduced in float64."""
    b, wide = e.b, e.typed(m.F64)
    t = b.fpext(m.clamped(e, x, -_LARGEST_ANGLE, _LARGEST_ANGLE), wide)
    magic = e.all_lanes(m.F64, 1.5 * 2.0**52)
    n = b.fsub(b.fadd(b.fmul(t, e.all_lanes(m.F64, 2 / math.pi)), magic), magic)
    rest = b.fsub(t, b.fmul(n, e.all_lanes(m.F64, math.pi / 2)))
    # NaN has no integer; the products of the rest carry it on.
    whole = b.select(b.fcmp_unordered("uno", n, n), e.all_lanes(m.F64, 0.0), n)
    return b.fptosi(whole, e.typed(I32)), b.fptrunc(rest, e.vector)


def _wave(e: Emitter, x: Any, shift: int) -> Any:
    """``sin(x + shift pi / 2)`` by Taylor's series within an eighth of a turn."""
    b = e.b
    turns, r = _quarter_turns(e, x)
    turns = b.add(turns, e.integers(shift))
    square = b.fmul(r, r)
    sine = e.fma(b.fmul(m.polynomial(e, square, _SIN), square), r, r)
    cosine = e.fma(m.polynomial(e, square, _COS), square, e.splat_constant(1.0))
    zero = e.integers(0)
    value = b.select(b.icmp_signed("==", b.and_(turns, e.integers(1)), zero), sine, cosine)
    value = b.select(b.icmp_signed("==", b.and_(turns, e.integers(2)), zero), value, b.fneg(value))
    far = b.fcmp_unordered(">", m.absolute(e, x), e.splat_constant(_LARGEST_ANGLE))
    return b.select(far, e.splat_constant(math.nan), value)


def _log1p(e: Emitter, x: Any) -> Any:
    """``log(1 + x)``, corrected for what 1 + x rounds away (Higham, Accuracy and Stability, problem 1.5)."""
    b, one = e.b, e.splat_constant(1.0)
    near = b.fadd(one, x)
    exact = b.fmul(m.log(e, near), b.fdiv(x, b.fsub(near, one)))
    # 1 + x is 1, or so large that nothing is lost.
    plain = b.or_(b.fcmp_ordered("==", near, one), b.fcmp_ordered(">", near, e.splat_constant(2.0**24)))
    beyond = b.select(b.fcmp_ordered("==", near, one), x, m.log(e, near))
    return b.select(plain, beyond, exact)


def _expm1(e: Emitter, x: Any) -> Any:
    """``exp(x) - 1``, by the half angle where the difference would cancel: 2 t / (1 - t), t = tanh(x / 2)."""
    b, one = e.b, e.splat_constant(1.0)
    t = m.tanh(e, b.fmul(x, e.splat_constant(0.5)))
    near = b.fdiv(b.fadd(t, t), b.fsub(one, t))
    close = b.fcmp_ordered("<", m.absolute(e, x), e.splat_constant(0.5))
    return b.select(close, near, b.fsub(m.exp(e, x), one))


def _of_table(name: str) -> Callable[[Emitter, Any], Any]:
    return lambda e, x: UNARY[name](e, x, None, None)


_UNARY: Mapping[str, Callable[[Emitter, Any], Any]] = {
    **{name: _of_table(name) for name in ("exp", "log", "tanh", "erf", "sqrt", "floor", "ceil")},
    "fabs": _of_table("abs"),
    "log1p": _log1p,
    "expm1": _expm1,
    "sin": lambda e, x: _wave(e, x, 0),
    "cos": lambda e, x: _wave(e, x, 1),
}


def functions(isa: Isa) -> dict[str, Any]:
    """A Numba function for each name of MATHEMATICS, for ``isa``; arguments are rounded to float32."""
    made = {name: _unary(emit, isa) for name, emit in _UNARY.items()}
    made["pow"] = _power(isa)
    assert made.keys() == set(MATHEMATICS)
    return made


def _unary(emit: Callable[[Emitter, Any], Any], isa: Isa) -> Any:
    @intrinsic
    def operation(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return emit(ScalarEmitter(builder, isa), arguments[0])

        return types.float32(types.float32), codegen

    return operation


def _power(isa: Isa) -> Any:
    @intrinsic
    def operation(typingctx: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return m.power(ScalarEmitter(builder, isa), *arguments)

        return types.float32(types.float32, types.float32), codegen

    return operation
