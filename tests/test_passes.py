"""Every pass: what it makes of a pattern, and that the graph means what it meant, by the reference interpreter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from sepcore.errors import GraphError
from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.infer import infer_shapes, specialise
from sepcore.ir.ops import operator_of
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify
from sepcore.passes import PASSES, SHAPE_PASSES, run_passes, run_shape_passes
from sepcore.passes.canonicalise_linear import canonicalise_linear
from sepcore.passes.eliminate_identity import eliminate_identity
from sepcore.passes.eliminate_unchanged import eliminate_unchanged
from sepcore.passes.fold_batch_norm import fold_batch_norm
from sepcore.passes.fold_constants import fold_constants
from sepcore.passes.fold_pad import fold_pad
from sepcore.passes.fuse_activation import fuse_activation
from sepcore.passes.fuse_channel_shuffle import fuse_channel_shuffle
from sepcore.passes.fuse_clamp import fuse_clamp
from sepcore.passes.fuse_gelu import fuse_gelu
from sepcore.passes.fuse_hardswish import fuse_hardswish
from sepcore.passes.fuse_residual import fuse_residual
from sepcore.passes.fuse_silu import fuse_silu
from sepcore.passes.lower_batch_norm import lower_batch_norm
from sepcore.passes.lower_where import lower_where
from sepcore.passes.merge_branches import merge_branches
from sepcore.passes.merge_scale import merge_scale
from sepcore.passes.open_batch import open_batch
from sepcore.passes.separate_maps import MOST_MAPS, separate_maps

Pass = Callable[[Graph], Graph]
SIZES = ((2, 4, 7, 9), (1, 4, 6, 5))


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) * scale, np.float32)


class Net(GraphBuilder):
    """A builder with an input of 4 channels and constants without ceremony."""

    def __init__(self, shape: Sequence[int | str] = ("n", 4, "h", "w")) -> None:
        super().__init__("net")
        self.x = self.input("x", shape)
        self._seed = 0

    def number(self, value: float) -> str:
        return self.constant("number", np.asarray(value, np.float32))

    def noise(self, *shape: int) -> str:
        self._seed += 1
        return self.constant("noise", noise(*shape, seed=self._seed))

    def conv(self, x: str, oc: int = 4, ic: int = 4, k: int = 1, bias: bool = True, **attrs: Any) -> str:
        inputs = [x, self.noise(oc, ic // attrs.get("groups", 1), k, k)]
        return self.add("conv2d", [*inputs, self.noise(oc)] if bias else inputs, **attrs)

    def batch_norm(self, x: str, c: int = 4, eps: float = 1e-3) -> str:
        self._seed += 1
        var = self.constant("var", np.abs(noise(c, seed=self._seed)) + np.float32(0.1))
        return self.add("batch_norm", [x, self.noise(c), self.noise(c), self.noise(c), var], eps=eps)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def assert_same_meaning(before: Graph, after: Graph, sizes: Sequence[tuple[int, ...]] = SIZES) -> None:
    """Assert that a pass broke no rule, kept the outputs' names, and changed no output beyond float32's rounding."""
    verify(before)
    verify(after)
    assert after.outputs == before.outputs
    assert [value.name for value in after.inputs] == [value.name for value in before.inputs]
    for size in sizes:
        feeds = {value.name: noise(*size, seed=99, scale=3) for value in before.inputs}
        for expected, found in zip(run_reference(before, feeds), run_reference(after, feeds)):
            assert expected.shape == found.shape
            assert expected.dtype == found.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def after(pass_: Pass, graph: Graph, expected: Sequence[str], sizes: Sequence[tuple[int, ...]] = SIZES) -> Graph:
    """``pass_`` applied, checked, and found to consist of the operators ``expected``."""
    result = pass_(graph)
    assert_same_meaning(graph, result, sizes)
    assert ops(result) == list(expected)
    return result


def shaped(graph: Graph, size: tuple[int, ...] = SIZES[0]) -> Graph:
    return specialise(graph, {value.name: size for value in graph.inputs})


# eliminate_identity, eliminate_unchanged


def test_identities_vanish_and_outputs_keep_their_names() -> None:
    net = Net()
    y = net.add("relu", [net.add("dropout", [net.add("identity", [net.x])])])
    y = net.add("clamp", [net.add("concat", [y], axis=1)])
    y = net.add("transpose", [net.add("pad", [y], pads=((0, 0),) * 4, value=1.0)], perm=(0, 1, 2, 3))
    result = after(eliminate_identity, net.build([net.add("identity", [y], name="last")]), ["relu"])
    assert result.outputs == ("last:out",)


def test_an_identity_between_input_and_output_stays() -> None:
    net = Net()
    after(eliminate_identity, net.build([net.add("dropout", [net.x])]), ["identity"])


def test_two_names_of_one_output_both_stay() -> None:
    net = Net()
    y = net.add("relu", [net.x])
    first, second = net.add("identity", [y]), net.add("dropout", [y])
    result = after(
        eliminate_identity, net.build([first, second, net.add("neg", [second])]), ["relu", "identity", "neg"]
    )
    assert len(set(result.outputs)) == 3
    net = Net()
    y = net.add("relu", [net.x])
    after(eliminate_identity, net.build([y, net.add("identity", [y])]), ["relu", "identity"])


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("clamp", {"lo": 0.0}),
        ("pad", {"pads": ((0, 0), (0, 0), (0, 1), (0, 0))}),
        ("transpose", {"perm": (1, 0, 2, 3)}),
        ("relu", {}),
    ],
)
def test_what_does_something_stays(op: str, attrs: dict[str, Any]) -> None:
    net = Net()
    after(eliminate_identity, net.build([net.add(op, [net.x], **attrs)]), [op])


UNCHANGED = [
    ("reshape", {"shape": (-1, 4, 7, 9)}),
    ("flatten", {"start_axis": 2, "end_axis": 2}),
    ("squeeze", {}),
    ("expand", {"shape": (1, 4, -1, 9)}),
    ("slice", {"axes": (1, 2), "starts": (0, 0), "ends": (2**63 - 1, 7)}),
    ("cast", {"dtype": "float32"}),
    ("resize", {"output_size": (7, 9), "mode": "bilinear", "coordinate": "align_corners"}),
    ("resize", {"scales": (1.0, 1.0), "mode": "nearest", "coordinate": "asymmetric"}),
    ("max_pool2d", {"kernel": (1, 1)}),
    ("avg_pool2d", {"kernel": (1, 1), "ceil_mode": True}),
    ("channel_shuffle", {"groups": 4}),
    ("split", {"axis": 1, "sizes": (4,)}),
    ("adaptive_avg_pool2d", {"output_size": (7, 9)}),
    ("slice", {"axes": (1, 2), "starts": (-4, 0), "ends": (4, 7), "steps": (1, 1)}),
]


@pytest.mark.parametrize(("op", "attrs"), UNCHANGED)
def test_what_changes_nothing_for_a_shape_vanishes(op: str, attrs: dict[str, Any]) -> None:
    net = Net()
    graph = net.build([net.add("neg", [net.add(op, [net.add("relu", [net.x])], **attrs)])])
    after(eliminate_unchanged, shaped(graph), ["relu", "neg"], SIZES[:1])


CHANGED = [
    ("slice", {"axes": (1,), "starts": (-1,), "ends": (-(2**63),), "steps": (-1,)}, "slice"),
    ("cast", {"dtype": "float64"}, "cast"),
    ("channel_shuffle", {"groups": 2}, "channel_shuffle"),
    ("transpose", {"perm": (0, 1, 2, 3)[::1]}, "transpose"),
    ("max_pool2d", {"kernel": (3, 3), "padding": (1, 1, 1, 1)}, "max_pool2d"),
    ("avg_pool2d", {"kernel": (1, 1), "divisor": 2}, "avg_pool2d"),
    ("resize", {"output_size": (7, 9), "scales": (1.1, 1.0), "mode": "nearest", "coordinate": "asymmetric"}, "resize"),
    ("pad", {"pads": ((0, 0), (0, 0), (1, -1), (0, 0))}, "pad"),
    ("max_pool2d", {"kernel": (1, 1), "strides": (2, 2), "padding": (4, 5, 3, 4)}, "max_pool2d"),
]


@pytest.mark.parametrize(("op", "attrs", "left"), CHANGED)
def test_what_keeps_the_shape_but_not_the_elements_stays(op: str, attrs: dict[str, Any], left: str) -> None:
    net = Net()
    graph = net.build([net.add("neg", [net.add(op, [net.add("relu", [net.x])], **attrs)])])
    after(eliminate_unchanged, shaped(graph), ["relu", left, "neg"], SIZES[:1])


def test_reductions_of_single_elements_vanish() -> None:
    for op in ("reduce_mean", "reduce_sum", "reduce_max", "reduce_min"):
        net = Net()
        graph = net.build([net.add("neg", [net.add(op, [net.add("relu", [net.x])], axes=(2, 3), keepdims=True)])])
        after(eliminate_unchanged, shaped(graph, (2, 4, 1, 1)), ["relu", "neg"], [(2, 4, 1, 1)])
        after(eliminate_unchanged, shaped(graph, (2, 4, 1, 2)), ["relu", op, "neg"], [(2, 4, 1, 2)])


# fold_constants


def test_nodes_of_constants_are_computed() -> None:
    net = Net()
    weight = net.add("transpose", [net.add("mul", [net.noise(3, 9), net.number(2.0)])], perm=(1, 0))
    flat = net.add("matmul", [net.add("transpose", [net.x], perm=(0, 1, 2, 3)), weight])
    graph = net.build([flat])
    result = after(fold_constants, graph, ["transpose", "matmul"], SIZES[:1])
    assert len(result.constants) == 1


def test_folding_does_not_grow_a_graph_without_bound() -> None:
    net = Net()
    shape = net.constant("shape", np.array([4096, 4096]))
    big = net.add("reduce_max", [net.add("expand", [net.number(1.0), shape])], axes=(0, 1))
    huge = net.constant("huge", np.array([2**40, 2**20]))
    more = net.add("reduce_max", [net.add("constant_of_shape", [huge])], axes=(0, 1))
    graph = net.build([net.add("add", [net.add("add", [net.x, big]), more])])
    assert "expand" in ops(fold_constants(graph))
    assert "constant_of_shape" in ops(fold_constants(graph))


def test_what_folding_no_longer_needs_does_not_count() -> None:
    net = Net((1,))
    value = net.constant("weight", np.ones(1 << 18, np.float32))
    for _ in range(12):
        value = net.add("mul", [value, net.number(0.5)])
    assert ops(fold_constants(net.build([net.add("add", [net.x, value])]))) == ["add"]


def test_folding_computes_only_so_much() -> None:
    net = Net((1,))
    value = net.constant("weight", np.ones(1 << 14, np.float32))
    for _ in range(200):
        value = net.add("neg", [value])
    left = fold_constants(net.build([net.add("add", [net.x, value])]))
    assert ops(left)[-1] == "add" and 2 < len(left.nodes) < 100


def test_folding_may_double_the_constants_and_add_a_million() -> None:
    def folded(elements: int) -> bool:
        net = Net((1,))
        big = net.add("expand", [net.number(1.0)], shape=(elements,))
        return ops(fold_constants(net.build([net.add("add", [net.x, big])]))) == ["add"]

    assert folded((1 << 20) + 1)
    assert not folded((1 << 20) + 2)


# fold_batch_norm, lower_batch_norm


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_folds_into_the_convolution(bias: bool, groups: int) -> None:
    net = Net()
    graph = net.build([net.batch_norm(net.conv(net.x, 8, groups=groups, k=3, bias=bias), 8)])
    result = after(fold_batch_norm, graph, ["conv2d"])
    assert {array.dtype for array in result.constants.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_folds_into_the_transposed_convolution(groups: int) -> None:
    net = Net()
    y = net.add("conv_transpose2d", [net.x, net.noise(4, 3, 2, 2)], groups=groups, strides=(2, 2))
    after(fold_batch_norm, net.build([net.batch_norm(y, 3 * groups)]), ["conv_transpose2d"])


def test_folding_batch_norm_respects_eps_and_rounds_once() -> None:
    net = Net()
    weight = net.constant("w", np.full((1, 4, 1, 1), 1 / 3, np.float32))
    params = [net.constant(s, np.full(1, v, np.float32)) for s, v in [("s", 0.7), ("b", 0.1), ("m", 0.2), ("v", 1e-6)]]
    graph = net.build([net.add("batch_norm", [net.add("conv2d", [net.x, weight]), *params], eps=1e-3)])
    folded = fold_batch_norm(graph)
    found = folded.constants[folded.nodes[0].inputs[1]][0, 0, 0, 0]
    exact = float(np.float32(1 / 3)) * float(np.float32(0.7)) / math.sqrt(float(np.float32(1e-6)) + 1e-3)
    assert found == np.float32(exact)


def test_two_batch_norms_in_a_row_both_fold() -> None:
    net = Net()
    after(fold_batch_norm, net.build([net.batch_norm(net.batch_norm(net.conv(net.x)))]), ["conv2d"])


def test_batch_norm_does_not_fold_where_the_convolution_is_read_elsewhere() -> None:
    net = Net()
    y = net.conv(net.x)
    after(fold_batch_norm, net.build([net.batch_norm(y), y]), ["conv2d", "batch_norm"])
    net = Net()
    y = net.conv(net.x, activation=("relu",))
    after(fold_batch_norm, net.build([net.batch_norm(y)]), ["conv2d", "batch_norm"])


def test_batch_norm_of_other_channels_is_left_to_be_refused() -> None:
    net = Net()
    graph = net.build([net.batch_norm(net.conv(net.x, 6), 5)])
    assert ops(fold_batch_norm(graph)) == ["conv2d", "batch_norm"]
    with pytest.raises(GraphError, match=r"input scale: expected \[6\], found \[5\]"):
        infer_shapes(graph, {"x": SIZES[0]})


def test_batch_norm_does_not_fold_behind_a_residual_or_into_weights_that_are_computed() -> None:
    net = Net()
    y = net.add("conv2d", [net.x, net.noise(4, 4, 1, 1), "", net.x])
    after(fold_batch_norm, net.build([net.batch_norm(y)]), ["conv2d", "batch_norm"])
    net = Net()
    weight = net.add("transpose", [net.noise(4, 4, 1, 1)], perm=(1, 0, 2, 3))
    y = net.add("conv2d", [net.x, weight])
    after(fold_batch_norm, net.build([net.batch_norm(y)]), ["transpose", "conv2d", "batch_norm"])
    net = Net()
    y = net.add("conv2d", [net.x, net.noise(4, 4, 1, 1), net.add("neg", [net.noise(4)])])
    after(fold_batch_norm, net.build([net.batch_norm(y)]), ["neg", "conv2d", "batch_norm"])


def test_batch_norm_of_statistics_that_are_no_constants_stays() -> None:
    net = Net()
    mean = net.add("reduce_mean", [net.x], axes=(0, 2, 3))
    var = net.constant("var", np.ones(4, np.float32))
    y = net.add("batch_norm", [net.conv(net.x), net.noise(4), net.noise(4), mean, var], eps=0.1)
    graph = after(fold_batch_norm, net.build([y]), ["reduce_mean", "conv2d", "batch_norm"])
    after(lower_batch_norm, shaped(graph), ["reduce_mean", "conv2d", "batch_norm"], SIZES[:1])


def test_a_variance_of_zero_and_no_eps_is_an_error() -> None:
    net = Net()
    params = [net.noise(4), net.noise(4), net.noise(4), net.constant("var", np.zeros(4, np.float32))]
    with pytest.raises(GraphError, match="variances above -0"):
        fold_batch_norm(net.build([net.add("batch_norm", [net.conv(net.x), *params], eps=0.0)]))


def test_a_negative_variance_is_an_error_that_names_the_node() -> None:
    net = Net()
    params = [net.noise(4), net.noise(4), net.noise(4), net.constant("var", np.full(4, -1, np.float32))]
    graph = net.build([net.add("batch_norm", [net.conv(net.x), *params], name="features.1", eps=1e-5)])
    with pytest.raises(GraphError, match=r"features\.1.*input var.*-1\.0"):
        fold_batch_norm(graph)


def test_lone_batch_norm_becomes_a_depthwise_convolution() -> None:
    net = Net()
    result = after(lower_batch_norm, shaped(net.build([net.batch_norm(net.x)])), ["conv2d"], SIZES[:1])
    assert result.nodes[0].attrs["groups"] == 4


def test_batch_norm_of_vectors_folds_into_linear_or_becomes_arithmetic() -> None:
    net = Net(("n", 4))
    graph = net.build([net.batch_norm(net.add("linear", [net.x, net.noise(6, 4)]), 6)])
    after(lower_batch_norm, shaped(graph, (3, 4)), ["linear"], [(3, 4)])
    net = Net(("n", 4))
    after(lower_batch_norm, shaped(net.build([net.batch_norm(net.x)]), (3, 4)), ["mul", "add"], [(3, 4)])


def test_batch_norm_of_sequences_does_not_fold_into_linear() -> None:
    """Its channels are axis 1, the linear's features axis 2, and here both are as many."""
    net = Net(("n", 4, 5))
    graph = net.build([net.batch_norm(net.add("linear", [net.x, net.noise(4, 5)]))])
    after(lower_batch_norm, shaped(graph, (3, 4, 5)), ["linear", "mul", "add"], [(3, 4, 5)])
    assert ops(fold_batch_norm(graph)) == ["linear", "batch_norm"]


