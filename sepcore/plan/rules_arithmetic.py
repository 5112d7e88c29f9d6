"""Planning rules for functions of one or two elements, with broadcasting, over tensors of any layout."""

from __future__ import annotations

from math import prod

from sepcore.ir.graph import Node
from sepcore.kernels.activation import codes
from sepcore.kernels.spec import KernelSpec
from sepcore.kernels.strided import rows
from sepcore.plan import rules_elementwise
from sepcore.plan.lowering import Lowering, activation_words, float_bits
from sepcore.plan.rules_shape import is_map, new_tensor
from sepcore.plan.strided import copy, fits, function
from sepcore.plan.tensors import FLOAT, View, contiguous

_PARAMETERS = {"clamp": ("lo", "hi"), "leaky_relu": ("slope",), "hardsigmoid": ("alpha", "beta")}
_POWERS = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}


def activation(p: Lowering, node: Node) -> None:
    """An activation that kernels can also apply before a store, standing alone."""
    parameters = [node.attrs[name] for name in _PARAMETERS.get(node.op, ())]
    encoded = codes.encode((node.op, *parameters), p.isa.name)
    assert encoded is not None
    if p.batched or is_map(p, node.inputs[0]):
        rules_elementwise.activation(p, node, activation_words(encoded))
        return
    code, first, second = encoded
    unary_step(p, node, rows.row("activation", p.isa.name), float_bits(first, second), code)


def unary(p: Lowering, node: Node) -> None:
    """tanh, exp, gelu, floor ..."""
    name = "gelu_tanh" if node.op == "gelu" and node.attrs["approximate"] == "tanh" else node.op
    unary_step(p, node, rows.row(name, p.isa.name), float_bits(node.attrs.get("alpha", 0.0), 0.0))


def unary_step(p: Lowering, node: Node, kernel: KernelSpec, parameters: int = 0, code: int = 0) -> None:
    """A function of single elements by ``kernel``, whose operands are those of strided/rows.py."""
    out = new_tensor(p, node.output, node.inputs[0])
    x = _readable(p, p.view(node.inputs[0]), out)
    function(p, kernel, x, out, parameters=parameters, activation=code)


def _readable(p: Lowering, x: View, out: View) -> View:
    """``x``, of the shape of ``out`` or one that broadcasts to it, such that a function's kernel can read it."""
    spread = x.broadcast(out.shape)
    if fits(spread, out):
        return spread
    # In the order of the output's memory: the axis that is dense there is the last here.
    order = sorted(range(len(out.shape)), key=lambda axis: -abs(out.strides[axis]))
    missing = len(out.shape) - len(x.shape)
    order = [axis - missing for axis in order if axis >= missing]
    ordered = x.permuted(order)
    made = contiguous(p.memory(FLOAT * prod(x.shape)), ordered.shape)
    copy(p, ordered, made)
    return made.permuted([order.index(axis) for axis in range(len(order))]).broadcast(out.shape)


def binary(p: Lowering, node: Node) -> None:
    """add, sub, mul, div, pow, maximum, minimum of two values; either may be a constant and may broadcast."""
    if rules_elementwise.is_of_maps(p, node):
        rules_elementwise.binary(p, node)
    elif node.op != "pow" or not _constant_power(p, node):
        _binary(p, node, node.op, p.view(node.inputs[0]), p.view(node.inputs[1]))


def _constant_power(p: Lowering, node: Node) -> bool:
    """Squares and roots have functions of their own."""
    exponent = p.graph.constants.get(node.inputs[1])
    if exponent is None or exponent.size != 1 or p.shape(node.inputs[0]) != p.shape(node.output):
        return False
    number = float(exponent.item())
    if number == 2.0:
        x = p.view(node.inputs[0])
        _binary(p, node, "mul", x, x)
    elif number in _POWERS:
        unary_step(p, node, rows.row(_POWERS[number], p.isa.name))
    else:
        return False
    return True


def prelu(p: Lowering, node: Node) -> None:
    """A slope below zero for each channel, or one for all."""
    x = p.view(node.inputs[0])
    slope = p.view(node.inputs[1])
    behind = max(len(x.shape) - 2, 0)
    spread = slope.reshaped((*slope.shape, *(1,) * behind))
    assert spread is not None
    _binary(p, node, "prelu", x, spread)


def _binary(p: Lowering, node: Node, name: str, x: View, extra: View) -> None:
    out = new_tensor(p, node.output, _leading(p, node))
    function(p, rows.row(name, p.isa.name), _readable(p, x, out), out, _readable(p, extra, out))


def _leading(p: Lowering, node: Node) -> str:
    """The operand whose layout the output takes: a map of its shape before any other map."""
    shape = p.shape(node.output)
    maps = [name for name in node.inputs if is_map(p, name)]
    return next((name for name in maps if p.shape(name) == shape), (maps or node.inputs)[0])
