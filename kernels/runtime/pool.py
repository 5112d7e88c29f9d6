"""A pool of threads that run a program together with its caller: who takes part, how they wait, sleep and are woken.

It must not know what steps compute, and it uses the C library only through the addresses in the pool block, so that
the same code serves every system with POSIX threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels.runtime import layout
from sepcore.kernels.spec import KernelSpec

# A neighbour that shares a worker's CPU makes most runs slower than one thread alone. A second slow run within so many
# makes the pool rest: the next runs are made alone, twice as many each time, half as many for so many fast in a row.
_DOUBT = 16
_FIRST_REST, _LONGEST_REST = 4, 64
_REST_SLACK = 50_000_000  # nanoseconds between the runs of a rest, all together; after more the pool is tried again
# Within a run a thread spins this many times as long as after it before it gives its CPU away: on a machine with other
# work it may not get it back for milliseconds.
_PATIENCE = 16


def pool_run_row(isa: str) -> KernelSpec:
    """``pool_run(pool, request)``: 1 when the request was run, 0 when the caller has to run it alone."""
    return KernelSpec(f"pool_run__{isa}", "runtime", isa, None, _pool_run, arity=2)


def pool_worker_row(isa: str) -> KernelSpec:
    """``pool_worker(pool, thread)``: work for the pool as ``thread``, 1 or more, until it is stopped."""
    return KernelSpec(f"pool_worker__{isa}", "runtime", isa, None, _pool_worker, arity=2)


def pool_stop_row(isa: str) -> KernelSpec:
    """``pool_stop(pool)``: ask all workers to return, and wake them."""
    return KernelSpec(f"pool_stop__{isa}", "runtime", isa, None, _pool_stop, arity=1)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    yield pool_run_row(isa)
    yield pool_worker_row(isa)
    yield pool_stop_row(isa)


def _pool_run(spec: KernelSpec) -> Callable[[int, int], int]:
    from sepcore.kernels.runtime.clock import now
    from sepcore.kernels.runtime.prim import atomic_add, atomic_store, atomic_swap, call_c, float_modes_of, pause_of
    from sepcore.kernels.runtime.tiles import open_run, run_is_over, try_claim, work
    from sepcore.kernels.words import load_word, store_word

    machine = isas.by_name(spec.isa).machine
    pause = pause_of(machine)
    float_mode, set_float_mode, run_mode = float_modes_of(machine)
    wake, judge = _waking(), _judge()

    def pool_run(pool: int, request: int) -> int:
        ran = 0
        others = atomic_add(pool + 8 * layout.CALLS, 1)
        # Calls that run alone have a CPU of their own: fewer are left for this one's workers.
        threads = min(load_word(request + 8 * layout.THREADS), load_word(pool + 8 * layout.WORKERS) + 1 - others)
        if threads > 1 and atomic_swap(pool + 8 * layout.BUSY, 1) == 0:
            rest = load_word(pool + 8 * layout.REST)
            if rest > 0 and now(pool, request) >= load_word(pool + 8 * layout.REST_END):
                rest = 0
            store_word(pool + 8 * layout.REST, max(0, rest - 1))
            if rest == 0:
                ran = 1
                callers_mode = float_mode()
                set_float_mode(run_mode)
                begin, waited, spins = now(pool, request), 0, 0
                spin_limit = load_word(pool + 8 * layout.SPINS)
                tile = open_run(pool, request, threads)
                wake(pool, threads)
                work(pool, 0, tile)
                while run_is_over(pool) == 0:
                    tile = try_claim(pool, 0)
                    if tile >= 0:
                        work(pool, 0, tile)
                        spins = 0
                    elif spins < spin_limit:
                        pause()
                        spins += 1
                    else:
                        before = now(pool, request)
                        if spins < _PATIENCE * spin_limit:
                            pause()
                            spins += 1
                        else:
                            call_c(load_word(pool + 8 * layout.SCHED_YIELD), 0, 0, 0)
                        waited += now(pool, request) - before
                judge(pool, request, threads, begin, now(pool, request), waited)
                set_float_mode(callers_mode)
            atomic_store(pool + 8 * layout.BUSY, 0)
        atomic_add(pool + 8 * layout.CALLS, -1)
        return ran

    return pool_run


def _pool_worker(spec: KernelSpec) -> Callable[[int, int], None]:
    from sepcore.kernels.runtime.prim import atomic_load, atomic_swap, call_c, float_modes_of, pause_of
    from sepcore.kernels.runtime.tiles import run_is_over, try_claim, work
    from sepcore.kernels.words import load_word

    machine = isas.by_name(spec.isa).machine
    pause = pause_of(machine)
    float_mode, set_float_mode, run_mode = float_modes_of(machine)
    worker_address = _worker_address()

    def pool_worker(pool: int, thread: int) -> None:
        own_mode = float_mode()
        set_float_mode(run_mode)
        me = worker_address(pool, thread)
        spins = 0
        spin_limit = load_word(pool + 8 * layout.SPINS)
        while atomic_load(me + 8 * layout.STOP) == 0:
            tile = try_claim(pool, thread)
            if tile >= 0:
                work(pool, thread, tile)
                spins = 0
            elif spins < spin_limit:
                pause()
                spins += 1
            elif run_is_over(pool) == 0 and thread < atomic_load(pool + 8 * layout.RUN_THREADS):
                if spins < _PATIENCE * spin_limit:
                    pause()
                    spins += 1
                else:
                    call_c(load_word(pool + 8 * layout.SCHED_YIELD), 0, 0, 0)
            else:
                atomic_swap(me + 8 * layout.ASLEEP, 1)
                # Callers look at ASLEEP after they opened a run, this looks for one after ASLEEP: one of both sees.
                idle = run_is_over(pool) != 0 or thread >= atomic_load(pool + 8 * layout.RUN_THREADS)
                if idle and atomic_load(me + 8 * layout.STOP) == 0:
                    call_c(load_word(pool + 8 * layout.MUTEX_LOCK), me + 8 * layout.MUTEX, 0, 0)
                    while atomic_load(me + 8 * layout.ASLEEP) != 0:
                        call_c(load_word(pool + 8 * layout.COND_WAIT), me + 8 * layout.COND, me + 8 * layout.MUTEX, 0)
                    call_c(load_word(pool + 8 * layout.MUTEX_UNLOCK), me + 8 * layout.MUTEX, 0, 0)
                atomic_swap(me + 8 * layout.ASLEEP, 0)
                spins = 0
        set_float_mode(own_mode)

    return pool_worker


def _pool_stop(spec: KernelSpec) -> Callable[[int], None]:
    from sepcore.kernels.runtime.prim import atomic_swap
    from sepcore.kernels.words import load_word

    worker_address, rouse = _worker_address(), _rouse()

    def pool_stop(pool: int) -> None:
        for thread in range(1, load_word(pool + 8 * layout.WORKERS) + 1):
            worker = worker_address(pool, thread)
            atomic_swap(worker + 8 * layout.STOP, 1)
            rouse(pool, worker)

    return pool_stop


def _worker_address() -> Any:
    from numba.extending import register_jitable

    @register_jitable(error_model="numpy")
    def worker_address(pool: int, thread: int) -> int:
        return pool + 8 * (layout.FIRST_WORKER + (thread - 1) * layout.WORKER_WORDS)

    return worker_address


def _rouse() -> Any:
    from numba.extending import register_jitable

    from sepcore.kernels.runtime.prim import atomic_load, atomic_swap, call_c
    from sepcore.kernels.words import load_word

    @register_jitable(error_model="numpy")
    def rouse(pool: int, worker: int) -> None:
        """Wake a worker if it sleeps."""
        if atomic_load(worker + 8 * layout.ASLEEP) != 0 and atomic_swap(worker + 8 * layout.ASLEEP, 0) != 0:
            # Through the mutex: it is then either in the wait, or has yet to see that ASLEEP is 0.
            call_c(load_word(pool + 8 * layout.MUTEX_LOCK), worker + 8 * layout.MUTEX, 0, 0)
            call_c(load_word(pool + 8 * layout.MUTEX_UNLOCK), worker + 8 * layout.MUTEX, 0, 0)
            call_c(load_word(pool + 8 * layout.COND_SIGNAL), worker + 8 * layout.COND, 0, 0)

    return rouse


def _waking() -> Any:
    from numba.extending import register_jitable

    from sepcore.kernels.runtime.prim import call_c
    from sepcore.kernels.words import load_word, store_word

    worker_address, rouse = _worker_address(), _rouse()

    @register_jitable(error_model="numpy")
    def keep_off(pool: int, worker: int, cpu: int) -> None:
        """Let the worker run on all CPUs of the pool but ``cpu``, if any is left."""
        left = 0
        for i in range(layout.CPU_WORDS):
            cpus = load_word(pool + 8 * (layout.CPUS + i))
            if i == cpu >> 6:
                cpus &= ~(1 << (cpu & 63))
            left |= cpus
            store_word(worker + 8 * (layout.WORKER_CPUS + i), cpus)
        if left != 0 and load_word(worker + 8 * layout.TID) != 0:
            call_c(
                load_word(pool + 8 * layout.SCHED_SETAFFINITY),
                load_word(worker + 8 * layout.TID),
                8 * layout.CPU_WORDS,
                worker + 8 * layout.WORKER_CPUS,
            )
        store_word(worker + 8 * layout.KEPT_OFF, cpu)

    @register_jitable(error_model="numpy")
    def wake(pool: int, threads: int) -> None:
        """Wake the workers of a run, none of them on the caller's CPU, where the system would often put one."""
        cpu = -1
        if load_word(pool + 8 * layout.SCHED_GETCPU) != 0:
            cpu = call_c(load_word(pool + 8 * layout.SCHED_GETCPU), 0, 0, 0)
        for thread in range(1, threads):
            worker = worker_address(pool, thread)
            if cpu >= 0 and load_word(worker + 8 * layout.KEPT_OFF) != cpu:
                keep_off(pool, worker, cpu)
            rouse(pool, worker)

    return wake