# canonicalise_linear, merge_scale


def test_matmul_with_a_bias_becomes_linear() -> None:
    net = Net(("n", 4))
    y = net.add("add", [net.noise(6), net.add("matmul", [net.x, net.noise(4, 6)])])
    graph = net.build([y])
    linear = after(canonicalise_linear, graph, ["linear", "add"], [(3, 4)])
    result = after(merge_scale, linear, ["linear"], [(3, 4)])
    assert len(result.nodes[0].inputs) == 3


def test_other_matmuls_stay() -> None:
    net = Net(("n", 4))
    after(canonicalise_linear, net.build([net.add("matmul", [net.noise(5, 3), net.x])]), ["matmul"], [(3, 4)])
    net = Net(("n", 4))
    after(canonicalise_linear, net.build([net.add("matmul", [net.x, net.noise(2, 4, 3)])]), ["matmul"], [(3, 4)])


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (), (1,), (1, 1, 1, 1)])
@pytest.mark.parametrize("first", [False, True])
def test_arithmetic_per_channel_merges_into_the_convolution(op: str, shape: tuple[int, ...], first: bool) -> None:
    net = Net()
    inputs = [net.conv(net.x, 6, k=3), net.noise(*shape)]
    graph = net.build([net.add(op, inputs[::-1] if first else inputs)])
    expected = ["conv2d", "div"] if (op, first) == ("div", True) else ["conv2d"]
    after(merge_scale, graph, expected)


