"""Run a graph with PyTorch's functional calls: a reference that shares no code with sepcore's own interpreter.

It must not import anything of sepcore but the graph's types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sepcore.ir.graph import Graph, Node

Tensor = torch.Tensor


def run_in_torch(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The graph's only output for its only input."""
    (given,) = graph.inputs
    (wanted,) = graph.outputs
    values = {name: torch.from_numpy(np.array(array)) for name, array in graph.constants.items()}
    values[given.name] = torch.from_numpy(x)
    with torch.inference_mode():
        for node in graph.nodes:
            made = OPERATORS[node.op](node, *(values[name] if name else None for name in node.inputs))
            outputs = made if isinstance(made, (tuple, list)) else (made,)
            values.update(zip(node.outputs, outputs, strict=True))
    return values[wanted].numpy()


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's rule: as many outputs as strides begin, the odd element after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _conv2d(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides, padding = node.attrs["strides"], node.attrs["padding"]
    if padding == "same":
        top, bottom = _same_padding(x.shape[2], weight.shape[2], strides[0])
        left, right = _same_padding(x.shape[3], weight.shape[3], strides[1])
    else:
        top, left, bottom, right = padding
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, strides, 0, 1, node.attrs["groups"])


def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, node.attrs["eps"])


def _pool_padding(node: Node) -> tuple[int, int]:
    top, left, bottom, right = node.attrs.get("padding", (0, 0, 0, 0))
    assert (top, left) == (bottom, right)
    return top, left


OPERATORS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "batch_norm": _batch_norm,
    "linear": lambda node, x, weight, bias=None: F.linear(x, weight, bias),
    "relu": lambda node, x: F.relu(x),
    "clamp": lambda node, x: torch.clamp(x, node.attrs["lo"], node.attrs["hi"]),
    "leaky_relu": lambda node, x: F.leaky_relu(x, node.attrs["slope"]),
    "silu": lambda node, x: F.silu(x),
    "gelu": lambda node, x: F.gelu(x),
    "sigmoid": lambda node, x: torch.sigmoid(x),
    "hardswish": lambda node, x: F.hardswish(x),
    "hardsigmoid": lambda node, x: F.hardsigmoid(x),
    "add": lambda node, a, b: a + b,
    "mul": lambda node, a, b: a * b,
    "reduce_mean": lambda node, x: x.mean(node.attrs["axes"], node.attrs["keepdims"]),
    "flatten": lambda node, x: torch.flatten(x, 1),
    "concat": lambda node, *xs: torch.cat(xs, node.attrs["axis"]),
    "split": lambda node, x: torch.split(x, node.attrs["sizes"], node.attrs["axis"]),
    "channel_shuffle": lambda node, x: F.channel_shuffle(x, node.attrs["groups"]),
    "max_pool2d": lambda node, x: F.max_pool2d(x, node.attrs["kernel"], node.attrs["strides"], _pool_padding(node)),
    "avg_pool2d": lambda node, x: F.avg_pool2d(x, node.attrs["kernel"], node.attrs["strides"], _pool_padding(node)),
}