def _judge() -> Any:
    from numba.extending import register_jitable

    from sepcore.kernels.words import load_word, store_word

    @register_jitable(error_model="numpy")
    def judge(pool: int, request: int, threads: int, begin: int, end: int, waited: int) -> None:
        """Rest after runs whose caller waited, and was faster alone.

        How fast it is alone shows when the pool has rested. Until then it was faster if it did the most itself, without
        the time it waited, or if the run took 0.6 times the fastest one more for each of the other threads.
        """
        took, doubt = end - begin, load_word(pool + 8 * layout.DOUBT)
        next_rest = max(_FIRST_REST, load_word(pool + 8 * layout.NEXT_REST))
        fastest, alone = load_word(request + 8 * layout.FASTEST), load_word(request + 8 * layout.ALONE)
        if fastest == 0 or took < fastest:
            fastest = took
            store_word(request + 8 * layout.FASTEST, took)
        if alone == 0:
            alone = fastest + fastest * (threads - 1) * 6 // 10
            if threads * (took - waited) < alone:
                alone = threads * (took - waited)
        if took > alone and 64 * waited > took:
            if doubt > 0:
                store_word(pool + 8 * layout.REST, next_rest)
                store_word(pool + 8 * layout.REST_END, end + next_rest * alone + _REST_SLACK)
                next_rest = min(2 * next_rest, _LONGEST_REST)
            doubt = _DOUBT
        elif doubt > 0:
            doubt -= 1
            if doubt == 0:
                next_rest = max(_FIRST_REST, next_rest // 2)
        store_word(pool + 8 * layout.DOUBT, doubt)
        store_word(pool + 8 * layout.NEXT_REST, next_rest)

    return judge