def test_a_chain_of_arithmetic_merges_into_a_transposed_convolution() -> None:
    net = Net()
    y = net.add("conv_transpose2d", [net.x, net.noise(4, 3, 2, 2)], groups=2)
    y = net.add("add", [net.add("mul", [net.noise(6, 1, 1), y]), net.noise(6, 1, 1)])
    after(merge_scale, net.build([y]), ["conv_transpose2d"])


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (4, 1, 9), (9,), (1, 1, 4, 1, 1), (1, 1, 1, 1, 1)])
def test_arithmetic_that_is_not_per_channel_stays(shape: tuple[int, ...]) -> None:
    net = Net()
    graph = net.build([net.add("mul", [net.conv(net.x), net.noise(*shape)])])
    after(merge_scale, graph, ["conv2d", "mul"], SIZES[:1])


@pytest.mark.parametrize("shape", [(3, 4), (2, 1, 4), (9,), (1, 4), (1, 1)])
def test_arithmetic_after_linear_that_is_not_per_feature_stays(shape: tuple[int, ...]) -> None:
    """(1, 4) is per feature, but would add an axis to the output of a linear without a batch."""
    net = Net(("n", 9) if shape == (9,) else ("n", 4))
    size = (3, 9) if shape == (9,) else (3, 4)
    y = net.add("linear", [net.x, net.noise(1 if shape == (9,) else 4, size[1])])
    after(merge_scale, net.build([net.add("mul", [y, net.noise(*shape)])]), ["linear", "mul"], [size])


def test_integers_are_not_merged() -> None:
    net = Net()
    with pytest.raises(GraphError, match="one dtype"):
        infer_shapes(merge_scale(net.build([net.add("mul", [net.conv(net.x), const(net, 2)])])), {"x": SIZES[0]})


def test_arithmetic_after_a_residual_stays() -> None:
    net = Net()
    y = net.add("conv2d", [net.x, net.noise(4, 4, 1, 1), "", net.x])
    after(merge_scale, net.build([net.add("mul", [y, net.number(2)])]), ["conv2d", "mul"])


def test_arithmetic_after_an_activation_or_a_shared_convolution_stays() -> None:
    net = Net()
    y = net.conv(net.x, activation=("relu",))
    after(merge_scale, net.build([net.add("mul", [y, net.number(2)])]), ["conv2d", "mul"])
    net = Net()
    y = net.conv(net.x)
    after(merge_scale, net.build([net.add("mul", [y, net.number(2)]), y]), ["conv2d", "mul"])
    net = Net()
    after(merge_scale, net.build([net.add("div", [net.conv(net.x), net.number(0)])]), ["conv2d", "div"])


# fuse_clamp, fuse_hardswish, fuse_silu, fuse_gelu


def test_clamps_in_their_spellings() -> None:
    net = Net()
    y = net.add("minimum", [net.number(6), net.add("maximum", [net.x, net.number(0)])])
    result = after(fuse_clamp, net.build([y]), ["clamp"])
    assert result.nodes[0].attrs == {"lo": 0.0, "hi": 6.0}
    net = Net()
    result = after(fuse_clamp, net.build([net.add("clamp", [net.add("relu", [net.x])], hi=6.0)]), ["clamp"])
    assert result.nodes[0].attrs == {"lo": 0.0, "hi": 6.0}
    net = Net()
    after(fuse_clamp, net.build([net.add("clamp", [net.x], lo=0.0)]), ["relu"])
    net = Net()
    y = net.add("clamp", [net.add("clamp", [net.x], lo=2.0, hi=3.0)], lo=-1.0, hi=1.0)
    after(fuse_clamp, net.build([y]), ["clamp"])


def test_maximum_of_integers_or_with_no_number_stays() -> None:
    net = Net()
    lengths = net.add("maximum", [net.add("shape", [net.x]), const(net, 2)])
    after(fuse_clamp, net.build([lengths]), ["shape", "maximum"])
    net = Net()
    after(fuse_clamp, net.build([net.add("maximum", [net.x, net.number(math.nan)])]), ["maximum"])
    net = Net()
    one = net.constant("one", np.ones((1,) * 5, np.float32))
    after(fuse_clamp, net.build([net.add("maximum", [net.x, one])]), ["maximum"])


def test_a_clamp_that_is_read_elsewhere_stays() -> None:
    net = Net()
    y = net.add("relu", [net.x])
    after(fuse_clamp, net.build([net.add("clamp", [y], hi=6.0), y]), ["relu", "clamp"])


