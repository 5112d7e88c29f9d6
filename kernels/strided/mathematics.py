"""Vector code of the transcendental functions, in float32 within a few units of the last place.

It must not know steps. Denormal arguments and results may count as zero. Kernel objects may call nothing from a
mathematics library, and the results shall be the same on every machine of an instruction set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from sepcore.kernels.activation.emit import emit_exp2
from sepcore.kernels.emit import I64, Emitter

F64 = ir.DoubleType()

_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.428606820309417e-06  # their sum is ln 2; the first has 16 bits
_ROUND = 12582912.0  # 1.5 * 2**23
_INFINITY = float("inf")


def polynomial(e: Emitter, x: Any, coefficients: Sequence[float]) -> Any:
    """The polynomial with these coefficients, the highest power first."""
    total = e.splat_constant(coefficients[0])
    for coefficient in coefficients[1:]:
        total = e.fma(total, x, e.splat_constant(coefficient))
    return total


def absolute(e: Emitter, x: Any) -> Any:
    """``|x|``."""
    mask = e.integers(0x7FFFFFFF)
    return e.b.bitcast(e.b.and_(e.b.bitcast(x, e.int_vector), mask), e.vector)


def with_sign(e: Emitter, x: Any, sign: Any) -> Any:
    """``x``, which is not negative, with the sign of ``sign``."""
    bit = e.integers(-0x80000000)
    taken = e.b.and_(e.b.bitcast(sign, e.int_vector), bit)
    return e.b.bitcast(e.b.or_(e.b.bitcast(x, e.int_vector), taken), e.vector)


def clamped(e: Emitter, x: Any, low: float, high: float) -> Any:
    """``x`` between two numbers; NaN stays."""
    return e.minimum(e.splat_constant(high), e.maximum(e.splat_constant(low), x))


def power_of_two(e: Emitter, n: Any) -> Any:
    """``2**n`` for integers -126 ... 127."""
    return e.b.bitcast(e.b.shl(e.b.add(n, e.integers(127)), e.integers(23)), e.vector)


def exp(e: Emitter, x: Any) -> Any:
    """``exp(x)``: x = n ln 2 + r with r small, in two parts so that nothing is lost (Cody and Waite, 1980)."""
    b = e.b
    x = clamped(e, x, -105.0, 90.0)
    rounded = b.fadd(b.fmul(x, e.splat_constant(_LOG2E)), e.splat_constant(_ROUND))
    n = b.fsub(rounded, e.splat_constant(_ROUND))
    rest = e.fma(n, e.splat_constant(-_LN2_HIGH), x)
    rest = e.fma(n, e.splat_constant(-_LN2_LOW), rest)
    power = emit_exp2(e, b.fmul(rest, e.splat_constant(_LOG2E)))
    # In two steps: 2**n alone may be out of range where the product is not.
    whole = b.sub(b.bitcast(rounded, e.int_vector), e.integers(0x4B400000))
    half = b.ashr(whole, e.integers(1))
    return b.fmul(b.fmul(power, power_of_two(e, half)), power_of_two(e, b.sub(whole, half)))


_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip


def log(e: Emitter, x: Any) -> Any:
    """``log(x)``: exponent and a polynomial on the mantissa in sqrt(1/2) ... sqrt(2) (Cephes, logf)."""
    b = e.b
    small = b.fcmp_ordered("<", x, e.splat_constant(1.1754944e-38))
    scaled = b.select(small, b.fmul(x, e.splat_constant(2.0**24)), x)
    bits = b.bitcast(scaled, e.int_vector)

    # Counted from sqrt(1/2), so that the mantissa comes out on both sides of 1.
    offset = b.sub(bits, e.integers(0x3F3504F3))
    exponent = b.sitofp(b.ashr(offset, e.integers(23)), e.vector)
    mantissa = b.bitcast(b.add(b.and_(offset, e.integers(0x007FFFFF)), e.integers(0x3F3504F3)), e.vector)
    exponent = b.select(small, b.fsub(exponent, e.splat_constant(24.0)), exponent)
    y = b.fsub(mantissa, e.splat_constant(1.0))
    square = b.fmul(y, y)
    total = b.fmul(b.fmul(polynomial(e, y, _LOG), y), square)
    total = e.fma(exponent, e.splat_constant(-2.12194440e-4), total)
    total = e.fma(square, e.splat_constant(-0.5), total)
    total = e.fma(exponent, e.splat_constant(0.693359375), b.fadd(y, total))
    zero = e.splat_constant(0.0)
    total = b.select(b.fcmp_ordered("==", x, e.splat_constant(_INFINITY)), x, total)
    total = b.select(b.fcmp_ordered("==", x, zero), e.splat_constant(-_INFINITY), total)
    return b.select(b.fcmp_unordered("<", x, zero), e.splat_constant(float("nan")), total)


_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)


def tanh(e: Emitter, x: Any) -> Any:
    """``tanh(x)``: a polynomial near 0, else by the exponential (Cephes, tanhf)."""
    b, size = e.b, absolute(e, x)
    square = b.fmul(x, x)
    near = e.fma(b.fmul(polynomial(e, square, _TANH), square), x, x)
    grown = b.fadd(exp(e, b.fadd(size, size)), e.splat_constant(1.0))
    far = b.fsub(e.splat_constant(1.0), b.fdiv(e.splat_constant(2.0), grown))
    return b.select(b.fcmp_ordered("<", size, e.splat_constant(0.625)), near, with_sign(e, far, x))


_ERF_NEAR = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)
_ERF_FAR = (
    -1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1, -1.28717512e-1,
)  # fmt: skip


def erf(e: Emitter, x: Any) -> Any:
    """``erf(x)``: a polynomial near 0, else 1 - exp of one (coefficients by N. Juffa, 2 units of the last place)."""
    b, size = e.b, clamped(e, absolute(e, x), 0.0, 4.0)
    near = e.fma(polynomial(e, b.fmul(x, x), _ERF_NEAR), x, x)
    exponent = e.fma(polynomial(e, size, _ERF_FAR), size, b.fneg(size))
    far = b.fsub(e.splat_constant(1.0), exp(e, exponent))
    return b.select(b.fcmp_ordered("<", size, e.splat_constant(0.927734375)), near, with_sign(e, far, x))


def rounded(e: Emitter, x: Any) -> Any:
    """The nearest integer, the even one of two: adding 2**23 leaves no room for a fraction."""
    b, size, large = e.b, absolute(e, x), e.splat_constant(2.0**23)
    whole = with_sign(e, b.fsub(b.fadd(size, large), large), x)
    return b.select(b.fcmp_ordered("<", size, large), whole, x)


def floor(e: Emitter, x: Any) -> Any:
    """The largest integer that is not above ``x``."""
    near = rounded(e, x)
    above = e.b.fcmp_ordered(">", near, x)
    return e.b.select(above, e.b.fsub(near, e.splat_constant(1.0)), near)


def _log2_of_size(e: Emitter, x: Any) -> Any:
    """log2 |x| in float64: 2 artanh(s) / ln 2 of the mantissa m, s = (m - 1) / (m + 1), and the exponent."""
    b, wide = e.b, e.typed(F64)

    def doubles(value: float) -> Any:
        return e.all_lanes(F64, value)

    size = absolute(e, x)
    offset = b.sub(b.bitcast(size, e.int_vector), e.integers(0x3F3504F3))
    exponent = b.sitofp(b.ashr(offset, e.integers(23)), wide)
    low = b.and_(offset, e.integers(0x007FFFFF))
    mantissa = b.bitcast(b.add(low, e.integers(0x3F3504F3)), e.vector)
    m = b.fpext(mantissa, wide)
    s = b.fdiv(b.fsub(m, doubles(1.0)), b.fadd(m, doubles(1.0)))
    square = b.fmul(s, s)
    total = doubles(1.0 / 15)
    for odd in (13, 11, 9, 7, 5, 3, 1):
        total = b.fadd(b.fmul(total, square), doubles(1.0 / odd))
    return b.fadd(exponent, b.fmul(b.fmul(total, s), doubles(2 * _LOG2E)))


def _exp2_wide(e: Emitter, t: Any) -> Any:
    """``2**t`` of float64 vectors as float32: the fraction by its Taylor series, the integer into the exponent."""
    b, wide, long = e.b, e.typed(F64), e.typed(I64)

    def doubles(value: float) -> Any:
        return e.all_lanes(F64, value)

    t = b.select(b.fcmp_ordered("<", t, doubles(-160.0)), doubles(-160.0), t)
    t = b.select(b.fcmp_ordered(">", t, doubles(130.0)), doubles(130.0), t)
    magic = doubles(1.5 * 2.0**52)
    rounded_t = b.fadd(t, magic)
    fraction = b.fmul(b.fsub(t, b.fsub(rounded_t, magic)), doubles(1 / _LOG2E))
    total = doubles(1.0)
    for k in range(10, 0, -1):
        total = b.fadd(b.fmul(b.fmul(total, fraction), doubles(1.0 / k)), doubles(1.0))
    shift = e.all_lanes(I64, 52)
    bits = b.add(b.bitcast(total, long), b.shl(b.bitcast(rounded_t, long), shift))
    return b.fptrunc(b.bitcast(bits, wide), e.vector)


def power(e: Emitter, x: Any, y: Any) -> Any:
    """``x ** y`` by float64 logarithm and exponential, with C's rules for zero, infinity and negative ``x``."""
    b = e.b
    wide = e.typed(F64)
    zero, one, infinity = (e.splat_constant(k) for k in (0.0, 1.0, _INFINITY))
    result = _exp2_wide(e, b.fmul(b.fpext(y, wide), _log2_of_size(e, x)))
    size = absolute(e, x)
    falls = b.fcmp_ordered("<", y, zero)
    result = b.select(b.fcmp_ordered("==", size, zero), b.select(falls, infinity, zero), result)
    result = b.select(b.fcmp_ordered("==", size, infinity), b.select(falls, zero, infinity), result)
    half = b.fmul(y, e.splat_constant(0.5))
    odd = b.fcmp_ordered("!=", floor(e, half), half)
    unknown = b.select(b.fcmp_ordered("==", size, infinity), result, e.splat_constant(float("nan")))
    of_negative = b.select(b.fcmp_ordered("==", floor(e, y), y), b.select(odd, b.fneg(result), result), unknown)
    result = b.select(b.fcmp_ordered("<", x, zero), of_negative, result)
    result = b.select(b.fcmp_unordered("uno", x, y), e.splat_constant(float("nan")), result)
    return b.select(b.fcmp_ordered("==", y, zero), one, result)
