"""Sums of products in Einstein's notation, taken apart into reductions, transpositions and matrix products.

It must not know files: a reader gives the function that adds a node to its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from string import ascii_letters
from typing import Any, Generic, TypeVar

V = TypeVar("V")
Labels = tuple[str, ...]


class Contraction(Generic[V]):
    """One sum of products on its way to the graph's operators.

    Parameters
    ----------
    emit : adds a node of one output: the operator, its operands and attributes.
    lengths : of the axes that a label stands for; None where it is not known.
    """

    def __init__(self, emit: Callable[..., V], lengths: Mapping[str, int | None]) -> None:
        self._emit = emit
        self._lengths = lengths

    def product(self, a: V, of_a: Labels, b: V, of_b: Labels, kept: frozenset[str]) -> tuple[V, Labels]:
        """The product of two operands, summed over what they share and nobody else needs; with its labels."""
        a, of_a = self.summed(a, of_a, kept.union(of_b))
        b, of_b = self.summed(b, of_b, kept.union(of_a))
        shared = [label for label in of_a if label in of_b]
        batch = tuple(label for label in shared if label in kept)
        inner = tuple(label for label in shared if label not in kept)
        rows = tuple(label for label in of_a if label not in shared)
        columns = tuple(label for label in of_b if label not in shared)
        labels = (*batch, *rows, *columns)
        if not inner:
            a = self._placed(self.ordered(a, of_a, (*batch, *rows)), (*batch, *rows), labels)
            return self._emit("mul", a, self._placed(self.ordered(b, of_b, (*batch, *columns)), of_b, labels)), labels
        a = self._joined(self.ordered(a, of_a, (*batch, *rows, *inner)), len(batch), len(rows), len(inner))
        b = self._joined(self.ordered(b, of_b, (*batch, *inner, *columns)), len(batch), len(inner), len(columns))
        made = self._emit("matmul", a, b)
        return (made if len(rows) == len(columns) == 1 else self._spread(made, labels)), labels

    def summed(self, x: V, labels: Labels, kept: frozenset[str]) -> tuple[V, Labels]:
        """``x`` summed over the axes whose labels are not kept."""
        axes = tuple(axis for axis, label in enumerate(labels) if label not in kept)
        if not axes:
            return x, labels
        made = self._emit("reduce_sum", x, axes=axes, keepdims=False)
        return made, tuple(label for label in labels if label in kept)

    def ordered(self, x: V, labels: Labels, wanted: Labels) -> V:
        """``x`` with its axes in another order."""
        perm = tuple(labels.index(label) for label in wanted)
        return x if perm == tuple(range(len(perm))) else self._emit("transpose", x, perm=perm)

    def _placed(self, x: V, labels: Labels, wanted: Labels) -> V:
        """``x`` with axes of length one for labels that it has not."""
        axes = tuple(axis for axis, label in enumerate(wanted) if label not in labels)
        return self._emit("unsqueeze", x, axes=axes) if axes else x

    def _joined(self, x: V, batch: int, first: int, second: int) -> V:
        """``x`` as matrices: two groups of neighbouring axes behind the batch's as one axis each."""
        if second > 1:
            x = self._emit("flatten", x, start_axis=batch + first, end_axis=batch + first + second - 1)
        if first > 1:
            x = self._emit("flatten", x, start_axis=batch, end_axis=batch + first - 1)
        single = tuple(batch + position for position, count in enumerate((first, second)) if count == 0)
        return self._emit("unsqueeze", x, axes=single) if single else x

    def _spread(self, x: V, labels: Labels) -> V:
        """A product of matrices with an axis for each label again."""
        lengths = [self._lengths[label] for label in labels]
        if lengths.count(None) > 1:
            raise ValueError("a sum of products in which several lengths are open")
        return self._emit("reshape", x, shape=tuple(-1 if length is None else length for length in lengths))


def einsum(emit: Callable[..., V], equation: str, operands: Sequence[V], shapes: Sequence[Sequence[Any]]) -> V:
    """The graph's value for a sum of products.

    Parameters
    ----------
    emit : adds a node of one output: the operator, its operands and attributes.
    equation : as numpy and PyTorch take it, ``"bhid, bhjd -> bhij"``.
    operands, shapes : what is multiplied; a length that is no integer is open.

    Raises
    ------
    ValueError : the equation cannot be read, or cannot be expressed; the text says why.
    """
    terms, wanted = _parsed(equation, [len(shape) for shape in shapes])
    lengths: dict[str, int | None] = {}
    for labels, shape in zip(terms, shapes):
        for label, length in zip(labels, shape):
            known = lengths.get(label, 1)
            lengths[label] = length if known == 1 and isinstance(length, int) else None if known == 1 else known
    contraction = Contraction(emit, lengths)
    made, labels = operands[0], terms[0]
    for position in range(1, len(operands)):
        later = frozenset(wanted).union(*terms[position + 1 :])
        made, labels = contraction.product(made, labels, operands[position], terms[position], later)
    made, labels = contraction.summed(made, labels, frozenset(wanted))
    return contraction.ordered(made, labels, wanted)


def _parsed(equation: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result; "..." becomes a label "0", "1" ... for each of its axes."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    given = left.split(",")
    if len(given) != len(ranks):
        raise ValueError(f"the equation {equation[:80]!r} for {len(ranks)} operands")
    widths = [rank - len(term.replace("...", "")) for term, rank in zip(given, ranks)]
    if any(width < 0 or (width and "..." not in term) for term, width in zip(given, widths)):
        raise ValueError(f"the equation {equation[:80]!r} for operands of {', '.join(map(str, ranks))} axes")
    widest = max(widths)
    terms = [_labels(term, tuple(map(str, range(widest - width, widest)))) for term, width in zip(given, widths)]
    if not arrow:
        every = "".join(label for term in given for label in term.replace("...", ""))
        right = ("..." if widest else "") + "".join(sorted(label for label in set(every) if every.count(label) == 1))
    wanted = _labels(right, tuple(map(str, range(widest))))
    for labels in (*terms, wanted):
        if len(set(labels)) != len(labels):
            raise ValueError(f"a diagonal, in the equation {equation[:80]!r}")
    if not set(wanted) <= set().union(*terms):
        raise ValueError(f"the equation {equation[:80]!r}, whose result has an axis that no operand has")
    return terms, wanted


def _labels(term: str, rest: Labels) -> Labels:
    before, dots, after = term.partition("...")
    if any(label not in ascii_letters for label in before + after):
        raise ValueError(f"the labels {term[:80]!r}")
    return (*before, *(rest if dots else ()), *after)