def test_maximum_of_tensors_stays() -> None:
    net = Net()
    after(fuse_clamp, net.build([net.add("maximum", [net.x, net.noise(4, 1, 1)])]), ["maximum"])


def spell_hardsigmoid(net: Net, x: str, spelling: str) -> str:
    if spelling == "op":
        return net.add("hardsigmoid", [x])
    if spelling == "rounded op":
        return net.add("hardsigmoid", [x], alpha=float(np.float32(1 / 6)))
    if spelling == "scaled first":
        scaled = net.add("add", [net.add("mul", [x, net.number(1 / 6)]), net.number(0.5)])
        return net.add("clamp", [scaled], lo=0.0, hi=1.0)
    if spelling == "subtracted":
        scaled = net.add("sub", [net.add("div", [x, net.number(6)]), net.number(-0.5)])
        return net.add("clamp", [scaled], lo=0.0, hi=1.0)
    if spelling == "negated":
        scaled = net.add("sub", [net.number(0.5), net.add("neg", [net.add("div", [x, net.number(6)])])])
        return net.add("clamp", [scaled], lo=0.0, hi=1.0)
    shifted = net.add("clamp", [net.add("add", [net.number(3), x])], lo=0.0, hi=6.0)
    if spelling == "divided":
        return net.add("div", [shifted, net.number(6)])
    return net.add("mul", [net.number(1 / 6), shifted])


