"""Build a graph layer by layer from a state dict: each method takes the tensors it needs, checks them, adds the nodes.

It must not know how layers are arranged into blocks or families, nor fold or fuse anything.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from sepcore.ir.graph import Array, Graph, GraphBuilder
from sepcore.models.conventions import Conventions, activation_operator
from sepcore.models.weights import Mismatch, Weights, shape_text


class Map(NamedTuple):
    """A feature map in the making: the name of its value and its channels."""

    value: str
    channels: int


class Layer(NamedTuple):
    """Module paths of a convolution, the BatchNorm after it, and the activation after that."""

    conv: str
    bn: str
    act: str


class Head(NamedTuple):
    """Where a network ends: the name of its output, and how many classes it tells apart (0: it gives features)."""

    value: str
    classes: int


BATCH_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def batch_norm_tensors(weights: Weights, path: str, channels: int) -> list[Array]:
    """The BATCH_NORM_PARTS of the BatchNorm at ``path``, each (channels,); variances are not negative."""
    arrays = [weights.take(f"{path}.{part}", (channels,)) for part in BATCH_NORM_PARTS]
    if not np.all(arrays[-1] >= 0):
        raise Mismatch(f"{path}.running_var", "variances of at least 0", "some below, or no numbers")
    return arrays


class Network:
    """A graph in the making; nodes and constants are named after the state dict's modules.

    Parameters
    ----------
    arch : the graph's name.
    weights : the tensors; a tensor that does not fit raises a Mismatch.
    conventions : what the tensors cannot say.
    """

    def __init__(self, arch: str, weights: Weights, conventions: Conventions) -> None:
        self.weights = weights
        self.conventions = conventions
        self._builder = GraphBuilder(arch)

    def image(self) -> Map:
        """The network's input: float32 (n, 3, h, w)."""
        return Map(self._builder.input("input", ("n", 3, "h", "w")), 3)

    def add(self, op: str, inputs: tuple[str, ...], path: str, **attrs: Any) -> str:
        """Add a node named after the module ``path``."""
        self._builder.scope = path
        return self._builder.add(op, inputs, path, **attrs)

    def split(self, x: Map, path: str, sizes: tuple[int, ...]) -> tuple[Map, ...]:
        """Cut the channels into pieces of ``sizes``."""
        self._builder.scope = path
        values = self._builder.add_multi("split", (x.value,), len(sizes), path, axis=1, sizes=sizes)
        return tuple(Map(value, size) for value, size in zip(values, sizes))

    def constant(self, key: str, array: Array) -> str:
        """Add a constant named after its tensor."""
        return self._builder.constant(key, array)

    def tensor(self, key: str, shape: tuple[int | None, ...]) -> str:
        """Add the tensor ``key`` as a constant."""
        return self.constant(key, self.weights.take(key, shape))

    def conv(
        self,
        x: Map,
        path: str,
        *,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
        kernel: int | None = None,
        out: int | None = None,
    ) -> Map:
        """A convolution; kernel size and output channels are those of its weight, unless given."""
        expected = (x.channels, 1) if depthwise else (out, x.channels)
        weight = self.weights.take(f"{path}.weight", (*expected, kernel, kernel))
        tensors = [self.constant(f"{path}.weight", weight)]
        if bias:
            tensors.append(self.tensor(f"{path}.bias", (weight.shape[0],)))
        return self.convolution(x, path, weight, tensors, stride=stride, depthwise=depthwise)

    def convolution(
        self, x: Map, path: str, weight: Array, tensors: list[str], *, stride: int = 1, depthwise: bool = False
    ) -> Map:
        """The node of a convolution whose weight (and bias) are constants already: ``tensors`` names them."""
        oc, _, kh, kw = weight.shape
        if kh != kw or kh % 2 == 0:
            raise Mismatch(f"{path}.weight", "a square kernel of odd size", shape_text(weight.shape))
        same = self.conventions.padding == "same" and stride > 1 and kh > 1
        value = self.add(
            "conv2d",
            (x.value, *tensors),
            path,
            strides=(stride, stride),
            padding="same" if same else (kh // 2,) * 4,
            groups=x.channels if depthwise else 1,
        )
        return Map(value, oc)

    def batch_norm(self, x: Map, path: str) -> Map:
        """Batch normalisation with running statistics."""
        statistics = batch_norm_tensors(self.weights, path, x.channels)
        tensors = (self.constant(f"{path}.{part}", array) for part, array in zip(BATCH_NORM_PARTS, statistics))
        return Map(self.add("batch_norm", (x.value, *tensors), path, eps=self.conventions.bn_eps), x.channels)

    def activation(self, x: Map, path: str, kind: str | None = None) -> Map:
        """An activation: ``kind``, or the network's own."""
        kind = kind or self.conventions.activation
        op, attrs = activation_operator(kind)
        if kind == "leaky_relu":
            attrs = {"slope": float(self.conventions.leaky_slope or 0.0)}
        return Map(self.add(op, (x.value,), path, **attrs), x.channels)

    def conv_bn(self, x: Map, layer: Layer, *, activation: str | None = None, linear: bool = False, **conv: Any) -> Map:
        """Convolution, BatchNorm and, unless ``linear``, an activation (``activation``, or the network's own)."""
        x = self.batch_norm(self.conv(x, layer.conv, **conv), layer.bn)
        return x if linear else self.activation(x, layer.act, activation)

    def strided_conv_bn(self, x: Map, layer: Layer, *, stride: int, **conv_bn: Any) -> Map:
        """As :meth:`conv_bn`, inside a block: thins out as the network's conventions say."""
        downsampling = self.conventions.downsampling
        if stride == 1 or downsampling == "stride":
            return self.conv_bn(x, layer, stride=stride, **conv_bn)
        x = self.conv_bn(x, layer, **conv_bn)
        path, strides = f"{layer.conv}.aa", (stride, stride)
        if downsampling == "average":
            return Map(self.add("avg_pool2d", (x.value,), path, kernel=strides, strides=strides), x.channels)
        row = np.array([0.25, 0.5, 0.25], np.float32)
        blur = self.constant(f"{path}.weight", np.tile(np.outer(row, row), (x.channels, 1, 1, 1)))
        value = self.add("conv2d", (x.value, blur), path, strides=strides, padding=(1, 1, 1, 1), groups=x.channels)
        return Map(value, x.channels)

    def residual(self, x: Map, shortcut: Map, path: str) -> Map:
        """``x`` plus what the block ``path`` was given."""
        return Map(self.add("add", (x.value, shortcut.value), path), x.channels)

    def global_pool(self, x: Map, path: str, *, keepdims: bool = False) -> Map:
        """The mean over height and width."""
        return Map(self.add("reduce_mean", (x.value,), path, axes=(2, 3), keepdims=keepdims), x.channels)

    def linear(self, x: Map, path: str, out: int | None = None) -> Map:
        """A fully connected layer, with a bias if the state dict holds one."""
        weight = self.weights.take(f"{path}.weight", (out, x.channels))
        inputs = [x.value, self.constant(f"{path}.weight", weight)]
        if f"{path}.bias" in self.weights:
            inputs.append(self.tensor(f"{path}.bias", (weight.shape[0],)))
        return Map(self.add("linear", tuple(inputs), path), weight.shape[0])

    def classifier(self, x: Map, prefix: str) -> Head:
        """The one linear layer that ends a network, wherever fine-tuning has put it; none in a headless backbone.

        ``prefix`` itself may be the layer, or a sequence in which nothing with an effect at inference can precede it:
        ``prefix.0``, ``prefix.1`` (after dropout) or, nested, ``prefix.1.0`` and ``prefix.1.1``.

        Raises
        ------
        Mismatch
            There are several linear layers, or one elsewhere: what lies between or before is not in a state dict.
        """
        found = self.weights.linear_layers(prefix)
        if not found:
            return Head(x.value, 0)
        path = found[0]
        if len(found) > 1:
            raise Mismatch(
                f"{found[1]}.weight",
                f"one linear layer under {prefix} (a state dict does not say what lies between two: export the graph)",
                f"a second one after {path}",
            )
        if not re.fullmatch(r"(\.[01]){0,2}", path.removeprefix(prefix)):
            raise Mismatch(
                f"{path}.weight",
                f"the classifier at {prefix}, {prefix}.0 or {prefix}.1 (a state dict does not say what precedes it "
                "elsewhere: export the graph)",
                "one there",
            )
        x = self.linear(x, path)
        return Head(x.value, x.channels)

    def build(self, head: Head) -> Graph:
        """The finished graph, all of the state dict's tensors in it, with one output called "output".

        Raises
        ------
        Mismatch
            A tensor is left over.
        """
        self.weights.expect_all_taken()
        graph = self._builder.build([head.value])
        names = {head.value: self._builder.unique("output")}

        def renamed(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(names.get(value, value) for value in values)

        nodes = (node.with_(inputs=renamed(node.inputs), outputs=renamed(node.outputs)) for node in graph.nodes)
        return graph.with_(outputs=renamed(graph.outputs), nodes=tuple(nodes))
