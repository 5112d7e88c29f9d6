"""The reference interpreter is held against PyTorch, operator by operator: PyTorch says what each one means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sepcore.ir.graph import GraphBuilder
from sepcore.ir.infer import infer_shapes, specialise
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify

pytestmark = pytest.mark.torch

Tensor = torch.Tensor


def same(op: str, arrays: list[np.ndarray], expected: Tensor | tuple[Tensor, ...], **attrs: Any) -> None:
    """Assert that ``op`` gives what PyTorch gives: on float arrays as inputs, also after specialisation."""
    expected = expected if isinstance(expected, tuple) else (expected,)
    builder = GraphBuilder(op)
    names = [builder.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    graph = builder.build(builder.add_multi(op, names, len(expected), **attrs))
    verify(graph)
    feeds = dict(zip(names, arrays))
    shapes = {name: a.shape for name, a in feeds.items()}
    special = specialise(graph, shapes)
    verify(special)
    values = infer_shapes(graph, shapes)
    for one in (graph, special):
        for name, found, wanted in zip(one.outputs, run_reference(one, feeds), expected):
            assert values[name].shape == found.shape == tuple(wanted.shape)
            assert values[name].dtype == found.dtype == wanted.numpy().dtype
            np.testing.assert_allclose(found, wanted.numpy(), rtol=2e-5, atol=2e-6)


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(noise(*shape)) + np.float32(0.1)


T = torch.from_numpy


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3)])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [((1, 1), (0, 0), (1, 1)), ((2, 1), (2, 1), (1, 2))])
def test_conv2d(groups: int, kernel: tuple[int, int], stride: Any, padding: Any, dilation: Any) -> None:
    x, w, b = noise(2, 4, 9, 8), noise(8, 4 // groups, *kernel, seed=1), noise(8, seed=2)
    expected = F.conv2d(T(x), T(w), T(b), stride, padding, dilation, groups)
    same(
        "conv2d", [x, w, b], expected, strides=stride, padding=padding * 2, dilation=dilation, groups=groups
    )  # fmt: skip


def test_conv2d_with_asymmetric_padding_residual_and_activation() -> None:
    x, w, b = noise(2, 3, 7, 6), noise(5, 3, 3, 3, seed=1), noise(5, seed=2)
    total = F.conv2d(F.pad(T(x), (2, 0, 1, 3)), T(w), T(b), 2)
    r = noise(*total.shape, seed=3)
    same(
        "conv2d", [x, w, b, r], F.leaky_relu(total + T(r), 0.2),
        strides=(2, 2), padding=(1, 2, 3, 0), activation=("leaky_relu", 0.2),
    )  # fmt: skip


ACTIVATIONS: list[tuple[str, dict[str, Any], Callable[[Tensor], Tensor]]] = [
    ("relu", {}, F.relu),
    ("clamp", {"lo": 0.0, "hi": 6.0}, F.relu6),
    ("clamp", {"lo": -0.5}, lambda x: torch.clamp(x, min=-0.5)),
    ("clamp", {"hi": 0.5}, lambda x: torch.clamp(x, max=0.5)),
    ("leaky_relu", {"slope": 0.1}, lambda x: F.leaky_relu(x, 0.1)),
    ("leaky_relu", {"slope": 1.5}, lambda x: F.leaky_relu(x, 1.5)),
    ("elu", {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    ("silu", {}, F.silu),
    ("gelu", {}, F.gelu),
    ("gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    ("hardswish", {}, F.hardswish),
    ("hardsigmoid", {}, F.hardsigmoid),
    ("sigmoid", {}, torch.sigmoid),
    ("softplus", {}, F.softplus),
    ("mish", {}, F.mish),
    ("tanh", {}, torch.tanh),
    ("exp", {}, torch.exp),
    ("erf", {}, torch.erf),
    ("floor", {}, torch.floor),
    ("ceil", {}, torch.ceil),
    ("round", {}, torch.round),
    ("neg", {}, torch.neg),
    ("abs", {}, torch.abs),
    ("sign", {}, torch.sign),
    ("reciprocal", {}, torch.reciprocal),
    ("identity", {}, lambda x: x),
    ("dropout", {}, lambda x: F.dropout(x, 0.5, training=False)),
]


@pytest.mark.parametrize(("op", "attrs", "function"), ACTIVATIONS)
def test_elementwise(op: str, attrs: dict[str, Any], function: Callable[[Tensor], Tensor]) -> None:
    edges = np.array([-100, -6, -3, -2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, 3, 6, 88], np.float32)
    x = np.concatenate([noise(200, scale=4), edges])
    same(op, [x], function(T(x)), **attrs)


@pytest.mark.parametrize("op", ["log", "sqrt", "rsqrt"])
def test_elementwise_of_positive_numbers(op: str) -> None:
    x = positive(50)
    same(op, [x], getattr(torch, op)(T(x)))


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 5)])
@pytest.mark.parametrize("slopes", [1, 5])
def test_prelu(shape: tuple[int, ...], slopes: int) -> None:
    x, slope = noise(*shape), noise(slopes, seed=1)
    same("prelu", [x, slope], F.prelu(T(x), T(slope)))


@pytest.mark.parametrize(
    "activation", [("relu",), ("clamp", 0.0, 6.0), ("hardswish",), ("hardsigmoid",), ("silu",), ("sigmoid",)]
)
def test_fused_activations(activation: tuple[Any, ...]) -> None:
    functions = {"relu": F.relu, "clamp": F.relu6, "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid,
                 "silu": F.silu, "sigmoid": torch.sigmoid}  # fmt: skip
    function = functions[activation[0]]
    x, w = noise(2, 6, scale=4), noise(3, 6, seed=1)
    same("linear", [x, w], function(F.linear(T(x), T(w))), activation=activation)
    x, w = noise(1, 6, 3, 3, scale=4), noise(6, 2, 2, 2, seed=1)
    same("conv_transpose2d", [x, w], function(F.conv_transpose2d(T(x), T(w))), activation=activation)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation"),
    [((1, 1), (0, 0), (0, 0), (1, 1)), ((2, 3), (1, 2), (1, 0), (1, 1)), ((2, 2), (0, 1), (1, 1), (2, 1))],
)
def test_conv_transpose2d(groups: int, stride: Any, padding: Any, output_padding: Any, dilation: Any) -> None:
    x, w, b = noise(2, 4, 5, 6), noise(4, 6 // groups, 3, 4, seed=1), noise(6, seed=2)
    expected = F.conv_transpose2d(T(x), T(w), T(b), stride, padding, output_padding, groups, dilation)
    same(
        "conv_transpose2d", [x, w, b], expected,
        strides=stride, padding=padding * 2, output_padding=output_padding, groups=groups, dilation=dilation,
    )  # fmt: skip


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_linear(leading: tuple[int, ...]) -> None:
    x, w, b = noise(*leading, 7), noise(4, 7, seed=1), noise(4, seed=2)
    same("linear", [x, w, b], F.linear(T(x), T(w), T(b)))


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 1, 3, 4), (5, 4, 2))]
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = noise(*a), noise(*b, seed=1)
    same("matmul", [x, y], torch.matmul(T(x), T(y)))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (2, 4, 3, 3)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    x, scale, bias, mean = noise(*shape), noise(4, seed=1), noise(4, seed=2), noise(4, seed=3)
    var = positive(4)
    expected = F.batch_norm(T(x), T(mean), T(var), T(scale), T(bias), eps=1e-3)
    same("batch_norm", [x, scale, bias, mean, var], expected, eps=1e-3)


POOLS = [
    ((7, 9), (3, 3), (2, 2), (1, 1), False),
    ((7, 9), (3, 3), (2, 2), (1, 1), True),
    ((6, 8), (2, 3), (2, 3), (1, 0), True),
    ((6, 6), (2, 2), (3, 3), (1, 1), True),
    ((5, 4), (5, 4), (1, 1), (0, 0), False),
    ((8, 8), (3, 2), (1, 2), (0, 0), True),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "ceil_mode"), POOLS)
def test_pools(size: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
    x = noise(2, 3, *size)
    attrs = {"kernel": kernel, "strides": stride, "padding": padding * 2, "ceil_mode": ceil_mode}
    same("max_pool2d", [x], F.max_pool2d(T(x), kernel, stride, padding, ceil_mode=ceil_mode), **attrs)
    for count in (False, True):
        expected = F.avg_pool2d(T(x), kernel, stride, padding, ceil_mode, count)
        same("avg_pool2d", [x], expected, count_include_pad=count, **attrs)
        expected = F.avg_pool2d(T(x), kernel, stride, padding, ceil_mode, count, 5)
        same("avg_pool2d", [x], expected, count_include_pad=count, divisor=5, **attrs)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_dilated_max_pool(ceil_mode: bool) -> None:
    x = noise(2, 3, 10, 9)
    expected = F.max_pool2d(T(x), (3, 2), 2, 1, (2, 3), ceil_mode)
    same(
        "max_pool2d", [x], expected,
        kernel=(3, 2), strides=(2, 2), padding=(1, 1, 1, 1), dilation=(2, 3), ceil_mode=ceil_mode,
    )  # fmt: skip


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 3), (8, 6), (11, 13)])
def test_adaptive_pools(size: tuple[int, int]) -> None:
    x = noise(2, 3, 8, 6)
    same("adaptive_avg_pool2d", [x], F.adaptive_avg_pool2d(T(x), size), output_size=size)
    same("adaptive_max_pool2d", [x], F.adaptive_max_pool2d(T(x), size), output_size=size)


@pytest.mark.parametrize("axes", [(2, 3), (-1,), (0, 2), (3, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(axes: tuple[int, ...], keepdims: bool) -> None:
    x = noise(2, 3, 4, 5)
    for op, function in [("mean", torch.mean), ("sum", torch.sum), ("max", torch.amax), ("min", torch.amin)]:
        same(f"reduce_{op}", [x], function(T(x), axes, keepdims), axes=axes, keepdims=keepdims)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis: int) -> None:
    x = noise(3, 4, 5, scale=30)
    same("softmax", [x], F.softmax(T(x), axis), axis=axis)
    same("log_softmax", [x], F.log_softmax(T(x), axis), axis=axis)


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "maximum", "minimum"])
@pytest.mark.parametrize("b", [(2, 3, 4), (3, 1), (), (4,)])
def test_binary(op: str, b: tuple[int, ...]) -> None:
    x, y = noise(2, 3, 4), np.asarray(noise(*b, seed=1))
    same(op, [x, y], getattr(torch, op)(T(x), torch.tensor(y)))


def test_pow_mod_and_floor_div() -> None:
    x, y = positive(20), noise(20, seed=1)
    same("pow", [x, y], torch.pow(T(x), T(y)))
    x = noise(20, scale=5)
    y = np.where(np.abs(y) < 0.2, 1, y).astype(np.float32)
    same("mod", [x, y], torch.remainder(T(x), T(y)))
    same("floor_div", [x, y], torch.floor_divide(T(x), T(y)))


def test_integer_arithmetic() -> None:
    a, b = np.array([7, -7, 7, -7, 0]), np.array([2, 2, -2, -2, 3])
    same("div", [a, b], torch.div(T(a), T(b), rounding_mode="trunc"))
    same("floor_div", [a, b], torch.floor_divide(T(a), T(b)))
    same("mod", [a, b], torch.remainder(T(a), T(b)))
    same("pow", [a, np.abs(b)], torch.pow(T(a), T(np.abs(b))))
    same("clamp", [a], torch.clamp(T(a), -1, 1), lo=-1, hi=1)


@pytest.mark.parametrize(
    ("op", "function"),
    [("equal", "eq"), ("not_equal", "ne"), ("less", "lt"), ("less_equal", "le"), ("greater", "gt"),
     ("greater_equal", "ge")],
)  # fmt: skip
def test_comparisons_and_where(op: str, function: str) -> None:
    a, b = np.array([[1, 2, 3]]), np.array([[2], [3]])
    condition = getattr(torch, function)(T(a), T(b))
    same(op, [a, b], condition)
    x, y = noise(2, 3), noise(3)
    same("where", [condition.numpy(), x, y], torch.where(condition, T(x), T(y)))
    same("logical_not", [condition.numpy()], ~condition)
    same("logical_and", [condition.numpy(), np.array(True)], condition)
    same("logical_or", [condition.numpy(), np.array(False)], condition)


def test_joining_and_cutting() -> None:
    x, y = noise(2, 3, 4), noise(2, 5, 4, seed=1)
    same("concat", [x, y], torch.cat([T(x), T(y)], 1), axis=-2)
    same("split", [y], torch.split(T(y), [1, 3, 1], 1), axis=1, sizes=(1, 3, 1))
    same("slice", [y], T(y)[:, 1:-1:2, -3:], axes=(1, 2), starts=(1, -3), ends=(-1, 2**63 - 1), steps=(2, 1))
    backwards = {"axes": (1, -1), "starts": (-1, 3), "ends": (-(2**63), 0), "steps": (-1, -2)}
    same("slice", [y], T(y[:, ::-1, 3:0:-2].copy()), **backwards)
    same("gather", [y, np.array([[0, -1], [2, 2]])], T(y)[:, [[0, -1], [2, 2]]], axis=1)


def test_shapes() -> None:
    x = noise(2, 3, 1, 4)
    t = T(x)
    same("reshape", [x], t.reshape(6, -1), shape=(6, -1))
    same("flatten", [x], t.flatten(1))
    same("flatten", [x], t.flatten(-3, 2), start_axis=-3, end_axis=2)
    same("squeeze", [x], t.squeeze())
    same("squeeze", [x], t.squeeze((2, 1)), axes=(2, 1))
    same("unsqueeze", [x], t.unsqueeze(-1).unsqueeze(0), axes=(-1, 0))
    same("transpose", [x], t.permute(0, 2, 3, 1), perm=(0, -2, 3, 1))
    same("expand", [x], t.expand(5, -1, 3, 7, 4), shape=(5, -1, 3, 7, 4))
    same("shape", [x], torch.tensor(x.shape))
    same("channel_shuffle", [noise(2, 6, 3, 3)], F.channel_shuffle(T(noise(2, 6, 3, 3)), 3), groups=3)


@pytest.mark.parametrize("pads", [(1, 2, 0, 3), (-1, 2, 0, -2)])
def test_constant_pad(pads: tuple[int, int, int, int]) -> None:
    x = noise(2, 3, 4, 5)
    pairs = ((0, 0), (0, 0), pads[2:], pads[:2])
    same("pad", [x], F.pad(T(x), pads, value=0.5), pads=pairs, value=0.5)


@pytest.mark.parametrize(("mode", "name"), [("reflect", "reflect"), ("edge", "replicate")])
def test_pad_from_the_map(mode: str, name: str) -> None:
    x = noise(2, 3, 4, 5)
    pairs = ((0, 0), (0, 0), (2, 3), (1, 0))
    same("pad", [x], F.pad(T(x), (1, 0, 2, 3), mode=name), pads=pairs, mode=mode)


@pytest.mark.parametrize("size", [(1, 1), (5, 14), (10, 14), (3, 20), (13, 6)])
def test_resize_to_a_size(size: tuple[int, int]) -> None:
    x = noise(2, 3, 5, 7)
    t = T(x)
    same("resize", [x], F.interpolate(t, size), output_size=size, mode="nearest", coordinate="asymmetric")
    same(
        "resize", [x], F.interpolate(t, size, mode="nearest-exact"),
        output_size=size, mode="nearest", coordinate="half_pixel", nearest_rounding="round_prefer_ceil",
    )  # fmt: skip
    for align, coordinate in ((True, "align_corners"), (False, "half_pixel")):
        expected = F.interpolate(t, size, mode="bilinear", align_corners=align)
        same("resize", [x], expected, output_size=size, mode="bilinear", coordinate=coordinate)


@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.5, 2.7), (0.5, 0.4)])
def test_resize_by_a_scale(scales: tuple[float, float]) -> None:
    x = noise(2, 3, 6, 7)
    expected = F.interpolate(T(x), scale_factor=scales, mode="bilinear", align_corners=False)
    same("resize", [x], expected, scales=scales, mode="bilinear", coordinate="half_pixel")
    expected = F.interpolate(T(x), scale_factor=scales, mode="nearest")
    same("resize", [x], expected, scales=scales, mode="nearest", coordinate="asymmetric")


def test_cast() -> None:
    x = np.array([-1.7, -0.2, 0.0, 0.9, 2.5], np.float32)
    same("cast", [x], T(x).to(torch.int64), dtype="int64")
    same("cast", [x], T(x).to(torch.bool), dtype=np.bool_)
    same("cast", [np.arange(4)], torch.arange(4).to(torch.float32), dtype=np.float32)


def test_infinities_and_nan_pass_as_in_pytorch() -> None:
    x = np.array([-math.inf, math.inf, math.nan], np.float32)
    for op in ("relu", "hardsigmoid", "sigmoid", "tanh", "silu"):
        same(op, [x], getattr(F, op)(T(x)) if op != "tanh" else torch.tanh(T(x)))
    same("clamp", [x], F.relu6(T(x)), lo=0.0, hi=6.0)
