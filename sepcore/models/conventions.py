"""What a state dict cannot say of its network: activation, BatchNorm eps, padding style; and who may choose them.

It must not know a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from sepcore.errors import OptionError
from sepcore.ir.ops import custom

ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, float]]] = MappingProxyType(
    {
        "relu": ("relu", {}),
        "relu6": ("clamp", {"lo": 0.0, "hi": 6.0}),
        "hardswish": ("hardswish", {}),
        "hardsigmoid": ("hardsigmoid", {}),
        "sigmoid": ("sigmoid", {}),
        "silu": ("silu", {}),
        "gelu": ("gelu", {}),
        "leaky_relu": ("leaky_relu", {}),
    }
)
"""An activation's name -> its operator and attributes; a leaky ReLU's slope is a convention of its own."""


def activation_operator(kind: str) -> tuple[str, Mapping[str, float]]:
    """Operator and attributes of an activation: one of ACTIVATIONS or a user's operator."""
    return ACTIVATIONS.get(kind, (f"{custom.PREFIX}{kind}", {}))


def _activations() -> list[str]:
    return [*ACTIVATIONS, *custom.activations()]


PADDINGS = ("symmetric", "same")
"""``kernel // 2`` on every side as in PyTorch, or TensorFlow's rule, which puts the odd element at the end."""


@dataclass(frozen=True)
class Conventions:
    """What a family, or the user, says of a network beyond its weights.

    Attributes
    ----------
    activation : one of ACTIVATIONS, or a user's operator; blocks to which the family gives another one keep that.
    bn_eps : the number that BatchNorm adds to the variance.
    padding : one of PADDINGS, for the convolutions with a stride.
    leaky_slope : slope for negative values where ``activation`` is "leaky_relu".
    downsampling : how blocks with a stride thin out a map: "stride" in the convolution, or after its activation by
        "average" over 2x2 or "blur" with a binomial 3x3 filter. Not a user's choice: networks so built have names.
    """

    activation: str = "relu"
    bn_eps: float = 1e-5
    padding: str = "symmetric"
    leaky_slope: float | None = None
    downsampling: str = "stride"


OVERRIDES = ("activation", "bn_eps", "padding", "leaky_slope")


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Raise an OptionError for an override that no family knows, or whose value is not allowed."""
    for name, found in overrides.items():
        if name not in OVERRIDES:
            raise OptionError(f"{name}: expected one of the overrides {', '.join(OVERRIDES)}")
        expected, fits = _ALLOWED[name]
        if not fits(found):
            raise OptionError(f"{name}: expected {expected()}, found {found!r}")


def _is_number(found: Any) -> bool:
    return isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found)


_ALLOWED: Mapping[str, tuple[Callable[[], str], Callable[[Any], bool]]] = {
    "activation": (
        lambda: f"one of {', '.join(_activations())}, or an operator registered with @sepcore.op",
        lambda found: isinstance(found, str) and found in _activations(),
    ),
    "bn_eps": (lambda: "a positive number", lambda found: _is_number(found) and found > 0),
    "padding": (
        lambda: f"one of {', '.join(PADDINGS)}",
        lambda found: isinstance(found, str) and found in PADDINGS,
    ),
    "leaky_slope": (lambda: "a number of at least 0", lambda found: _is_number(found) and found >= 0),
}


def overridden(
    family: str, conventions: Conventions, overrides: Mapping[str, Any], known: Collection[str]
) -> Conventions:
    """The family's conventions with the user's choices.

    Raises
    ------
    OptionError
        The family does not know one of the overrides, or a slope is missing or of no meaning.
    """
    for name in overrides:
        if name not in known:
            raise OptionError(f"{name}: expected an override that {family} knows ({', '.join(known)})")
    chosen = replace(conventions, **overrides)
    if chosen.activation == "leaky_relu" and chosen.leaky_slope is None:
        raise OptionError(
            f"leaky_slope: the slope of {family}'s leaky ReLU is not in the file; pass the one that it was "
            "trained with, such as leaky_slope=0.1 (leaky_slope=0 is a plain ReLU)"
        )
    if chosen.activation != "leaky_relu" and chosen.leaky_slope is not None:
        raise OptionError(f"leaky_slope: has no meaning here: the activation of {family} is {chosen.activation}")
    return chosen
