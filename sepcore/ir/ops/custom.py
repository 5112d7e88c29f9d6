"""Operators that users have registered: their rows, and the names by which files know them.

It must not know what an operator computes, nor how. Names are entered by :mod:`sepcore.ops`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepcore.ir.ops.operator import Operator

PREFIX = "custom."
"""Users' operators are called so in a graph, with their own name behind it."""


@dataclass(frozen=True)
class UserOperator:
    """A user's operator.

    Attributes
    ----------
    operator : its row; the row's name begins with PREFIX.
    elementwise : whether it is a function of one element, and so may stand for an activation.
    names : what files call it: ``domain::Op`` in ONNX, ``library::op`` or ``library::op.overload`` in PyTorch.
    """

    operator: Operator
    elementwise: bool
    names: tuple[str, ...]


_registered: dict[str, UserOperator] = {}
_by_name: dict[str, UserOperator] = {}


def add(operator: UserOperator) -> None:
    """Enter an operator; its names must be free."""
    _registered[operator.operator.name] = operator
    _by_name.update(dict.fromkeys(operator.names, operator))


def remove(op: str) -> None:
    """Take an operator out, by its name in a graph."""
    for name in _registered.pop(op).names:
        del _by_name[name]


def find(op: str) -> UserOperator | None:
    """The operator of that name in a graph, if it is registered."""
    return _registered.get(op)


def named(*names: str) -> UserOperator | None:
    """The operator that a file calls by one of ``names``, if one is registered."""
    return next((_by_name[name] for name in names if name in _by_name), None)


def registered() -> dict[str, UserOperator]:
    """All operators that are registered now, by their names in a graph."""
    return dict(_registered)


def activations() -> list[str]:
    """Names, without PREFIX, of the operators that may stand for an activation."""
    return [op.removeprefix(PREFIX) for op, row in _registered.items() if row.elementwise]


def advice(op: str) -> str:
    """What to do where the operator ``op`` of a graph is not registered; "" for one that is no user's."""
    if not op.startswith(PREFIX) or op in _registered:
        return ""
    return f"the operator {op.removeprefix(PREFIX)!r}, registered with @sepcore.op before the network is opened"
