"""ONNX's operators: for each, what it becomes in the graph.

It must not know protobuf. An operator is added as one row in the file of its group.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sepcore.formats.onnx.ops import (
    activation,
    arithmetic,
    convolution,
    layout,
    normalization,
    pooling,
    product,
    reduction,
    resize,
    shape_arithmetic,
)
from sepcore.formats.onnx.ops.refused import refusal
from sepcore.formats.onnx.ops.row import Row

__all__ = ["OPERATORS", "refusal"]

_GROUPS = (
    convolution,
    product,
    pooling,
    normalization,
    activation,
    arithmetic,
    reduction,
    layout,
    resize,
    shape_arithmetic,
)

OPERATORS: Mapping[str, Row] = MappingProxyType({row.name: row for group in _GROUPS for row in group.OPERATORS})
"""Operators of the domain ai.onnx by name."""
