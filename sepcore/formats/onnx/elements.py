"""Which elements of a computed shape are known: exporters put shapes together from known lengths and open ones.

It must not touch what is no shape: whole arrays are for the reference interpreter, which folds constants.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sepcore.formats.onnx.step import Elements, Operand

_MOST = 64
_LARGEST = 1 << 62


def known_elements(op: str, operands: Sequence[Operand | None], attrs: Mapping[str, Any]) -> Elements | None:
    """The elements of a node's only output; None for each that is not known, or for all where it is no shape.

    Parameters
    ----------
    op : one of the graph's operators.
    operands : its inputs; None where an optional one is absent.
    attrs : its attributes.
    """
    if op == "shape" and operands[0] is not None:
        return operands[0].shape
    given = [elements_of(operand) for operand in operands]
    rule = _RULES.get(op)
    found = [elements for elements in given if elements is not None]
    if rule is None or len(found) < len(given):
        return None
    result = rule(found, attrs)
    return result if result is not None and len(result) <= _MOST else None


def elements_of(operand: Operand | None) -> Elements | None:
    """The elements of ``operand``, in one row, where it is small and holds integers."""
    if operand is None or operand.dtype.kind not in "iu" or operand.rank > 1:
        return None
    if operand.content is None:
        return operand.elements
    return tuple(int(item) for item in operand.content.reshape(-1)) if operand.content.size <= _MOST else None


def _same(given: Sequence[Elements], attrs: Mapping[str, Any]) -> Elements | None:
    return given[0]


def _slice(given: Sequence[Elements], attrs: Mapping[str, Any]) -> Elements | None:
    if len(given) > 1 or len(attrs["axes"]) != 1:
        return None
    return given[0][attrs["starts"][0] : attrs["ends"][0] : attrs["steps"][0]]


def _gather(given: Sequence[Elements], attrs: Mapping[str, Any]) -> Elements | None:
    elements, indices = given
    known = [index for index in indices if index is not None and -len(elements) <= index < len(elements)]
    return tuple(elements[index] for index in known) if len(known) == len(indices) else None


def _concat(given: Sequence[Elements], attrs: Mapping[str, Any]) -> Elements | None:
    return tuple(element for elements in given for element in elements) if sum(map(len, given)) <= _MOST else None


def _divided(a: int, b: int) -> int:
    """The quotient, truncated towards zero."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _binary(function: Callable[[int, int], int]) -> Callable[[Sequence[Elements], Mapping[str, Any]], Elements | None]:
    def rule(given: Sequence[Elements], attrs: Mapping[str, Any]) -> Elements | None:
        a, b = given
        if len(a) != len(b) and 1 not in (len(a), len(b)):
            return None
        a, b = a * (len(b) if len(a) == 1 else 1), b * (len(a) if len(b) == 1 else 1)
        return tuple(map(joined, a, b))

    def joined(a: int | None, b: int | None) -> int | None:
        try:
            number = None if a is None or b is None else function(a, b)
        except ZeroDivisionError:
            return None
        return number if number is None or abs(number) <= _LARGEST else None

    return rule


_RULES: dict[str, Callable[[Sequence[Elements], Mapping[str, Any]], Elements | None]] = {
    **dict.fromkeys(("cast", "reshape", "squeeze", "unsqueeze", "flatten"), _same),
    "slice": _slice,
    "gather": _gather,
    "concat": _concat,
    "add": _binary(operator.add),
    "sub": _binary(operator.sub),
    "mul": _binary(operator.mul),
    "div": _binary(_divided),
    "floor_div": _binary(operator.floordiv),
    "mod": _binary(operator.mod),
    "maximum": _binary(max),
    "minimum": _binary(min),
}