SPELLINGS = ["op", "rounded op", "scaled first", "divided", "multiplied", "subtracted", "negated"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_hardsigmoid_in_its_spellings(spelling: str) -> None:
    net = Net()
    result = after(fuse_hardswish, net.build([spell_hardsigmoid(net, net.x, spelling)]), ["hardsigmoid"])
    assert result.nodes[0].attrs == {"alpha": 1 / 6, "beta": 0.5}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("gate_first", [False, True])
def test_hardswish_as_a_gate(spelling: str, gate_first: bool) -> None:
    net = Net()
    x = net.add("mul", [net.x, net.noise(4, 1, 1)])
    inputs = [x, spell_hardsigmoid(net, x, spelling)]
    graph = net.build([net.add("mul", inputs[::-1] if gate_first else inputs)])
    after(fuse_hardswish, graph, ["mul", "hardswish"])


@pytest.mark.parametrize("spelling", ["whole", "x", "reciprocal"])
def test_hardswish_divided_elsewhere(spelling: str) -> None:
    net = Net()
    gate = net.add("clamp", [net.add("add", [net.x, net.number(3)])], lo=0.0, hi=6.0)
    if spelling == "whole":
        y = net.add("div", [net.add("mul", [net.x, gate]), net.number(6)])
    elif spelling == "x":
        y = net.add("mul", [net.add("div", [net.x, net.number(6)]), gate])
    else:
        y = net.add("mul", [net.add("mul", [gate, net.x]), net.number(1 / 6)])
    after(fuse_hardswish, net.build([y]), ["hardswish"])


@pytest.mark.parametrize(
    ("shift", "lo", "hi", "divisor"), [(2.9, 0, 6, 6), (3, 0.1, 6, 6), (3, 0, 5, 6), (3, 0, 6, 5), (3, -1, 6, 6)]
)
def test_near_misses_of_hardswish_stay(shift: float, lo: float, hi: float, divisor: float) -> None:
    net = Net()
    gate = net.add("clamp", [net.add("add", [net.x, net.number(shift)])], lo=float(lo), hi=float(hi))
    y = net.add("mul", [net.x, net.add("div", [gate, net.number(divisor)])])
    after(fuse_hardswish, net.build([y]), ["add", "clamp", "div", "mul"])


def test_more_near_misses_of_hardsigmoid_and_hardswish_stay() -> None:
    net = Net()
    clamp = net.add("clamp", [net.add("add", [net.x, net.number(3)])], lo=0.0, hi=6.0)
    y = net.add("mul", [net.add("sub", [clamp, net.number(3)]), net.number(1 / 6)])
    after(fuse_hardswish, net.build([y]), ["add", "clamp", "sub", "mul"])
    net = Net()
    clamp = net.add("clamp", [net.add("mul", [net.x, net.number(1 / 5)])], lo=0.0, hi=1.0)
    after(fuse_hardswish, net.build([net.add("mul", [net.x, clamp])]), ["mul", "clamp", "mul"])
    net = Net()
    clamp = net.add("clamp", [net.add("add", [net.add("mul", [net.x, net.number(2)]), net.number(3)])], lo=0.0, hi=6.0)
    y = net.add("mul", [net.x, net.add("div", [clamp, net.number(6)])])
    after(fuse_hardswish, net.build([y]), ["mul", "add", "clamp", "div", "mul"])
    net = Net()
    shifted = net.add("add", [net.x, net.number(1)])
    y = net.add("mul", [shifted, net.add("hardsigmoid", [net.x])])
    after(fuse_hardswish, net.build([y]), ["add", "hardsigmoid", "mul"])
    net = Net()
    y = net.add("div", [net.number(1), net.add("clamp", [net.add("add", [net.x, net.number(9)])], lo=1.0, hi=2.0)])
    after(fuse_hardswish, net.build([y]), ["add", "clamp", "div"])
    net = Net()
    y = net.add("div", [net.add("add", [net.x, net.number(3)]), net.number(0)])
    assert ops(fuse_hardswish(net.build([net.add("mul", [net.x, net.add("clamp", [y], lo=0.0, hi=1.0)])]))) == [
        "add",
        "div",
        "clamp",
        "mul",
    ]


def test_a_product_that_is_shifted_or_scaled_per_element_stays() -> None:
    net = Net()
    product = net.add("mul", [net.x, net.add("hardsigmoid", [net.x])])
    y = net.add("mul", [net.add("add", [product, net.number(3)]), net.number(1)])
    after(fuse_hardswish, net.build([y]), ["hardswish", "add", "mul"])
    net = Net()
    y = net.add("mul", [net.add("mul", [net.x, net.noise(9)]), net.add("sigmoid", [net.x])])
    after(fuse_silu, net.build([y]), ["mul", "sigmoid", "mul"], SIZES[:1])


def test_a_gate_of_another_value_stays() -> None:
    net = Net()
    pooled = net.add("reduce_mean", [net.x], axes=(2, 3), keepdims=True)
    for op in ("hardsigmoid", "sigmoid"):
        graph = net.build([net.add("mul", [net.x, net.add(op, [pooled])])])
        after(fuse_silu, after(fuse_hardswish, graph, ["reduce_mean", op, "mul"]), ["reduce_mean", op, "mul"])


def test_silu() -> None:
    net = Net()
    after(fuse_silu, net.build([net.add("mul", [net.x, net.add("sigmoid", [net.x])])]), ["silu"])
    net = Net()
    y = net.add("mul", [net.add("sigmoid", [net.x]), net.x])
    after(fuse_silu, net.build([y]), ["silu"])
    net = Net()
    y = net.add("mul", [net.add("mul", [net.number(2), net.x]), net.add("sigmoid", [net.x])])
    after(fuse_silu, net.build([y]), ["mul", "sigmoid", "mul"])


@pytest.mark.parametrize("spelling", ["torch", "half last", "affine", "subtracted"])
def test_gelu(spelling: str) -> None:
    net = Net()
    if spelling == "torch":
        half = net.add("mul", [net.x, net.number(0.5)])
        erf = net.add("erf", [net.add("mul", [net.x, net.number(math.sqrt(0.5))])])
        y = net.add("mul", [half, net.add("add", [erf, net.number(1)])])
    elif spelling == "half last":
        erf = net.add("erf", [net.add("div", [net.x, net.number(math.sqrt(2))])])
        y = net.add("mul", [net.add("mul", [net.add("add", [net.number(1), erf]), net.x]), net.number(0.5)])
    elif spelling == "subtracted":
        erf = net.add("erf", [net.add("neg", [net.add("div", [net.x, net.number(math.sqrt(2))])])])
        negated = net.add("neg", [net.add("mul", [net.x, net.number(-0.5)])])
        y = net.add("mul", [net.add("sub", [net.number(1), net.add("neg", [net.add("neg", [erf])])]), negated])
        assert ops(fuse_gelu(net.build([y])))[-1] == "mul"
        positive = net.add("erf", [net.add("sub", [net.number(0), net.add("div", [net.x, net.number(-math.sqrt(2))])])])
        y = net.add("mul", [net.add("sub", [positive, net.number(-1)]), negated])
    else:
        erf = net.add("erf", [net.add("div", [net.x, net.number(math.sqrt(2))])])
        y = net.add("mul", [net.add("add", [net.add("mul", [erf, net.number(0.5)]), net.number(0.5)]), net.x])
    result = after(fuse_gelu, net.build([y]), ["gelu"])
    assert result.nodes[0].attrs == {"approximate": "none"}


def spell_cubic(net: Net, spelling: str) -> str:
    x = net.x
    if spelling == "pow":
        cube = net.add("pow", [x, net.number(3)])
        return net.add("add", [x, net.add("mul", [cube, net.number(0.044715)])])
    square = net.add("mul", [x, x])
    if spelling == "products":
        return net.add("add", [x, net.add("mul", [net.add("mul", [square, x]), net.number(0.044715)])])
    inner = net.add("add", [net.add("mul", [square, net.number(0.044715)]), net.number(1)])
    return net.add("mul", [x, inner])


@pytest.mark.parametrize("spelling", ["pow", "products", "factored"])
def test_gelu_by_tanh(spelling: str) -> None:
    net = Net()
    tanh = net.add("tanh", [net.add("mul", [spell_cubic(net, spelling), net.number(math.sqrt(2 / math.pi))])])
    half = net.add("mul", [net.x, net.number(0.5)])
    result = after(fuse_gelu, net.build([net.add("mul", [half, net.add("add", [tanh, net.number(1)])])]), ["gelu"])
    assert result.nodes[0].attrs == {"approximate": "tanh"}


def test_near_misses_of_gelu_stay() -> None:
    net = Net()
    erf = net.add("erf", [net.add("mul", [net.x, net.number(0.7)])])
    y = net.add("mul", [net.add("mul", [net.x, net.number(0.5)]), net.add("add", [erf, net.number(1)])])
    after(fuse_gelu, net.build([y]), ["mul", "erf", "mul", "add", "mul"])
    for half, one in ((0.4, 1.0), (0.5, 0.9)):
        net = Net()
        erf = net.add("erf", [net.add("mul", [net.x, net.number(math.sqrt(0.5))])])
        y = net.add("mul", [net.add("mul", [net.x, net.number(half)]), net.add("add", [erf, net.number(one)])])
        after(fuse_gelu, net.build([y]), ["mul", "erf", "mul", "add", "mul"])
    for power in (2.0, 4.0, 0.5, -1.0):
        net = Net()
        cubed = net.add("mul", [net.add("pow", [net.x, net.number(power)]), net.number(0.044715)])
        tanh = net.add("tanh", [net.add("mul", [net.add("add", [net.x, cubed]), net.number(math.sqrt(2 / math.pi))])])
        half = net.add("mul", [net.x, net.number(0.5)])
        graph = net.build([net.add("mul", [half, net.add("add", [tanh, net.number(1)])])])
        assert ops(fuse_gelu(graph)) == ops(graph)


def test_a_long_or_deep_expression_ends_the_search() -> None:
    """Each level doubles the ways through; a file must not make the search go through them all."""
    net = Net()
    y = net.x
    for _ in range(64):
        y = net.add("add", [y, y])
    tanh = net.add("tanh", [y])
    half = net.add("mul", [net.x, net.number(0.5)])
    graph = net.build([net.add("mul", [half, net.add("add", [tanh, net.number(1)])])])
    assert ops(fuse_gelu(graph)) == ops(graph)


# fold_pad

EDGES = ((0, 0), (0, 0), (1, 2), (0, 3))


def padded(net: Net, value: float = 0.0, mode: str = "constant", pads: Any = EDGES) -> str:
    return net.add("pad", [net.x], pads=pads, value=value, mode=mode)


def test_pad_folds_into_the_convolution() -> None:
    net = Net()
    result = after(fold_pad, net.build([net.conv(padded(net), k=3, padding=(1, 0, 0, 1))]), ["conv2d"])
    assert result.nodes[0].attrs["padding"] == (2, 0, 2, 4)


def test_two_pads_both_fold() -> None:
    net = Net()
    y = net.add("pad", [padded(net)], pads=EDGES)
    after(fold_pad, net.build([net.conv(y, k=3)]), ["conv2d"])


def test_a_pad_that_is_read_elsewhere_stays_for_those() -> None:
    net = Net()
    y = padded(net)
    after(fold_pad, net.build([net.conv(y, k=3), y]), ["pad", "conv2d"])


@pytest.mark.parametrize(
    ("value", "mode", "pads"),
    [
        (1.0, "constant", EDGES),
        (0.0, "reflect", EDGES),
        (0.0, "constant", ((0, 0), (0, 0), (-1, 2), (0, 0))),
        (0.0, "constant", ((1, 0), (0, 0), (0, 0), (0, 0))),
    ],
)
def test_other_pads_stay(value: float, mode: str, pads: Any) -> None:
    net = Net()
    after(fold_pad, net.build([net.conv(padded(net, value, mode, pads), k=3)]), ["pad", "conv2d"])


def test_pads_of_computed_edges_or_fewer_axes_stay() -> None:
    net = Net()
    y = net.add("pad", [net.x, const(net, 0, 0, 1, 0, 0, 0, 0, 1)])
    graph = net.build([net.conv(y, k=3)])
    after(fold_pad, graph, ["pad", "conv2d"])
    after(fold_pad, shaped(graph), ["conv2d"], SIZES[:1])
    net = Net()
    y = net.add("pad", [net.x], pads=((0, 0), (1, 1), (0, 0), (0, 0)))
    after(fold_pad, net.build([net.conv(y, ic=6)]), ["pad", "conv2d"])


def test_a_pad_before_same_padding_stays_until_the_size_is_known() -> None:
    net = Net()
    graph = net.build([net.conv(padded(net), k=3, padding="same", strides=(2, 2))])
    after(fold_pad, graph, ["pad", "conv2d"])
    after(fold_pad, shaped(graph), ["conv2d"], SIZES[:1])


@pytest.mark.parametrize("own", [(0, 0, 0, 0), (1, 1, 1, 1)])
@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize("divisor", [None, 5])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pad_before_an_average(own: Any, count: bool, divisor: int | None, ceil_mode: bool) -> None:
    net = Net()
    y = net.add(
        "avg_pool2d", [padded(net)],
        kernel=(3, 3), strides=(2, 2), padding=own, count_include_pad=count, divisor=divisor, ceil_mode=ceil_mode,
    )  # fmt: skip
    folds = not ceil_mode and (divisor is not None or count or not any(own))
    after(fold_pad, net.build([y]), ["avg_pool2d"] if folds else ["pad", "avg_pool2d"])


@pytest.mark.parametrize(("value", "folds"), [(-math.inf, True), (0.0, False)])
def test_pad_before_a_maximum(value: float, folds: bool) -> None:
    net = Net()
    y = net.add("max_pool2d", [padded(net, value)], kernel=(3, 3), strides=(2, 2), padding=(0, 1, 1, 0))
    after(fold_pad, net.build([y]), ["max_pool2d"] if folds else ["pad", "max_pool2d"])


# fuse_activation, fuse_residual


@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [
        ("relu", {}, ("relu",)),
        ("clamp", {"lo": 0, "hi": 6}, ("clamp", 0.0, 6.0)),
        ("leaky_relu", {"slope": 0.1}, ("leaky_relu", 0.1)),
        ("hardswish", {}, ("hardswish",)),
        ("hardsigmoid", {}, ("hardsigmoid",)),
        ("silu", {}, ("silu",)),
        ("sigmoid", {}, ("sigmoid",)),
    ],
)
def test_activations_fuse(op: str, attrs: dict[str, Any], expected: tuple[Any, ...]) -> None:
    net = Net()
    result = after(fuse_activation, net.build([net.add(op, [net.conv(net.x)], **attrs)]), ["conv2d"])
    assert result.nodes[0].attrs["activation"] == expected
    net = Net()
    y = net.add("conv_transpose2d", [net.x, net.noise(4, 3, 2, 2)])
    after(fuse_activation, net.build([net.add(op, [y], **attrs)]), ["conv_transpose2d"])
    net = Net()
    y = net.add("linear", [net.x, net.noise(3, 9)])
    after(fuse_activation, net.build([net.add(op, [y], **attrs)]), ["linear"], SIZES[:1])


