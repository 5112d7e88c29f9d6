"""Vector code of the activations, shared by every epilogue and by the elementwise kernels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from sepcore.kernels.activation import codes
from sepcore.kernels.emit import I32, Emitter

# 2**f for |f| <= 0.5: minimax polynomial of degree 5 (Lawson's iteration on the relative error, 8e-8 at most).
_EXP2 = (
    1.0000000716546558,
    0.6931469670638659,
    0.24022119723933705,
    0.0555071327495996,
    0.009675541330691304,
    0.0013276471519988418,
)
_ROUND = 12582912.0  # 1.5 * 2**23: adding it leaves the nearest integer in the low mantissa bits
_LOG2E = 1.4426950408889634


def emit_activation(e: Emitter, code: int, x: Any, p: Any, q: Any) -> Any:
    """Activation ``code`` of the vector ``x``; ``p`` and ``q`` are vectors of its parameters."""
    b = e.b
    if code == codes.LINEAR:
        return x
    if code == codes.CLAMP:
        # NaN stays NaN: the comparison picks its second operand when unordered.
        return e.minimum(q, e.maximum(p, x))
    if code == codes.LEAKY_RELU:
        return b.select(b.fcmp_ordered(">", x, e.splat_constant(0.0)), x, b.fmul(x, p))
    if code == codes.HARDSWISH:
        return b.fmul(x, _unit_clamp(e, e.fma(x, e.splat_constant(1.0 / 6.0), e.splat_constant(0.5))))
    if code == codes.HARDSIGMOID:
        return _unit_clamp(e, e.fma(x, p, q))
    if code == codes.SILU and e.isa.name == "avx512":
        return b.fmul(x, _sigmoid(e, x))
    if code in (codes.SILU, codes.DIVIDED_SILU):
        return b.fdiv(x, _one_plus_exp_minus(e, x, to_infinity=_scales(e)))
    if code == codes.SIGMOID:
        return _sigmoid(e, x)
    raise ValueError(f"activation code {code} has no vector code")


def _unit_clamp(e: Emitter, x: Any) -> Any:
    return e.minimum(e.splat_constant(1.0), e.maximum(e.splat_constant(0.0), x))


def _sigmoid(e: Emitter, x: Any) -> Any:
    """``1 / (1 + exp(-x))``.

    A division of 512 bits takes as long as the rest of it together, but on Zen 4: AVX-512 has an estimate of 14 bits
    instead, and one step of Newton's iteration makes 28 of them.
    """
    if not _scales(e):
        return e.b.fdiv(e.splat_constant(1.0), _one_plus_exp_minus(e, x))
    b, divisor = e.b, _one_plus_exp_minus(e, x)
    lanes = ir.IntType(e.lanes)
    estimate = e.declared(f"llvm.x86.avx512.rcp14.ps.{32 * e.lanes}", e.vector, [e.vector, e.vector, lanes])
    r = b.call(estimate, [divisor, e.splat_constant(0.0), ir.Constant(lanes, -1)])
    return b.fmul(r, e.fma(b.fneg(divisor), r, e.splat_constant(2.0)))


def _one_plus_exp_minus(e: Emitter, x: Any, to_infinity: bool = False) -> Any:
    """``1 + exp(-x)``, the exponential within 3e-7 relative for |x| < 87 and clamped beyond.

    Parameters
    ----------
    to_infinity : leave out the upper bound, which takes a tenth of the time: infinite below -88.8, for a division.
    """
    t = e.b.fmul(x, e.splat_constant(-_LOG2E))
    # Bounds second, so that NaN passes through both comparisons.
    t = e.maximum(e.splat_constant(-126.0), t)
    if not to_infinity:
        t = e.minimum(e.splat_constant(126.0), t)
    return e.b.fadd(emit_exp2(e, t), e.splat_constant(1.0))


def _scales(e: Emitter) -> bool:
    """Whether vectors are scaled by powers of two and divided by estimates; LLVM makes none of a scalar's form."""
    return e.isa.name == "avx512" and e.lanes > 1


def emit_exp2(e: Emitter, t: Any) -> Any:
    """``2**t`` for |t| <= 126: round to an integer, a polynomial on the rest, the integer added to the exponent.

    AVX-512 has both ends as instructions: rounding, and scaling by a power of two (vscalefps), infinite from 128 on.
    Half vectors take them too, so that a channel has the same bits in whichever tile it falls.
    """
    b = e.b
    if _scales(e):
        lanes = ir.IntType(e.lanes)
        # Only the form for whole vectors takes a rounding mode: the current one.
        rounding = [ir.Constant(I32, 4)] if e.lanes == e.isa.lanes else []
        masked = [e.splat_constant(0.0), ir.Constant(lanes, -1), *rounding]
        kinds = [value.type for value in masked]
        scale = e.declared(f"llvm.x86.avx512.mask.scalef.ps.{32 * e.lanes}", e.vector, [e.vector, e.vector, *kinds])
        whole = e.llvm("roundeven", t)  # vreduceps leaves the rest in one step, but takes longer than both together
        return b.call(scale, [_exp2_of_rest(e, b.fsub(t, whole)), whole, *masked])
    rounded = b.fadd(t, e.splat_constant(_ROUND))
    rest = b.fsub(t, b.fsub(rounded, e.splat_constant(_ROUND)))
    power = _exp2_of_rest(e, rest)
    exponent = b.shl(b.bitcast(rounded, e.int_vector), e.integers(23))
    return b.bitcast(b.add(b.bitcast(power, e.int_vector), exponent), e.vector)


def _exp2_of_rest(e: Emitter, rest: Any) -> Any:
    """``2**rest`` for |rest| <= 0.5."""
    power = e.splat_constant(_EXP2[-1])
    for coefficient in reversed(_EXP2[:-1]):
        power = e.fma(power, rest, e.splat_constant(coefficient))
    return power


def is_expensive(code: int) -> bool:
    """Whether the activation needs registers that a full tile does not have, and so runs over the stored tile."""
    return code == codes.CALL
