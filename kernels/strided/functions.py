"""Functions of single elements that stand alone, by name: their vector code.

It must not know steps. The activations that kernels apply before their store are not among them: every epilogue lists
those (``activation/codes.py``), and would grow with each function here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sepcore.kernels.emit import Emitter
from sepcore.kernels.strided import mathematics as m

Unary = Callable[[Emitter, Any, Any, Any], Any]
"""From an emitter, ``x`` and the step's two parameters, all vectors."""

Binary = Callable[[Emitter, Any, Any], Any]


def _ceil(e: Emitter, x: Any) -> Any:
    near = m.rounded(e, x)
    return e.b.select(e.b.fcmp_ordered("<", near, x), e.b.fadd(near, e.splat_constant(1.0)), near)


def _sign(e: Emitter, x: Any) -> Any:
    zero = e.splat_constant(0.0)
    below = e.b.select(e.b.fcmp_ordered("<", x, zero), e.splat_constant(-1.0), x)
    return e.b.select(e.b.fcmp_ordered(">", x, zero), e.splat_constant(1.0), below)


def _sqrt(e: Emitter, x: Any) -> Any:
    return e.llvm("sqrt", x)


def _reciprocal(e: Emitter, x: Any) -> Any:
    return e.b.fdiv(e.splat_constant(1.0), x)


def _elu(e: Emitter, x: Any, alpha: Any) -> Any:
    below = e.b.fmul(alpha, e.b.fsub(m.exp(e, x), e.splat_constant(1.0)))
    return e.b.select(e.b.fcmp_ordered(">=", x, e.splat_constant(0.0)), x, below)


def _half_of_one_plus(e: Emitter, x: Any, bent: Any) -> Any:
    return e.b.fmul(e.b.fmul(x, e.splat_constant(0.5)), e.b.fadd(bent, e.splat_constant(1.0)))


def _gelu(e: Emitter, x: Any) -> Any:
    """x (1 + erf(x / sqrt 2)) / 2."""
    return _half_of_one_plus(e, x, m.erf(e, e.b.fmul(x, e.splat_constant(0.7071067811865476))))


def _gelu_tanh(e: Emitter, x: Any) -> Any:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2."""
    cubic = e.fma(e.b.fmul(x, x), e.splat_constant(0.044715), e.splat_constant(1.0))
    argument = e.b.fmul(e.b.fmul(x, e.splat_constant(0.7978845608028654)), cubic)
    return _half_of_one_plus(e, x, m.tanh(e, argument))


def _softplus(e: Emitter, x: Any) -> Any:
    """log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    grown = e.b.fadd(m.exp(e, e.b.fneg(m.absolute(e, x))), e.splat_constant(1.0))
    return e.b.fadd(e.maximum(e.splat_constant(0.0), x), m.log(e, grown))


def _mish(e: Emitter, x: Any) -> Any:
    """x tanh(log(1 + exp(x))) = x n / (n + 2) with n = w (w + 2), w = exp(x)."""
    w = m.exp(e, e.minimum(e.splat_constant(20.0), x))
    n = e.b.fmul(w, e.b.fadd(w, e.splat_constant(2.0)))
    return e.b.fmul(x, e.b.fdiv(n, e.b.fadd(n, e.splat_constant(2.0))))


def _plain(function: Callable[[Emitter, Any], Any]) -> Unary:
    return lambda e, x, p, q: function(e, x)


UNARY: Mapping[str, Unary] = {
    **{
        name: _plain(function)
        for name, function in {
            "tanh": m.tanh,
            "exp": m.exp,
            "log": m.log,
            "erf": m.erf,
            "sqrt": _sqrt,
            "rsqrt": lambda e, x: _reciprocal(e, _sqrt(e, x)),
            "reciprocal": _reciprocal,
            "floor": m.floor,
            "ceil": _ceil,
            "round": m.rounded,
            "neg": lambda e, x: e.b.fneg(x),
            "abs": m.absolute,
            "sign": _sign,
            "gelu": _gelu,
            "gelu_tanh": _gelu_tanh,
            "softplus": _softplus,
            "mish": _mish,
        }.items()
    },
    "elu": lambda e, x, p, q: _elu(e, x, p),
}


def larger(e: Emitter, x: Any, y: Any) -> Any:
    """The larger of two, NaN where either is."""
    takes_y = e.b.or_(e.b.fcmp_ordered(">", y, x), e.b.fcmp_unordered("uno", y, y))
    return e.b.select(takes_y, y, x)


def smaller(e: Emitter, x: Any, y: Any) -> Any:
    """The smaller of two, NaN where either is."""
    takes_y = e.b.or_(e.b.fcmp_ordered("<", y, x), e.b.fcmp_unordered("uno", y, y))
    return e.b.select(takes_y, y, x)


def _prelu(e: Emitter, x: Any, slope: Any) -> Any:
    return e.b.select(e.b.fcmp_ordered("<", x, e.splat_constant(0.0)), e.b.fmul(x, slope), x)


BINARY: Mapping[str, Binary] = {
    "add": lambda e, x, y: e.b.fadd(x, y),
    "sub": lambda e, x, y: e.b.fsub(x, y),
    "mul": lambda e, x, y: e.b.fmul(x, y),
    "div": lambda e, x, y: e.b.fdiv(x, y),
    "pow": m.power,
    "maximum": larger,
    "minimum": smaller,
    "prelu": _prelu,
}
