"""Name symbolic lengths: ``Mul(Integer(2), Symbol('s44', positive=True, integer=True))`` becomes ``2*s44``.

It must not evaluate anything: the text is a name, by which equal lengths are recognised.
"""

from __future__ import annotations

import re

MAX_DEPTH = 32
MAX_TEXT = 1 << 10

_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>-?\d+)|'(?P<quoted>[^']*)'|(?P<mark>[(),=]))")

_INFIX = {"Add": " + ", "Mul": "*", "Pow": "**"}


def length_name(text: str) -> str:
    """A short name for a symbolic length.

    PyTorch 2.5 writes ``2*s2``, which is the name; later ones write SymPy's ``srepr``. What is neither is its own name.
    """
    try:
        return _Srepr(text).name() if "(" in text else text
    except ValueError:
        return text


class _Srepr:
    """A parser of calls, words and integers, nothing else."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise ValueError
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError
            self._tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            position = match.end()
        self._next = 0

    def name(self) -> str:
        """The whole text as a name."""
        name = self._expression(0)
        if self._next != len(self._tokens):
            raise ValueError
        return name

    def _take(self) -> tuple[str, str]:
        if self._next == len(self._tokens):
            raise ValueError
        self._next += 1
        return self._tokens[self._next - 1]

    def _expression(self, depth: int) -> str:
        kind, text = self._take()
        if kind in ("number", "quoted"):
            return text
        if kind != "name" or depth == MAX_DEPTH:
            raise ValueError
        if self._next == len(self._tokens) or self._tokens[self._next][1] != "(":
            return text
        self._next += 1
        return self._called(text, self._arguments(depth + 1))

    def _arguments(self, depth: int) -> list[str]:
        """Positional arguments up to the closing bracket; those by keyword say what is assumed of a symbol."""
        arguments: list[str] = []
        while True:
            argument = self._expression(depth)
            kind, mark = self._take()
            if mark == "=":
                self._expression(depth)
                kind, mark = self._take()
            else:
                arguments.append(argument)
            if kind != "mark" or mark not in ",)":
                raise ValueError
            if mark == ")":
                return arguments

    @staticmethod
    def _called(function: str, arguments: list[str]) -> str:
        if function in ("Symbol", "Integer") and len(arguments) == 1:
            return arguments[0]
        if function in _INFIX:
            return _INFIX[function].join(f"({a})" if function != "Add" and " " in a else a for a in arguments)
        return f"{function}({', '.join(arguments)})"
