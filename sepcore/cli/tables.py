"""Aligned columns of text for a terminal; knows nothing of what is in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sepcore.cli import printable

_NUMBER = re.compile(r"([0-9][0-9,.]*(e[+-][0-9]+)?|inf)x?")


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; those of numbers are flush right."""
    shown = [[printable(cell) for cell in line] for line in (head, *lines)]
    widths = [max(map(len, column)) for column in zip(*shown)]
    right = {i for i, (_, *cells) in enumerate(zip(*shown)) if all(_NUMBER.fullmatch(cell) for cell in cells if cell)}
    text = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in shown
    ]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]]) + "\n"
