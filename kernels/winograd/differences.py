"""What a block of 2x2 outputs is multiplied from: differences of its 5x5 inputs, in the order of the packed weights."""

from __future__ import annotations

from typing import Any

from sepcore.kernels.isa import Isa

ADDRESSES_BYTES = 8 * 25
"""Of the table of a block's inputs."""


def differences_of(isa: Isa) -> Any:
    """``differences(table, out, k)`` for other Numba code.

    The addresses of a block's inputs stand at ``table``, row by row. At ``out`` it writes 25 runs of ``k`` float32
    values, a multiple of the lanes, which ``pack`` has the weights for.
    """
    from numba.extending import register_jitable

    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_word

    v = lanes_of(isa)
    load, store, sub, lanes = v.load, v.store, v.sub, v.width

    @register_jitable(error_model="numpy")
    def row_of(table: int, row: int, channel: int) -> Any:
        at = table + 40 * row
        return (
            load(load_word(at) + channel), load(load_word(at + 8) + channel), load(load_word(at + 16) + channel),
            load(load_word(at + 24) + channel), load(load_word(at + 32) + channel),
        )  # fmt: skip

    @register_jitable(error_model="numpy")
    def store_row(row: Any, out: int, run: int, both: int, first: int, second: int) -> None:
        """The same in the other direction: to the run of C, and the first of those of A and of B."""
        store(out + both * run, row[2])
        store(out + first * run, sub(row[0], row[2]))
        store(out + (first + 1) * run, row[1])
        store(out + second * run, sub(row[4], row[2]))
        store(out + (second + 1) * run, row[3])

    @register_jitable(error_model="numpy")
    def less(a: Any, b: Any) -> Any:
        return sub(a[0], b[0]), sub(a[1], b[1]), sub(a[2], b[2]), sub(a[3], b[3]), sub(a[4], b[4])

    @register_jitable(error_model="numpy")
    def differences(table: int, out: int, k: int) -> None:
        run = 4 * k
        for channel in range(0, run, 4 * lanes):
            to, middle = out + channel, row_of(table, 2, channel)
            store_row(middle, to, run, 0, 1, 3)
            store_row(less(row_of(table, 0, channel), middle), to, run, 5, 7, 11)
            store_row(row_of(table, 1, channel), to, run, 6, 9, 13)
            store_row(less(row_of(table, 4, channel), middle), to, run, 15, 17, 21)
            store_row(row_of(table, 3, channel), to, run, 16, 19, 23)

    return differences
