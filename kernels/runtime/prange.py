"""A run shared by the iterations of one ``prange``: Numba's threads claim tiles as the pool's workers do.

No iteration waits for another to start, only for tiles that one has claimed: a run ends on any number of threads, one
included, in any order of iterations. It must not know which threading layer Numba has. Importing it imports numba.
"""

from __future__ import annotations

from typing import Any

from numba import config, get_num_threads, prange, set_num_threads
from numba.extending import register_jitable

from sepcore.kernels import isa as isas
from sepcore.kernels.jit import array_function
from sepcore.kernels.runtime import layout
from sepcore.kernels.runtime.prim import atomic_swap, call_c, float_modes_of, pause_of
from sepcore.kernels.runtime.tiles import open_run, run_is_over, try_claim, work
from sepcore.kernels.words import load_word, store_word


def prange_run(isa: str) -> Any:
    """``run(block, request, threads)``, which compiles at its first call.

    ``block`` is the first lines of a pool block, up to ``layout.CPUS``; it belongs to the call until it returns.
    """
    machine = isas.by_name(isa).machine
    pause = pause_of(machine)
    float_mode, set_float_mode, run_mode = float_modes_of(machine)
    most_threads = config.NUMBA_NUM_THREADS

    @register_jitable(error_model="numpy")
    def share(block: int, thread: int) -> None:
        own_mode = float_mode()
        set_float_mode(run_mode)
        spins, spin_limit = 0, load_word(block + 8 * layout.SPINS)
        # The tile that opening the run claimed belongs to whoever comes first.
        tile = atomic_swap(block + 8 * layout.FIRST_TILE, -1)
        if tile >= 0:
            work(block, thread, tile)
        while run_is_over(block) == 0:
            tile = try_claim(block, thread)
            if tile >= 0:
                work(block, thread, tile)
                spins = 0
            elif spins < spin_limit:
                pause()
                spins += 1
            else:
                call_c(load_word(block + 8 * layout.SCHED_YIELD), 0, 0, 0)
        set_float_mode(own_mode)

    @array_function
    def run(block, request, threads):
        callers_threads = get_num_threads()
        set_num_threads(min(threads, most_threads))
        store_word(block + 8 * layout.FIRST_TILE, open_run(block, request, threads))
        for thread in prange(threads):
            share(block, thread)
        set_num_threads(callers_threads)

    return run