def test_activations_that_do_not_fuse() -> None:
    net = Net()
    y = net.add("hardsigmoid", [net.conv(net.x)], alpha=0.2)
    after(fuse_activation, net.build([y]), ["conv2d", "hardsigmoid"])
    net = Net()
    y = net.conv(net.x)
    after(fuse_activation, net.build([net.add("relu", [y]), y]), ["conv2d", "relu"])
    net = Net()
    y = net.add("sigmoid", [net.add("relu", [net.conv(net.x)])])
    once = after(fuse_activation, net.build([y]), ["conv2d", "sigmoid"])
    after(fuse_activation, once, ["conv2d", "sigmoid"])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_residual_fuses_and_then_its_activation(bias: bool, first: bool) -> None:
    net = Net()
    y = net.add("relu", [net.x])
    inputs = [net.conv(y, k=3, padding=(1, 1, 1, 1), bias=bias), y]
    graph = shaped(net.build([net.add("relu", [net.add("add", inputs[::-1] if first else inputs)])]))
    result = after(fuse_residual, graph, ["relu", "conv2d", "relu"], SIZES[:1])
    assert result.nodes[1].inputs[3] == "relu:out"
    after(fuse_activation, result, ["relu", "conv2d"], SIZES[:1])


def test_of_two_convolutions_the_later_takes_the_other_in() -> None:
    net = Net()
    early, late = net.conv(net.x), net.conv(net.x, k=3, padding=(1, 1, 1, 1))
    result = after(fuse_residual, shaped(net.build([net.add("add", [late, early])])), ["conv2d", "conv2d"], SIZES[:1])
    assert result.nodes[1].inputs[3] == early


def test_a_chain_of_residuals_fuses() -> None:
    net = Net()
    y = net.x
    for _ in range(3):
        y = net.add("add", [y, net.conv(y)])
    after(fuse_residual, shaped(net.build([y])), ["conv2d"] * 3, SIZES[:1])


def test_additions_that_are_no_residual_stay() -> None:
    def unfused(net: Net, y: str) -> None:
        graph = shaped(net.build([y]))
        after(fuse_residual, graph, ops(graph), SIZES[:1])

    net = Net()
    pooled = net.add("reduce_mean", [net.x], axes=(2, 3), keepdims=True)
    unfused(net, net.add("add", [net.conv(net.x), pooled]))
    net = Net()
    unfused(
        net, net.add("add", [net.x, net.conv(pooled := net.add("reduce_mean", [net.x], axes=(2, 3), keepdims=True))])
    )
    assert pooled
    net = Net()
    y = net.conv(net.x)
    unfused(net, net.add("add", [y, y]))
    net = Net()
    unfused(net, net.add("add", [net.conv(net.x, activation=("relu",)), net.x]))
    net = Net()
    unfused(net, net.add("sub", [net.conv(net.x), net.x]))
    net = Net()
    unfused(net, net.add("add", [net.conv(net.x), net.noise(*SIZES[0])]))
    net = Net()
    y = net.add("conv2d", [net.x, net.noise(4, 4, 1, 1), "", net.x])
    unfused(net, net.add("add", [y, net.x]))
    net = Net()
    y = net.conv(net.x)
    unfused(net, net.add("mul", [net.add("add", [y, net.x]), y]))


# fuse_channel_shuffle


@pytest.mark.parametrize("flat", [False, True])
def test_channel_shuffle(flat: bool) -> None:
    net = Net(("n", 6, "h", "w"))
    n, h, w = (dimension(net, net.x, axis) for axis in (0, 2, 3))
    maps = [net.add("mul", [h, w])] if flat else [h, w]
    y = reshape(net, net.x, [n, const(net, 3), const(net, 2), *maps])
    y = net.add("transpose", [y], perm=(0, 2, 1, 3) if flat else (0, 2, 1, 3, 4))
    graph = net.build([reshape(net, y, [n, const(net, -1), h, w])])
    verify(graph)
    for size in ((2, 6, 3, 5), (1, 6, 1, 2)):
        result = after(fuse_channel_shuffle, shaped(graph, size), ["channel_shuffle"], [size])
        assert result.nodes[0].attrs == {"groups": 3}
    assert_same_meaning(graph, graph, [(2, 6, 3, 5)])


def dimension(net: Net, x: str, axis: int) -> str:
    return net.add("gather", [net.add("shape", [x]), net.constant("axis", np.array([axis]))])


def const(net: Net, *values: int) -> str:
    return net.constant("lengths", np.array(values))


def reshape(net: Net, x: str, lengths: Sequence[str]) -> str:
    return net.add("reshape", [x, net.add("concat", lengths, axis=0)])


@pytest.mark.parametrize(
    ("split", "perm", "joined"),
    [
        ((2, 6, 2, 3, 5), (0, 1, 2, 3, 4), (2, 12, 3, 5)),
        ((2, 6, 2, 3, 5), (0, 2, 1, 4, 3), (2, 12, 3, 5)),
        ((2, 6, 2, 3, 5), (0, 2, 1, 3, 4), (2, 6, 6, 5)),
        ((4, 6, 1, 3, 5), (0, 2, 1, 3, 4), (2, 12, 3, 5)),
        ((2, 6, 2, 5, 3), (0, 2, 1, 3, 4), (2, 12, 3, 5)),
        ((1, 2, 12, 3, 5), (0, 2, 1, 3, 4), (2, 12, 3, 5)),
    ],
)
def test_other_moves_are_no_shuffle(split: Any, perm: Any, joined: Any) -> None:
    net = Net(("n", 12, "h", "w"))
    y = net.add("transpose", [net.add("reshape", [net.x], shape=split)], perm=perm)
    graph = shaped(net.build([net.add("reshape", [y], shape=joined)]), (2, 12, 3, 5))
    after(fuse_channel_shuffle, graph, ["reshape", "transpose", "reshape"], [(2, 12, 3, 5)])


def test_moves_of_other_than_maps_are_no_shuffle() -> None:
    net = Net(("n", 12, "l"))
    y = net.add("transpose", [net.add("reshape", [net.x], shape=(2, 6, 2, 5))], perm=(0, 2, 1, 3))
    graph = shaped(net.build([net.add("reshape", [y], shape=(2, 12, 5))]), (2, 12, 5))
    after(fuse_channel_shuffle, graph, ["reshape", "transpose", "reshape"], [(2, 12, 5)])
    net = Net(("n", 12, "h", "w"))
    graph = shaped(net.build([net.add("reshape", [net.add("relu", [net.x])], shape=(2, 12, 15))]), (2, 12, 3, 5))
    after(fuse_channel_shuffle, graph, ["relu", "reshape"], [(2, 12, 3, 5)])
    net = Net(("n", 12, "h", "w"))
    y = net.add("transpose", [net.x], perm=(0, 2, 1, 3))
    graph = shaped(net.build([net.add("reshape", [y], shape=(2, 12, 15))]), (2, 12, 3, 5))
    after(fuse_channel_shuffle, graph, ["transpose", "reshape"], [(2, 12, 3, 5)])


