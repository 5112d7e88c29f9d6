"""Kinds of attribute values and the check that each passes; the operators' rows are made of these.

It must not know operators or shapes, except which activations may be named in an ``activation`` attribute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

REQUIRED: Final = object()
"""Stands for the default of an attribute that has none."""

FUSABLE_ACTIVATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "relu": (),
    "clamp": ("lo", "hi"),
    "leaky_relu": ("slope",),
    "hardswish": (),
    "hardsigmoid": (),
    "silu": (),
    "sigmoid": (),
}
"""What an ``activation`` attribute may name: operator -> its attributes, in the order of the tuple's other items."""


@dataclass(frozen=True)
class Kind:
    """What an attribute may hold, in words and as a check."""

    text: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Attribute:
    """An attribute's kind and default."""

    kind: Kind
    default: Any = REQUIRED

    def accepts(self, found: Any) -> bool:
        """Whether ``found`` is of the kind, or the default itself."""
        return (found is None and self.default is None) or self.kind.accepts(found)

    def with_default(self, default: Any) -> Attribute:
        """The same kind with a default; None also makes None an allowed value."""
        return replace(self, default=default)


def _is_int(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool)


def _is_float(found: Any) -> bool:
    return isinstance(found, (int, float)) and not isinstance(found, bool) and not math.isnan(found)


def _ints(length: int | None, least: int | None) -> Callable[[Any], bool]:
    def accepts(found: Any) -> bool:
        return (
            isinstance(found, tuple)
            and (length is None or len(found) == length)
            and all(_is_int(item) and (least is None or item >= least) for item in found)
        )

    return accepts


_DTYPE_NAMES = frozenset(np.dtype(code).name for code in "?bhiqBHIQefd")


def _is_dtype(found: Any) -> bool:
    # None is a dtype for NumPy, and its parser of texts raises more than it says.
    if isinstance(found, str):
        return found in _DTYPE_NAMES
    if not isinstance(found, (np.dtype, type)):
        return False
    try:
        return np.dtype(found).kind in "biuf"
    except TypeError:
        return False


def _is_activation(found: Any) -> bool:
    return (
        isinstance(found, tuple)
        and len(found) > 0
        and found[0] in FUSABLE_ACTIVATIONS
        and len(found) == 1 + len(FUSABLE_ACTIVATIONS[found[0]])
        and all(map(_is_float, found[1:]))
    )


def one_of(*allowed: str) -> Attribute:
    """An attribute that is one of a few words."""
    return Attribute(Kind(" or ".join(map(repr, allowed)), lambda found: isinstance(found, str) and found in allowed))


INT = Attribute(Kind("an integer", _is_int))
COUNT = Attribute(Kind("a positive integer", lambda found: _is_int(found) and found >= 1))
FLAG = Attribute(Kind("True or False", lambda found: isinstance(found, bool)))
FLOAT = Attribute(Kind("a number", _is_float))
INTS = Attribute(Kind("a tuple of integers", _ints(None, None)))
LENGTHS = Attribute(Kind("a tuple of positive integers", _ints(None, 1)))
COUNTS = Attribute(Kind("two positive integers (y, x)", _ints(2, 1)))
OFFSETS = Attribute(Kind("two integers >= 0 (y, x)", _ints(2, 0)))
EDGES = Attribute(Kind("four integers >= 0 (top, left, bottom, right)", _ints(4, 0)))
PADDING = Attribute(
    Kind(
        f"{EDGES.kind.text}, 'same' or 'same_lower'",
        lambda found: EDGES.kind.accepts(found) or (isinstance(found, str) and found in ("same", "same_lower")),
    )
)
SCALES = Attribute(
    Kind(
        "two positive numbers (y, x)",
        lambda found: isinstance(found, tuple) and len(found) == 2 and all(_is_float(s) and s > 0 for s in found),
    )
)
PADS = Attribute(
    Kind(
        "a pair of integers (before, after) per axis",
        lambda found: isinstance(found, tuple) and all(map(_ints(2, None), found)),
    )
)
DTYPE = Attribute(Kind("a number's dtype", _is_dtype))
ACTIVATION = Attribute(
    Kind(
        " or ".join(str((name, *names)) for name, names in FUSABLE_ACTIVATIONS.items()),
        _is_activation,
    ),
    default=None,
)
