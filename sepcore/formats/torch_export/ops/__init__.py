"""PyTorch's ATen operators: for each, what it becomes in the graph.

It must not know files. An operator is added as one row in the file of its group.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sepcore.formats.torch_export.aliasing import Scatter
from sepcore.formats.torch_export.ops import (
    activation,
    arithmetic,
    choice,
    convolution,
    creation,
    layout,
    normalization,
    pooling,
    product,
    reduction,
    resize,
    symbolic,
)
from sepcore.formats.torch_export.ops.refused import is_assertion, refusal
from sepcore.formats.torch_export.ops.row import Row

__all__ = ["OPERATORS", "SCATTERS", "is_assertion", "refusal"]

_GROUPS = (
    convolution,
    product,
    pooling,
    normalization,
    activation,
    arithmetic,
    reduction,
    layout,
    choice,
    resize,
    creation,
    symbolic,
)

OPERATORS: Mapping[str, Row] = MappingProxyType(
    {name: row for group in _GROUPS for name, row in group.OPERATORS.items()}
)
"""Operators by name and overload, without a side effect; the translator finds in-place variants by these names."""

SCATTERS: Mapping[str, Scatter] = MappingProxyType(
    {
        "aten.slice.Tensor": choice.slice_replaced,
        "aten.select.int": choice.element_replaced,
        "aten.view.default": layout.refilled,
        "aten.unsqueeze.default": layout.refilled,
        "aten.squeeze.dim": layout.refilled,
        "aten.squeeze.default": layout.refilled,
        "aten.permute.default": layout.permuted_back,
        "aten.transpose.int": layout.permuted_back,
        "aten.t.default": layout.permuted_back,
    }
)
"""How a write to a view changes what it is a view of, by the operator that made the view."""