# whole networks


def inverted_residual(net: Net, x: str, *, gate: bool, activation: str) -> str:
    """An MBConv block as a reader might give it, with its activations spelled out."""

    def act(y: str) -> str:
        if activation == "relu6":
            return net.add("clamp", [net.add("maximum", [y, net.number(0)])], hi=6.0)
        if activation == "silu":
            return net.add("mul", [y, net.add("sigmoid", [y])])
        return net.add("mul", [y, spell_hardsigmoid(net, y, "divided")])

    y = act(net.batch_norm(net.conv(x, 8, k=1, bias=False), 8))
    y = net.add("pad", [y], pads=((0, 0), (0, 0), (1, 1), (1, 1)))
    y = act(net.batch_norm(net.conv(y, 8, 8, 3, bias=False, groups=8), 8))
    if gate:
        pooled = net.add("adaptive_avg_pool2d", [y], output_size=(1, 1))
        squeezed = net.add("relu", [net.conv(pooled, 4, 8)])
        y = net.add("mul", [y, spell_hardsigmoid(net, net.conv(squeezed, 8), "divided")])
    return net.add("add", [x, net.batch_norm(net.conv(y, 4, 8, bias=False))])


@pytest.mark.parametrize("activation", ["relu6", "silu", "hardswish"])
@pytest.mark.parametrize("gate", [False, True])
def test_a_network_ends_in_the_fused_graph(activation: str, gate: bool) -> None:
    net = Net()
    y = inverted_residual(
        net, inverted_residual(net, net.x, gate=gate, activation=activation), gate=gate, activation=activation
    )
    y = net.add("dropout", [net.add("flatten", [net.add("adaptive_avg_pool2d", [y], output_size=(1, 1))])])
    y = net.add("add", [net.add("matmul", [y, net.add("transpose", [net.noise(3, 4)], perm=(1, 0))]), net.noise(3)])
    graph = net.build([y])
    generic = run_passes(graph, verify=True)
    assert_same_meaning(graph, generic)
    special = run_shape_passes(shaped(generic, SIZES[1]), verify=True)
    assert_same_meaning(graph.with_(inputs=special.inputs), special, SIZES[1:])
    squeeze_excite = ["reduce_mean", "conv2d", "conv2d", "mul"] if gate else []
    block = ["conv2d", "conv2d", *squeeze_excite, "conv2d"]
    assert ops(special) == [*block, *block, "reduce_mean", "reshape", "linear"]
    found = [node.attrs.get("activation") for node in special.nodes if node.op == "conv2d"]
    act = {"relu6": ("clamp", 0.0, 6.0), "silu": ("silu",), "hardswish": ("hardswish",)}[activation]
    assert found == [act, act, *([("relu",), ("hardsigmoid",)] if gate else []), None] * 2


def test_after_all_passes_every_attribute_is_spelled_out() -> None:
    net = Net()
    y = net.batch_norm(net.x)
    y = net.add("max_pool2d", [net.add("relu", [net.batch_norm(y)])], kernel=(2, 2))
    y = net.add("softmax", [net.add("matmul", [y, net.noise(8, 3)])], axis=-1)
    special = run_shape_passes(shaped(run_passes(net.build([y]), verify=True), (1, 4, 7, 9)), verify=True)
    assert ops(special) == ["conv2d", "conv2d", "max_pool2d", "linear", "softmax"]
    for node in special.nodes:
        assert set(node.attrs) == set(operator_of(node).attributes), node
    assert special.nodes[-1].attrs["axis"] == 3


def test_passes_are_named_after_their_files() -> None:
    for pass_ in (*PASSES, *SHAPE_PASSES):
        assert pass_.__module__ == f"sepcore.passes.{pass_.__name__}"
        assert pass_.__doc__


def test_the_verifier_runs_after_each_pass_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    graph = net.build([net.add("relu", [net.x])])

    def break_it(graph: Graph) -> Graph:
        return graph.with_(outputs=("nowhere",))

    monkeypatch.setattr("sepcore.passes.PASSES", (break_it,))
    assert run_passes(graph).outputs == ("nowhere",)
    with pytest.raises(GraphError, match="nowhere"):
        run_passes(graph, verify=True)
    monkeypatch.setattr("sepcore.passes.SHAPE_PASSES", (break_it,))
    assert run_shape_passes(graph).outputs == ("nowhere",)
    with pytest.raises(GraphError, match="nowhere"):
        run_shape_passes(graph, verify=True)


def test_passes_reach_a_fixed_point() -> None:
    net = Net()
    graph = net.build([inverted_residual(net, net.x, gate=True, activation="hardswish")])
    once = run_passes(graph)
    assert run_passes(once).nodes == once.nodes
    special = run_shape_passes(shaped(once))
    assert run_shape_passes(special).nodes == special.nodes
    assert infer_shapes(special, {})[special.outputs[0]].shape == SIZES[0]


# lower_where


MASK = np.arange(30).reshape(6, 5) % 3 == 0


@pytest.mark.parametrize("number", [0.0, -np.inf, 3.5])
def test_what_a_constant_mask_takes_is_a_number(number: float) -> None:
    net = Net((2, 4, 6, 5))
    mask = net.constant("mask", MASK)
    graph = net.build(
        [net.add("where", [mask, net.number(number), net.x]), net.add("where", [mask, net.x, net.noise(5)])]
    )
    lowered = run_shape_passes(specialise(graph, {}), verify=True)
    assert {node.op for node in lowered.nodes} == {"minimum", "maximum"}
    x = noise(2, 4, 6, 5)
    x[0, 0, 0, 1] = np.inf
    for found, expected in zip(run_reference(lowered, {"x": x}), run_reference(graph, {"x": x})):
        np.testing.assert_array_equal(found, expected)


def test_a_constant_mask_between_two_computed_values() -> None:
    net = Net((2, 4, 6, 5))
    graph = net.build([net.add("where", [net.constant("mask", MASK), net.conv(net.x), net.x])])
    lowered = lower_where(graph)
    verify(lowered)
    assert "where" not in {node.op for node in lowered.nodes}
    assert_same_meaning(graph, lowered, [(2, 4, 6, 5)])


def test_computed_masks_and_integers_stay() -> None:
    net = Net((2, 4, 6, 5))
    mask = net.add("less", [net.x, net.number(0.0)])
    numbers = net.add(
        "where", [net.constant("mask", MASK), net.add("cast", [net.x], dtype="int64"), net.constant("i", 1)]
    )
    graph = net.build([net.add("where", [mask, net.x, net.number(0.0)]), numbers])
    assert lower_where(graph).nodes == graph.nodes


# separate_maps


def test_layers_of_several_maps_become_layers_of_one() -> None:
    net = Net((3, 4, 7, 9))
    y = net.conv(net.x, k=3, padding=(1, 1, 1, 1))
    y = net.add("add", [net.add("relu", [y]), net.noise(4, 1, 1)])
    z = net.add("avg_pool2d", [y], kernel=(3, 3), strides=(1, 1), padding=(1, 1, 1, 1))
    y = net.add("mul", [z, y])
    y = net.add("pad", [y], pads=((0, 0), (0, 0), (1, 2), (0, 1)), mode="reflect")
    y = net.add("resize", [y], output_size=(5, 4), mode="nearest", coordinate="asymmetric", nearest_rounding="floor")
    graph = specialise(net.build([net.add("reduce_max", [y], axes=(0,), keepdims=False), y]), {})
    separated = separate_maps(graph)
    assert_same_meaning(graph, separated, [(3, 4, 7, 9)])
    assert [node.op for node in separated.nodes].count("concat") == 1
    shapes = infer_shapes(separated, {})
    for node in separated.nodes:
        if node.op not in ("split", "concat", "reduce_max"):
            assert shapes[node.output].shape[0] == 1


