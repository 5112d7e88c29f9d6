"""The operators of the intermediate graph: the contract between readers, model families, passes and planner.

It must not know who reads or runs a graph. An operator is added as one row in the file of its group.

Layout is PyTorch's: activations (n, c, h, w), weights (oc, ic / groups, kh, kw), float32. An absent optional input
(``?``) is "" or left off the end. Axes may be negative. Both operands of a binary operator have the same dtype: a
reader inserts ``cast``. After :func:`sepcore.ir.infer.specialise` every attribute is present, axes count from 0,
padding is four numbers, shapes are attributes, and flatten, squeeze and unsqueeze are ``reshape``.

==================  =====================================  =============================================================
operator            inputs                                 attributes (= default)
==================  =====================================  =============================================================
conv2d              x, weight, bias?, residual?            strides=(1,1) padding=(0,0,0,0) dilation=(1,1) groups=1
                                                           activation=None
conv_transpose2d    x, weight (ic, oc/groups, kh, kw),     as conv2d, padding in numbers, output_padding=(0,0)
                    bias?
linear              x (..., in), weight (out, in), bias?   activation=None
matmul              a, b                                   numpy's rule
batch_norm          x, scale, bias, mean, var              eps
max_pool2d          x                                      kernel strides=(1,1) padding=(0,0,0,0) dilation=(1,1)
                                                           ceil_mode=False
avg_pool2d          x                                      the same, count_include_pad=True divisor=None
adaptive_avg_pool2d, adaptive_max_pool2d: x                output_size
reduce_mean, reduce_sum, reduce_max, reduce_min: x         axes keepdims=False
softmax, log_softmax, cumsum: x                            axis
relu, silu, hardswish, sigmoid, softplus, mish: x
clamp               x                                      lo=-inf hi=inf (ReLU6 is clamp 0, 6)
leaky_relu          x                                      slope
prelu               x, slope (c or 1)
elu                 x                                      alpha=1
gelu                x                                      approximate="none" | "tanh"
hardsigmoid         x                                      alpha=1/6 beta=0.5: clip(alpha * x + beta, 0, 1)
tanh, exp, log, sqrt, rsqrt, reciprocal, erf, sin, cos, floor, ceil, round (half to even): x
neg, abs, sign: x
add, sub, mul, div, pow, maximum, minimum, mod, floor_div: a, b. Integer div truncates towards zero.
equal, not_equal, less, less_equal, greater, greater_equal: a, b -> bool
logical_and, logical_or: a, b; logical_not: x; where: cond, a, b
concat              x...                                   axis
split               x -> one output per size               axis sizes
slice               x, starts?, ends?                      axes starts ends steps=1 each; bounds are clipped
reshape             x, shape?                              shape (-1: the rest); in the input 0 also keeps x's length
flatten             x                                      start_axis=1 end_axis=-1
squeeze             x                                      axes=None (all); axes not of length one stay
unsqueeze           x                                      axes, of the output
transpose           x                                      perm
expand              x, shape?                              shape (-1 keeps x's length)
pad                 x, pads? (befores, then afters)        pads=((before, after) per axis) mode="constant" | "reflect" |
                                                           "edge" value=0; below 0 cuts (constant mode)
channel_shuffle     x                                      groups
resize              x, size? (y, x)                        output_size=None scales=None mode="nearest" | "bilinear"
                                                           coordinate="half_pixel" | "align_corners" | "asymmetric" |
                                                           "pytorch_half_pixel" nearest_rounding="floor" | "ceil" |
                                                           "round_prefer_floor" | "round_prefer_ceil"
identity, dropout   x
cast                x                                      dtype
shape               x -> int64
gather              x, indices                             axis=0
constant_of_shape   shape                                  value=0 dtype=float32
range               start, limit, delta
==================  =====================================  =============================================================

padding
    (top, left, bottom, right), or "same": ceil(size / stride) outputs, the odd element at the end (TensorFlow), or
    "same_lower": the odd element at the start (ONNX).
activation
    ``act(conv + bias + residual)``, set by passes only: ("relu",), ("clamp", lo, hi), ("leaky_relu", slope),
    ("hardswish",), ("hardsigmoid",) with the default alpha and beta, ("silu",), ("sigmoid",).
ceil_mode, count_include_pad, divisor
    as in PyTorch: the last window starts inside the map or its leading padding; padding beyond that never counts.
resize
    ``output_size`` (or the input ``size``) is the new size, else floor(size * scales); coordinates are computed with
    ``scales`` where they are given, else with the ratio of the sizes.

custom.NAME
    An operator that a user has registered with ``@sepcore.op``: see :mod:`sepcore.ir.ops.custom`.

Multiply-accumulates are counted for convolutions and matrix products only, as the field does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sepcore.ir.graph import Node
from sepcore.ir.ops import (
    activation,
    arithmetic,
    convolution,
    custom,
    layout,
    pooling,
    product,
    reduction,
    resize,
    shape_arithmetic,
)
from sepcore.ir.ops.operator import Operator, node_error

_GROUPS = (convolution, product, pooling, reduction, activation, arithmetic, layout, resize, shape_arithmetic)

OPERATORS: Mapping[str, Operator] = MappingProxyType({row.name: row for group in _GROUPS for row in group.OPERATORS})


def operator_of(node: Node) -> Operator:
    """The row of ``node.op``, one of OPERATORS or a user's; a GraphError where there is none."""
    row = OPERATORS.get(node.op)
    if row is not None:
        return row
    user = custom.find(node.op)
    if user is None:
        raise node_error(node, "op", custom.advice(node.op) or "one of the graph's operators", repr(node.op))
    return user.operator
