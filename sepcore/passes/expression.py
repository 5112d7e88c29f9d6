"""Reads the scalar arithmetic around a value, so that one formula is recognised in all its spellings.

It must not change a graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sepcore.ir.graph import Node
from sepcore.passes.rewrite import Rewrite

_CHAIN = 4
"""Scalar operations that one formula puts in a row at most."""

_DEPTH = 8
"""How deep a polynomial's operations are nested at most."""

_DEGREE = 3

Polynomial = tuple[float, ...]
"""Coefficients, the constant one first."""


class Affine(NamedTuple):
    """scale * value + offset."""

    value: str
    scale: float
    offset: float


class Product(NamedTuple):
    """factor * a * b."""

    factor: float
    a: str
    b: str


def close(found: float, wanted: float) -> bool:
    """Whether a number is ``wanted``, give or take float32's rounding of it and of what it was computed from."""
    return math.isclose(found, wanted, rel_tol=1e-6)


def affine(rewrite: Rewrite, name: str) -> Affine:
    """``name`` as scale * value + offset, followed upwards through arithmetic with numbers."""
    scale, offset = 1.0, 0.0
    for _ in range(_CHAIN):
        step = _affine_step(rewrite, name)
        if step is None:
            break
        name, scale, offset = step.value, scale * step.scale, scale * step.offset + offset
    return Affine(name, scale, offset)


def _affine_step(rewrite: Rewrite, name: str) -> Affine | None:
    """One operation with a number, undone."""
    node = rewrite.producer(name, "add", "sub", "mul", "div", "neg")
    if node is None:
        return None
    if node.op == "neg":
        return Affine(node.inputs[0], -1.0, 0.0)
    a, b = node.inputs
    left, right = rewrite.number(a), rewrite.number(b)
    if right is not None and left is None:
        if node.op == "div":
            return Affine(a, 1 / right, 0.0) if right else None
        return {
            "add": Affine(a, 1.0, right),
            "sub": Affine(a, 1.0, -right),
            "mul": Affine(a, right, 0.0),
        }[node.op]
    if left is not None and right is None and node.op != "div":
        return {
            "add": Affine(b, 1.0, left),
            "sub": Affine(b, -1.0, left),
            "mul": Affine(b, left, 0.0),
        }[node.op]
    return None


def products(rewrite: Rewrite, node: Node) -> Iterator[Product]:
    """``node``'s output as factor * a * b, in every way that moves numbers out of a and b, and in both orders."""
    whole = affine(rewrite, node.output)
    product = rewrite.producer(whole.value, "mul")
    if product is None or whole.offset:
        return
    for a in _scaled(rewrite, product.inputs[0]):
        for b in _scaled(rewrite, product.inputs[1]):
            factor = whole.scale * a.scale * b.scale
            yield Product(factor, a.value, b.value)
            yield Product(factor, b.value, a.value)


def _scaled(rewrite: Rewrite, name: str) -> Iterator[Affine]:
    """``name`` as scale * value in every way: as it is, and with its multiplications by numbers undone one by one."""
    scale = 1.0
    yield Affine(name, scale, 0.0)
    for _ in range(_CHAIN):
        step = _affine_step(rewrite, name)
        if step is None or step.offset:
            return
        name, scale = step.value, scale * step.scale
        yield Affine(name, scale, 0.0)


def is_polynomial(rewrite: Rewrite, name: str, base: str, wanted: Polynomial) -> bool:
    """Whether ``name`` is the polynomial ``wanted`` in the value ``base``."""
    found = _polynomial(rewrite, name, base, _DEPTH)
    if found is None:
        return False
    length = max(len(found), len(wanted))
    pairs = zip(_padded(found, length), _padded(wanted, length))
    return all(close(a, b) for a, b in pairs)


def _padded(polynomial: Polynomial, length: int) -> Polynomial:
    return polynomial + (0.0,) * (length - len(polynomial))


def _polynomial(rewrite: Rewrite, name: str, base: str, depth: int) -> Polynomial | None:
    """``name`` as a polynomial in ``base``; None where it is none, or one of a higher degree than any formula has."""
    if name == base:
        return (0.0, 1.0)
    number = rewrite.number(name)
    if number is not None:
        return (number,)
    node = rewrite.producer(name, "add", "sub", "mul", "div", "neg", "pow")
    if node is None or depth == 0:
        return None
    parts = [_polynomial(rewrite, part, base, depth - 1) for part in node.inputs]
    if any(part is None for part in parts):
        return None
    return _combined(node.op, [part for part in parts if part is not None])


def _combined(op: str, parts: list[Polynomial]) -> Polynomial | None:
    a = parts[0]
    if op == "neg":
        return tuple(-c for c in a)
    b = parts[1]
    if op in ("add", "sub"):
        length = max(len(a), len(b))
        sign = 1 if op == "add" else -1
        return tuple(p + sign * q for p, q in zip(_padded(a, length), _padded(b, length)))
    if op == "mul":
        return _multiplied(a, b)
    if len(b) != 1:
        return None
    if op == "div":
        return tuple(c / b[0] for c in a) if b[0] else None
    if b[0] not in (1, 2, 3):
        return None
    power: Polynomial | None = a
    for _ in range(int(b[0]) - 1):
        power = None if power is None else _multiplied(power, a)
    return power


def _multiplied(a: Polynomial, b: Polynomial) -> Polynomial | None:
    if len(a) + len(b) - 2 > _DEGREE:
        return None
    product = np.convolve(a, b)
    return tuple(float(c) for c in product)
