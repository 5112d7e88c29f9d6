"""Reductions over axes.

It must not know in which order a kernel adds.
"""

from __future__ import annotations

from sepcore.formats.torch_export.call import BOOL, AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.arithmetic import operand_or_number
from sepcore.formats.torch_export.ops.lengths import product_of_lengths
from sepcore.formats.torch_export.ops.row import Row, Rows


def _over(call: AtenCall, x: Value, rank: int, op: str, *, keep: bool | None = None) -> str:
    """Reduce over the axes ``dim``; over all where none are named. A tensor without axes is its own reduction."""
    axes = call.axes("dim", rank) if rank else ()
    keep = call.flag("keepdim") if keep is None else keep
    return call.emit(op, x, axes=axes, keepdims=keep) if axes else call.emit("identity", x)


def _reduced(op: str) -> Row:
    def row(call: AtenCall) -> tuple[Value, ...]:
        x = call.operand("self")
        return (_over(call, call.cast(x, call.output.dtype), x.rank, op),)

    return row


def _truth(op: str) -> Row:
    """Whether any (the maximum), or all (the minimum) of the elements are true."""

    def row(call: AtenCall) -> Value:
        x = call.operand("self")
        return _over(call, call.cast(x, BOOL), x.rank, op)

    return row


def _mean_and_variance(call: AtenCall, x: Operand) -> tuple[str, str]:
    """The mean, with its axes, and the sum of the squared deviations from it over their number less the correction."""
    x_cast = call.cast(x, call.output.dtype)
    mean = _over(call, x_cast, x.rank, "reduce_mean", keep=True)
    centred = call.emit("sub", x_cast, mean)
    total = _over(call, call.emit("mul", centred, centred), x.rank, "reduce_sum")
    correction = call.number("correction", int(call.flag("unbiased", True)))
    count = product_of_lengths(call, x, call.axes("dim", x.rank))
    if isinstance(count, int):
        if count <= correction:
            raise UnsupportedError(f"a variance of {count} elements, less a correction of {correction}")
        return mean, call.emit("div", total, call.constant(count - correction, call.output.dtype))
    number = call.emit("cast", count, dtype=call.output.dtype)
    return mean, call.emit("div", total, call.emit("sub", number, call.constant(correction, call.output.dtype)))


def _variance(call: AtenCall) -> Value:
    return _mean_and_variance(call, call.operand("self"))[1]


def _deviation(call: AtenCall) -> Value:
    return call.emit("sqrt", _variance(call))


def _variance_and_mean(call: AtenCall) -> tuple[Value, Value]:
    x = call.operand("self")
    mean, variance = _mean_and_variance(call, x)
    if not call.flag("keepdim"):
        mean = call.emit("squeeze", mean, axes=call.axes("dim", x.rank))
    return variance, mean


def _norm(call: AtenCall) -> Value:
    """The sum of the magnitudes (order 1), or the root of the sum of the squares (order 2)."""
    x = call.operand("self")
    order = operand_or_number(call, "ord" if call.given("ord") else "p") if call.given("ord") or call.given("p") else 2
    if order == 1:
        return _over(call, call.emit("abs", x), x.rank, "reduce_sum")
    if order == 2:
        return call.emit("sqrt", _over(call, call.emit("mul", x, x), x.rank, "reduce_sum"))
    raise UnsupportedError(f"a norm of order {order}")


def _cumsum(call: AtenCall) -> Value:
    x = call.operand("self")
    if x.rank == 0:
        return call.emit("identity", call.cast(x, call.output.dtype))
    return call.emit("cumsum", call.cast(x, call.output.dtype), axis=call.axis("dim", x.rank))


OPERATORS: Rows = {
    "aten.mean.default": _reduced("reduce_mean"),
    "aten.mean.dim": _reduced("reduce_mean"),
    "aten.sum.default": _reduced("reduce_sum"),
    "aten.sum.dim_IntList": _reduced("reduce_sum"),
    "aten.amax.default": _reduced("reduce_max"),
    "aten.amin.default": _reduced("reduce_min"),
    "aten.max.default": _reduced("reduce_max"),
    "aten.min.default": _reduced("reduce_min"),
    "aten.max.dim": _reduced("reduce_max"),
    "aten.min.dim": _reduced("reduce_min"),
    "aten.any.default": _truth("reduce_max"),
    "aten.any.dim": _truth("reduce_max"),
    "aten.any.dims": _truth("reduce_max"),
    "aten.all.default": _truth("reduce_min"),
    "aten.all.dim": _truth("reduce_min"),
    "aten.all.dims": _truth("reduce_min"),
    "aten.var.default": _variance,
    "aten.var.dim": _variance,
    "aten.var.correction": _variance,
    "aten.std.default": _deviation,
    "aten.std.dim": _deviation,
    "aten.std.correction": _deviation,
    "aten.var_mean.default": _variance_and_mean,
    "aten.var_mean.dim": _variance_and_mean,
    "aten.var_mean.correction": _variance_and_mean,
    "aten.cumsum.default": _cumsum,
    "aten.linalg_vector_norm.default": _norm,
    "aten.norm.Scalar": _norm,
    "aten.norm.ScalarOpt_dim": _norm,
}
