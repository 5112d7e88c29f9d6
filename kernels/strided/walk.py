"""How strided kernels divide six axes into units of work: the words of a step, and where a unit's operands begin.

Four outer axes, then rows and columns; a unit is at most ROW_CHUNK rows of COLUMN_CHUNK columns at one place of the
outer axes. Strides are in bytes, of any sign, 0 where an operand repeats. It must not know what is done with a unit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sepcore.kernels import step

AXES = 6

LENGTHS = step.FIRST_SHAPE
X_STRIDES = LENGTHS + AXES
OUT_STRIDES = X_STRIDES + AXES
EXTRA_STRIDES = OUT_STRIDES + AXES
ROW_CHUNK, COLUMN_CHUNK, BLOCKS = range(EXTRA_STRIDES + AXES, EXTRA_STRIDES + AXES + 3)

ROW, COLUMN = AXES - 2, AXES - 1


class Walk(NamedTuple):
    """Functions of Numba code on the step at an address.

    ``count(at)``: its units. ``extent(at, unit)``: rows and columns of a unit. ``place(at, unit, strides)``: bytes from
    an operand's start to the unit's first element, for the operand whose strides begin at the word ``strides``.
    """

    count: Callable[[int], int]
    extent: Callable[[int, int], tuple[int, int]]
    place: Callable[[int, int, int], int]


def walk() -> Walk:
    """The functions; importing what they need imports numba."""
    from numba.extending import register_jitable

    from sepcore.kernels.words import load_word

    @register_jitable(error_model="numpy")
    def chunks(at: int, axis: int, chunk: int) -> Any:
        size = load_word(at + 8 * chunk)
        return (load_word(at + 8 * (LENGTHS + axis)) + size - 1) // size

    @register_jitable(error_model="numpy")
    def count(at: int) -> Any:
        total = chunks(at, ROW, ROW_CHUNK) * chunks(at, COLUMN, COLUMN_CHUNK)
        for axis in range(ROW):
            total *= load_word(at + 8 * (LENGTHS + axis))
        return total

    @register_jitable(error_model="numpy")
    def extent(at: int, unit: int) -> tuple[int, int]:
        across, down = chunks(at, COLUMN, COLUMN_CHUNK), chunks(at, ROW, ROW_CHUNK)
        rows, columns = load_word(at + 8 * ROW_CHUNK), load_word(at + 8 * COLUMN_CHUNK)
        first_row, first_column = unit // across % down * rows, unit % across * columns
        return (
            min(rows, load_word(at + 8 * (LENGTHS + ROW)) - first_row),
            min(columns, load_word(at + 8 * (LENGTHS + COLUMN)) - first_column),
        )

    @register_jitable(error_model="numpy")
    def place(at: int, unit: int, strides: int) -> Any:
        across, down = chunks(at, COLUMN, COLUMN_CHUNK), chunks(at, ROW, ROW_CHUNK)
        offset = unit % across * load_word(at + 8 * COLUMN_CHUNK) * load_word(at + 8 * (strides + COLUMN))
        rest = unit // across
        offset += rest % down * load_word(at + 8 * ROW_CHUNK) * load_word(at + 8 * (strides + ROW))
        rest //= down
        for axis in range(ROW - 1, -1, -1):
            length = load_word(at + 8 * (LENGTHS + axis))
            offset += rest % length * load_word(at + 8 * (strides + axis))
            rest //= length
        return offset

    return Walk(count, extent, place)
