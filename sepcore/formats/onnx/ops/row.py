"""What the tables of operators are made of.

It must not know any operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sepcore.formats.onnx.step import Operand, Step

MANY = 1 << 16
"""Inputs of an operator that takes any number."""


class Row(NamedTuple):
    """An ONNX operator.

    Attributes
    ----------
    name : ``op_type``.
    translate : what it becomes; differences between opsets are settled inside.
    least, most : number of inputs that may be listed.
    """

    name: str
    translate: Callable[[Step], Operand | Sequence[Operand]]
    least: int
    most: int
