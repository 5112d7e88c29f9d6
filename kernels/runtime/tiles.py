"""How threads take the tiles of a program's steps: one word says what is left, and is changed by compare-and-swap.

A step ends when all its tiles are done, and whoever finished the last one opens the next: nobody waits for a thread to
arrive, only for claimed tiles. It must not know how threads wait or sleep.
"""

from __future__ import annotations

from numba.extending import register_jitable

from sepcore.kernels import step
from sepcore.kernels.runtime import layout
from sepcore.kernels.runtime.prim import (
    atomic_add,
    atomic_load,
    atomic_store,
    atomic_swap,
    call_kernel,
    compare_and_swap,
)
from sepcore.kernels.words import load_word, store_word

_TICKET_SHIFT, _TICKET_MASK = layout.TICKET_SHIFT, layout.TICKET_MASK
_BACK_SHIFT, _TILE_MASK = layout.BACK_SHIFT, layout.MAX_TILES


@register_jitable(error_model="numpy")
def _ticket(pool: int) -> int:
    ticket: int = (atomic_load(pool + 8 * layout.STATE) >> _TICKET_SHIFT) & _TICKET_MASK
    return ticket


@register_jitable(error_model="numpy")
def run_is_over(pool: int) -> int:
    """1 when no step is open."""
    over = 0
    if _ticket(pool) == atomic_load(pool + 8 * layout.RUN_END):
        over = 1
    return over


@register_jitable(error_model="numpy")
def try_claim(pool: int, thread: int) -> int:
    """A tile of the open step for ``thread``, or -1.

    Even threads take tiles from the front and odd ones from the back: two threads then mostly read what they wrote in
    the step before. What is read of the run before the claim is right if the claim succeeds: had the run ended in
    between, STATE would have changed for good.
    """
    tile = -1
    while True:
        state = atomic_load(pool + 8 * layout.STATE)
        front, back = state & _TILE_MASK, (state >> _BACK_SHIFT) & _TILE_MASK
        if front >= back or thread >= atomic_load(pool + 8 * layout.RUN_THREADS):
            break
        if thread & 1 == 0:
            if compare_and_swap(pool + 8 * layout.STATE, state, state + 1) != 0:
                tile = front
                break
        elif compare_and_swap(pool + 8 * layout.STATE, state, state - (1 << _BACK_SHIFT)) != 0:
            tile = back - 1
            break
    return tile


@register_jitable(error_model="numpy")
def _open_step(pool: int, at: int, image: int, thread: int) -> int:
    """Open the step at ``at``, or none where it is 0; returns the tile that ``thread`` has of it, -1 for none."""
    tile, front, back = -1, 0, 0
    if at != 0:
        back = load_word(at + 8 * step.TILES)
        if thread & 1 == 0:
            tile, front = 0, 1
        else:
            back -= 1
            tile = back
    store_word(pool + 8 * layout.STEP, at)
    store_word(pool + 8 * layout.IMAGE, image)
    store_word(pool + 8 * layout.DONE, 0)
    ticket = (_ticket(pool) + 1) & _TICKET_MASK
    # A swap, not a store: a caller looks for sleeping workers next, and must not do so before they can see this.
    atomic_swap(pool + 8 * layout.STATE, (ticket << _TICKET_SHIFT) | (back << _BACK_SHIFT) | front)
    return tile


@register_jitable(error_model="numpy")
def open_run(pool: int, request: int, threads: int) -> int:
    """Begin to run ``request`` with up to ``threads`` threads; returns the first tile, which is the caller's."""
    program, steps = load_word(request + 8 * layout.PROGRAM), load_word(request + 8 * layout.STEPS)
    images = load_word(request + 8 * layout.IMAGES)
    store_word(pool + 8 * layout.RUN_PROGRAM, program)
    store_word(pool + 8 * layout.RUN_PROGRAM_END, program + steps * step.STEP_BYTES)
    store_word(pool + 8 * layout.RUN_IMAGES, images)
    store_word(pool + 8 * layout.RUN_BLOCKS, load_word(request + 8 * layout.THREAD_BLOCKS))
    store_word(pool + 8 * layout.RUN_BLOCK_BYTES, load_word(request + 8 * layout.THREAD_BLOCK_BYTES))
    atomic_store(pool + 8 * layout.RUN_THREADS, threads)
    atomic_store(pool + 8 * layout.RUN_END, (_ticket(pool) + 1 + steps * images) & _TICKET_MASK)
    tile: int = _open_step(pool, program, 0, 0)
    return tile


@register_jitable(error_model="numpy")
def _open_next(pool: int, thread: int) -> int:
    at = load_word(pool + 8 * layout.STEP) + step.STEP_BYTES
    image = load_word(pool + 8 * layout.IMAGE)
    if at == load_word(pool + 8 * layout.RUN_PROGRAM_END):
        at = load_word(pool + 8 * layout.RUN_PROGRAM)
        image += 1
        if image == load_word(pool + 8 * layout.RUN_IMAGES):
            at = 0
    tile: int = _open_step(pool, at, image, thread)
    return tile


@register_jitable(error_model="numpy")
def work(pool: int, thread: int, tile: int) -> None:
    """Do the claimed ``tile``, then whatever can be had without waiting."""
    block = load_word(pool + 8 * layout.RUN_BLOCKS) + thread * load_word(pool + 8 * layout.RUN_BLOCK_BYTES)
    while tile >= 0:
        at = load_word(pool + 8 * layout.STEP)
        image = load_word(pool + 8 * layout.IMAGE)
        tiles = load_word(at + 8 * step.TILES)
        done = 0
        while tile >= 0:
            call_kernel(load_word(at + 8 * step.CODE), at, tile, block, image)
            done += 1
            # Of the same step: it cannot end before this thread has counted its tiles.
            tile = try_claim(pool, thread)
        if atomic_add(pool + 8 * layout.DONE, done) + done == tiles:
            tile = _open_next(pool, thread)
