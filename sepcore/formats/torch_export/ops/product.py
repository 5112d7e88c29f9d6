"""Matrix products, and attention, which is made of them.

It must not know how a product is computed fast.
"""

from __future__ import annotations

import math

from sepcore.formats.einsum import einsum
from sepcore.formats.torch_export.call import BOOL, AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.lengths import axis_length
from sepcore.formats.torch_export.ops.row import Row, Rows


def _linear(call: AtenCall) -> Value:
    x, weight = call.operand("input"), call.operand("weight")
    if weight.rank != 2:
        raise UnsupportedError(f"a weight of {weight.rank} axes")
    return call.emit("linear", x, weight, call.optional("bias"))


def _product(a: str, b: str) -> Row:
    return lambda call: call.emit("matmul", call.operand(a), call.operand(b))


def _product_and_sum(a: str, b: str) -> Row:
    """beta * self + alpha * (a @ b)."""

    def row(call: AtenCall) -> Value:
        addend: Value = call.operand("self")
        product: Value = call.emit("matmul", call.operand(a), call.operand(b))
        alpha, beta = call.number("alpha", 1), call.number("beta", 1)
        if alpha != 1:
            product = call.emit("mul", product, call.constant(alpha, call.output.dtype))
        if beta != 1:
            addend = call.emit("mul", addend, call.constant(beta, call.output.dtype))
        return call.emit("add", product, addend)

    return row


def _attention(call: AtenCall) -> tuple[Value, ...]:
    """softmax(query @ key^T * scale + mask) @ value. Source: Vaswani et al. 2017, equation 1."""
    query, key, value = (call.operand(name) for name in ("query", "key", "value"))
    if call.flag("is_causal") or call.number("dropout_p", 0.0) or call.flag("enable_gqa"):
        raise UnsupportedError("causal, grouped or training attention")
    if min(query.rank, key.rank) < 2:
        raise call.error("arguments", "at least two axes (..., positions, features)", f"{query.rank} and {key.rank}")
    perm = (*range(key.rank - 2), key.rank - 1, key.rank - 2)
    scaled = call.emit("mul", query, _scale(call, query))
    scores = call.emit("matmul", scaled, call.emit("transpose", key, perm=perm))
    mask = call.optional("attn_mask")
    if mask is not None:
        scores = call.emit("add", scores, _additive(call, mask, query))
    return (call.emit("matmul", call.emit("softmax", scores, axis=-1), value),)


def _scale(call: AtenCall, query: Operand) -> str:
    """The scale that is given, else 1 / sqrt(features)."""
    if call.given("scale"):
        return call.constant(call.number("scale"), query.dtype)
    features = axis_length(call, query, query.rank - 1)
    if isinstance(features, int):
        return call.constant(1 / math.sqrt(max(features, 1)), query.dtype)
    return call.emit("rsqrt", call.emit("cast", features, dtype=query.dtype))


def _additive(call: AtenCall, mask: Operand, like: Operand) -> Value:
    """A mask of truth values as 0 where it is true, and minus infinity elsewhere."""
    if mask.dtype != BOOL:
        return call.cast(mask, like.dtype)
    zero, least = call.constant(0.0, like.dtype), call.constant(-math.inf, like.dtype)
    return call.emit("where", mask, zero, least)


def _einsum(call: AtenCall) -> Value:
    operands = [operand for operand in call.operands("tensors") if operand is not None]
    values: list[Value] = [call.cast(operand, call.output.dtype) for operand in operands]
    try:
        return einsum(call.emit, call.text("equation"), values, [operand.shape for operand in operands])
    except ValueError as error:
        raise UnsupportedError(str(error)) from None


OPERATORS: Rows = {
    "aten.linear.default": _linear,
    "aten.matmul.default": _product("self", "other"),
    "aten.mm.default": _product("self", "mat2"),
    "aten.bmm.default": _product("self", "mat2"),
    "aten.einsum.default": _einsum,
    "aten.addmm.default": _product_and_sum("mat1", "mat2"),
    "aten.baddbmm.default": _product_and_sum("batch1", "batch2"),
    "aten.scaled_dot_product_attention.default": _attention,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": _attention,
}
