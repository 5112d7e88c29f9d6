"""Matrix products.

It must not know how a product is computed. One with a constant matrix becomes ``linear``, whose weight is (out, in).
"""

from __future__ import annotations

from sepcore.formats.einsum import einsum
from sepcore.formats.onnx.ops.row import MANY, Row
from sepcore.formats.onnx.step import Operand, Step, UnsupportedError


def _transposed(step: Step, matrix: Operand) -> Operand:
    return step.emit("transpose", matrix, perm=(1, 0))


def _scaled(step: Step, operand: Operand, factor: float) -> Operand:
    return operand if factor == 1 else step.emit("mul", operand, step.constant(factor, operand.dtype))


def _gemm(step: Step) -> Operand:
    """alpha * a' @ b' + beta * c, where ' transposes if asked to."""
    a, b, c = step.floating(0), step.input(1), step.optional(2)
    for position, matrix in enumerate((a, b)):
        if matrix.rank != 2:
            raise step.error(f"input {position}", "two axes", str(matrix.rank))
    alpha, beta = step.number("alpha", 1.0), step.number("beta", 1.0)
    transposed = step.flag("transB")
    if step.flag("transA"):
        a = _transposed(step, a)
    if c is not None:
        c = _scaled(step, c, beta)
    if b.content is None:
        product = _scaled(step, step.emit("matmul", a, _transposed(step, b) if transposed else b), alpha)
        return product if c is None else step.emit("add", product, c)
    weight = _scaled(step, b if transposed else _transposed(step, b), alpha)
    features = weight.shape[0]
    if c is not None and c.content is not None and c.shape in ((features,), (1, features)):
        return step.emit("linear", a, weight, c if c.rank == 1 else step.emit("squeeze", c, axes=(0,)))
    product = step.emit("linear", a, weight)
    return product if c is None else step.emit("add", product, c)


def _matmul(step: Step) -> Operand:
    a, b = step.input(0), step.input(1)
    for position, operand in enumerate((a, b)):
        if operand.rank == 0:
            raise step.error(f"input {position}", "at least one axis", "none")
    if b.content is not None and b.rank == 2:
        return step.emit("linear", a, _transposed(step, b))
    return step.emit("matmul", a, b)


def _einsum(step: Step) -> Operand:
    operands = step.inputs()
    try:
        return einsum(step.emit, step.text("equation"), operands, [operand.shape for operand in operands])
    except ValueError as error:
        raise UnsupportedError(str(error)) from None


OPERATORS = (Row("Gemm", _gemm, 2, 3), Row("MatMul", _matmul, 2, 2), Row("Einsum", _einsum, 1, MANY))