def test_maps_that_are_not_taken_apart_together_are_joined() -> None:
    net = Net((3, 4, 7, 9))
    y = net.add("max_pool2d", [net.x], kernel=(2, 2))
    each = net.add("mul", [y, net.noise(3, 1, 1, 1)])
    padded = net.add("pad", [y], pads=((1, 0), (0, 0), (0, 0), (0, 0)), mode="constant")
    spread = net.add(
        "add", [net.add("relu", [net.conv(net.add("slice", [net.x], axes=(0,), starts=(1,), ends=(2,)))]), net.x]
    )
    graph = specialise(net.build([each, padded, net.add("max_pool2d", [spread], kernel=(3, 3))]), {})
    assert_same_meaning(graph, separate_maps(graph), [(3, 4, 7, 9)])


@pytest.mark.parametrize("maps", [1, MOST_MAPS + 1])
def test_one_map_and_too_many_stay(maps: int) -> None:
    net = Net((maps, 4, 7, 9))
    graph = specialise(net.build([net.add("relu", [net.conv(net.x)])]), {})
    assert separate_maps(graph) is graph


# open_batch


def fixed_net(images: int = 2) -> Net:
    return Net((images, 4, 6, 5))


def test_a_fixed_number_of_images_is_opened() -> None:
    net = fixed_net()
    y = net.add("reshape", [net.conv(net.x), net.constant("shape", np.array([2, 2, 2, 6, -1]))])
    y = net.add("reshape", [net.add("transpose", [y], perm=(0, 2, 1, 3, 4))], shape=(2, 4, 6, 5))
    y = net.add("reshape", [net.add("expand", [y], shape=(2, 4, 6, 5))], shape=(12, 20))
    graph = net.build([net.add("reshape", [y], shape=(2, 120))])
    opened = open_batch(graph)
    assert opened.inputs[0].shape == ("n", 4, 6, 5)
    assert_same_meaning(graph, opened, [(2, 4, 6, 5)])
    x = noise(2, 4, 6, 5)
    (whole,) = run_reference(graph, {"x": x})
    for image in (0, 1):
        np.testing.assert_array_equal(run_reference(opened, {"x": x[image : image + 1]})[0], whole[image : image + 1])


def count(net: Net) -> str:
    """How many images there are, as a float."""
    first = net.add("slice", [net.add("shape", [net.x])], axes=(0,), starts=(0,), ends=(1,))
    return net.add("cast", [first], dtype="float32")


MIXED: dict[str, Callable[[Net], str]] = {
    "a mean of images": lambda net: net.add("reduce_mean", [net.x], axes=(0,), keepdims=True),
    "images as channels": lambda net: net.add("reshape", [net.x], shape=(1, 8, 6, 5)),
    "a weight per image": lambda net: net.add("mul", [net.x, net.noise(2, 1, 1, 1)]),
    "images in another order": lambda net: net.add("slice", [net.x], axes=(0,), starts=(-1,), ends=(-3,), steps=(-1,)),
    "the number of images": lambda net: net.add("mul", [net.x, count(net)]),
}


@pytest.mark.parametrize("case", MIXED)
def test_images_that_are_mixed_stay_together(case: str) -> None:
    net = fixed_net()
    graph = net.build([MIXED[case](net)])
    assert open_batch(graph) is graph


def test_what_is_open_or_single_stays_so() -> None:
    for shape in (("n", 4, 6, 5), (1, 4, 6, 5), (2, 4, "h", 5)):
        net = Net(shape)
        graph = net.build([net.add("relu", [net.x])])
        assert open_batch(graph) is graph
    net = fixed_net()
    other = net.input("other", (3, 4, 6, 5))
    graph = net.build([net.add("relu", [net.x]), net.add("relu", [other])])
    assert open_batch(graph) is graph


# merge_branches


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_branches_become_one_convolution(groups: int) -> None:
    net = Net()
    three, one = {"padding": (1, 1, 1, 1), "groups": groups}, {"groups": groups}
    ic = 4 // groups * groups
    first, second = net.conv(net.x, ic=ic, k=3, **three), net.conv(net.x, ic=ic, k=3, bias=False, **three)
    y = net.add("add", [net.batch_norm(net.x), net.conv(net.x, ic=ic, **one)])
    y = net.add("add", [net.add("add", [y, first]), second])
    result = after(merge_branches, net.build([net.add("relu", [y])]), ["conv2d", "relu"])
    assert result.constants[result.nodes[0].inputs[1]].shape == (4, 4 // groups, 3, 3)


def test_a_window_is_set_where_its_padding_says() -> None:
    net = Net()
    large = net.conv(net.x, k=3, oc=5, padding=(2, 1, 0, 1), strides=(2, 1))
    small = net.add("conv2d", [net.x, net.noise(5, 4, 2, 1)], padding=(1, 0, 0, 0), strides=(2, 1))
    after(merge_branches, net.build([net.add("add", [small, large])]), ["conv2d"])


OTHER_BRANCHES: dict[str, Callable[[Net], str]] = {
    "of other groups": lambda net: net.conv(net.x, k=3, padding=(1, 1, 1, 1), groups=4),
    "dilated": lambda net: net.conv(net.x, k=3, padding=(2, 2, 2, 2), dilation=(2, 2)),
    "of another value": lambda net: net.conv(net.add("neg", [net.x]), k=3, padding=(1, 1, 1, 1)),
    "wider than high": lambda net: net.add("conv2d", [net.x, net.noise(4, 4, 1, 5)], padding=(0, 2, 0, 2)),
    "that an activation follows": lambda net: net.conv(net.x, k=3, padding=(1, 1, 1, 1), activation=("relu",)),
    "of one channel": lambda net: net.conv(net.x, oc=1, k=3, padding=(1, 1, 1, 1)),
    "the value itself": lambda net: net.x,
}


@pytest.mark.parametrize("case", OTHER_BRANCHES)
def test_a_branch_stays(case: str) -> None:
    net = Net()
    y = net.add("add", [net.conv(net.x, k=3, padding=(1, 1, 1, 1)), OTHER_BRANCHES[case](net)])
    graph = net.build([y])
    after(merge_branches, graph, ops(graph))


def test_branches_that_are_read_elsewhere_stay() -> None:
    for outputs in ((0, 2), (1, 2)):
        net = Net()
        branches = [net.conv(net.x, k=3, padding=(1, 1, 1, 1)), net.batch_norm(net.x)]
        branches.append(net.add("add", branches))
        graph = net.build([branches[i] for i in outputs])
        after(merge_branches, graph, ["conv2d", "batch_norm", "add"])


def test_a_normalisation_beside_strides_stays() -> None:
    net = Net((1, 4, 1, 1))
    graph = net.build([net.add("add", [net.conv(net.x, strides=(2, 2)), net.batch_norm(net.x)])])
    after(merge_branches, graph, ["conv2d", "batch_norm", "add"], [(1, 4, 1, 1)])


def test_what_is_computed_of_the_same_constants_is_kept_once() -> None:
    net = Net(("n", 4))
    matrix, y = net.noise(4, 4), net.x
    for perm in ((1, 0), (1, 0), (0, 1)):
        y = net.add("matmul", [y, net.add("transpose", [matrix], perm=perm)])
    folded = after(fold_constants, net.build([y]), ["matmul"] * 3, [(3, 4)])
    assert len(folded.constants) == 3
    assert len({id(array) for array in folded.constants.values()}) == 2


def test_a_matrix_that_products_share_is_turned_once() -> None:
    net = Net(("n", 4))
    matrix, y = net.noise(4, 4), net.x
    for _ in range(3):
        y = net.add("matmul", [y, matrix])
    assert len(after(canonicalise_linear, net.build([y]), ["linear"] * 3, [(3, 4)]).constants) == 1
