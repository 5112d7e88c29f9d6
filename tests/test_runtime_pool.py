"""The thread pool: every tile exactly once, steps in order, any number of callers, and of workers awake or asleep."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from toy_programs import Layers, Toy, c_callable, c_function, compiled, counting_row

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.runtime import layout, walk
from sepcore.runtime.native import native_functions
from sepcore.runtime.pool import Pool


@pytest.fixture(scope="module")
def functions() -> dict[str, int]:
    return native_functions(isas.chosen())


@pytest.fixture
def pool(functions: dict[str, int]) -> Iterator[Pool]:
    pool = Pool(functions)
    yield pool
    pool.close()


def _wait_until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


def _asleep(pool: Pool, worker: int) -> bool:
    return pool._words[layout.FIRST_WORKER + (worker - 1) * layout.WORKER_WORDS + layout.ASLEEP] == 1


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_each_tile_of_each_image_runs_once(pool: Pool, threads: int) -> None:
    counts = [np.zeros((3, tiles), np.int64) for tiles in (1, 2, 3, 7, 64, layout.MAX_TILES, 1)]
    toy = Toy([counting_row(out) for out in counts], threads=threads, images=3)
    for run in range(1, 21):
        pool.run(toy.request, threads)
        for out in counts:
            np.testing.assert_array_equal(out, run)
    assert pool.workers == threads - 1


@pytest.mark.parametrize("tiles", [1, 2, 8])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_steps_wait_for_the_ones_before(pool: Pool, threads: int, tiles: int) -> None:
    toy = Layers(60, tiles, threads=threads)
    for run in range(1000):
        expected = toy.set_input(run)
        pool.run(toy.request, threads)
        np.testing.assert_array_equal(toy.output, expected)


@pytest.mark.parametrize("threads", [2, 4])
def test_workers_that_fell_asleep_join_again(pool: Pool, threads: int) -> None:
    toy = Layers(200, 8, threads=threads, length=2000)
    for run in range(20):
        expected = toy.set_input(run)
        pool.run(toy.request, threads)
        np.testing.assert_array_equal(toy.output, expected)
        _wait_until(lambda: all(_asleep(pool, w) for w in range(1, threads)), "a worker keeps spinning")


def test_every_thread_gets_tiles_and_its_own_block(pool: Pool) -> None:
    sleep = c_function("usleep")
    from sepcore.kernels.runtime.prim import call_c
    from sepcore.kernels.words import load_word, store_word

    def nap(at: int, tile: int, thread: int, image: int) -> None:
        store_word(load_word(at + 8 * step.OUT) + 8 * tile, load_word(thread + 8 * step.THREAD_INDEX))
        call_c(sleep, 2000, 0, 0)

    who = np.full(24, -1, np.int64)
    row = {step.CODE: compiled(nap).address, step.TILES: who.size, step.OUT: who.ctypes.data}
    pool._start(4)  # as a session with more threads does
    toy = Toy([row], threads=3)
    pool.run(toy.request, 3)
    assert set(who.tolist()) == {0, 1, 2}
    # Even threads take tiles from the front, odd ones from the back.
    assert who[0] in (0, 2) and who[-1] == 1


def test_a_run_needs_no_worker_to_arrive(pool: Pool) -> None:
    toy = Layers(30, 5, threads=4)
    pool._asked_for = 4
    pool._words[layout.WORKERS] = 3  # none of which exists
    for run in range(50):
        expected = toy.set_input(run)
        assert pool._pool_run(pool._block, toy.request) == 1
        np.testing.assert_array_equal(toy.output, expected)
    pool._words[layout.WORKERS] = 0


def test_a_caller_that_finds_the_workers_taken_runs_alone(pool: Pool) -> None:
    who = np.zeros((1, 8), np.int64)
    counts = np.zeros((1, 8), np.int64)
    toy = Toy([counting_row(counts, who)], threads=2)
    pool.run(toy.request, 2)
    pool._words[layout.BUSY] = 1
    pool.run(toy.request, 2)
    np.testing.assert_array_equal(counts, 2)
    np.testing.assert_array_equal(who, 1)  # thread 0, counted from 1
    pool._words[layout.BUSY] = 0
    # Nor does a caller take workers whose CPU another call is using.
    pool._words[layout.CALLS] = 1
    assert pool._pool_run(pool._block, toy.request) == 0
    assert pool._words[layout.CALLS] == 1
    pool._words[layout.CALLS] = 0
    assert pool._pool_run(pool._block, toy.request) == 1


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_many_callers_at_once(pool: Pool, threads: int) -> None:
    wrong: list[int] = []

    def call(seed: int) -> None:
        toy = Layers(40, 6, threads=threads)
        for run in range(200):
            expected = toy.set_input(1000 * seed + run)
            pool.run(toy.request, threads)
            if not np.array_equal(toy.output, expected):
                wrong.append(seed)

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []
    assert pool.workers == threads - 1
    assert pool._words[layout.CALLS] == 0 and pool._words[layout.BUSY] == 0


@pytest.mark.parametrize("images", [1, 2, 5, layout.MAX_TILES + 10])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_images_are_walked_whole_each_on_the_table_of_its_thread(pool: Pool, threads: int, images: int) -> None:
    counts = np.zeros((threads, 2, images, 3), np.int64)
    who = np.zeros((threads, 2, images, 3), np.int64)
    tables = [Toy([counting_row(counts[t, s], who[t, s]) for s in range(2)]) for t in range(threads)]
    table = np.stack([toy.table for toy in tables])
    after = np.zeros((1, 4), np.int64)
    walking = walk.images_step(pool.walk_images_address, table.ctypes.data, table.strides[0], 2, images)
    toy = Toy([walking, counting_row(after)], threads=threads)
    pool.run(toy.request, threads)
    np.testing.assert_array_equal(counts.sum(axis=0), 1)
    np.testing.assert_array_equal(after, 1)
    for t in range(threads):
        np.testing.assert_array_equal(who[t], counts[t] * (t + 1))


def test_workers_leave_the_callers_cpu(pool: Pool) -> None:
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs Linux and two CPUs")
    allowed = os.sched_getaffinity(0)
    toy = Layers(10, 4, threads=2)
    pool.run(toy.request, 2)
    try:
        for cpu in sorted(allowed)[:2]:
            os.sched_setaffinity(0, {cpu})
            expected = toy.set_input(cpu)
            pool.run(toy.request, 2)
            np.testing.assert_array_equal(toy.output, expected)
            tid = pool._threads[0].native_id
            assert tid is not None
            assert os.sched_getaffinity(tid) == allowed - {cpu}
    finally:
        os.sched_setaffinity(0, allowed)


def test_runs_that_workers_slow_down_are_made_alone_for_a_while(pool: Pool) -> None:
    from sepcore.kernels.runtime.prim import atomic_load, atomic_swap, call_c
    from sepcore.kernels.words import load_word

    sleep = c_function("usleep")

    def stall(at: int, tile: int, thread: int, image: int) -> None:
        flag = load_word(at + 8 * step.OUT)
        if load_word(thread + 8 * step.THREAD_INDEX) != 0:
            atomic_swap(flag, 1)
            call_c(sleep, 20000, 0, 0)
        else:
            for _ in range(10000):
                if atomic_load(flag) != 0:
                    break
                call_c(sleep, 100, 0, 0)

    flag = np.zeros(1, np.int64)
    row = {step.CODE: compiled(stall).address, step.TILES: 2, step.OUT: flag.ctypes.data}
    slow, fast = Toy([row], threads=2), Layers(2, 2, threads=2)
    pool.run(fast.request, 2)
    # One slow run may be chance.
    for expected in (0, 4):
        _wait_until(lambda: _asleep(pool, 1), "a worker keeps spinning")
        flag[0] = 0
        assert pool._pool_run(pool._block, slow.request) == 1
        assert pool._words[layout.REST] == expected
    assert [pool._pool_run(pool._block, fast.request) for _ in range(6)] == [0] * 4 + [1, 1]
    # Not trusted yet: the next slow run makes it rest for longer.
    flag[0] = 0
    assert pool._pool_run(pool._block, slow.request) == 1
    assert pool._words[layout.REST] == 8
    assert pool._pool_run(pool._block, fast.request) == 0
    # A caller that was away finds it ready.
    pool._words[layout.REST_END] = time.monotonic_ns()
    assert pool._pool_run(pool._block, fast.request) == 1
    assert pool._words[layout.REST] == 0


def test_runs_that_take_as_long_as_alone_are_made_alone_for_a_while(pool: Pool) -> None:
    """A worker that loses its CPU now and then does a share of the work: by what the caller did, it seems to help."""
    from sepcore.kernels.runtime.prim import atomic_load, atomic_swap, call_c
    from sepcore.kernels.words import load_word

    sleep = c_function("usleep")

    def last(at: int, tile: int, thread: int, image: int) -> None:
        came, microseconds = load_word(at + 8 * step.OUT), load_word(at + 8 * step.X)
        if load_word(thread + 8 * step.THREAD_INDEX) != 0:
            atomic_swap(came, 1)
            call_c(sleep, load_word(microseconds), 0, 0)
        else:
            for _ in range(10000):
                if atomic_load(came) != 0:
                    break
                call_c(sleep, 100, 0, 0)
            call_c(sleep, load_word(microseconds + 8), 0, 0)

    came, lasting = np.zeros(1, np.int64), np.zeros(2, np.int64)
    row = {step.CODE: compiled(last).address, step.TILES: 2, step.OUT: came.ctypes.data, step.X: lasting.ctypes.data}
    toy, fast = Toy([row], threads=2), Layers(2, 2, threads=2)
    pool.run(fast.request, 2)

    def run(worker: int, caller: int) -> None:
        _wait_until(lambda: _asleep(pool, 1), "a worker keeps spinning")
        came[0], lasting[:] = 0, (worker, caller)
        assert pool._pool_run(pool._block, toy.request) == 1

    for worker, caller, rest in ((2_000, 2_000, 0), (40_000, 28_000, 0), (40_000, 28_000, 4)):
        run(worker, caller)
        assert pool._words[layout.REST] == rest
    assert [pool._pool_run(pool._block, toy.request) for _ in range(4)] == [0] * 4
    # Made alone, it takes longer than those runs did, but not as long as the next.
    came[0], lasting[:] = 1, (0, 28_000)
    pool._walk_alone(pool._block, toy.request)
    for worker, caller, rest in ((40_000, 28_000, 0), (40_000, 28_000, 0), (90_000, 28_000, 8)):
        run(worker, caller)
        assert pool._words[layout.REST] == rest


def test_programs_run_in_one_float_mode_and_leave_their_callers_alone(pool: Pool) -> None:
    from sepcore.kernels.runtime.prim import float_modes_of
    from sepcore.kernels.words import load_float, load_word, store_float

    float_mode, set_float_mode, _ = float_modes_of(isas.chosen().machine)

    def square(at: int, tile: int, thread: int, image: int) -> None:
        x = load_float(load_word(at + 8 * step.X))
        store_float(load_word(at + 8 * step.OUT) + 4 * tile, x * x)

    get = c_callable(lambda: float_mode(), "int64()")
    put = c_callable(lambda mode: set_float_mode(mode), "void(int64)")

    tiny = np.array([1e-21], np.float32)  # its square is a denormal
    out = np.ones(64, np.float32)
    row = {step.CODE: compiled(square).address, step.TILES: 64, step.X: tiny.ctypes.data, step.OUT: out.ctypes.data}
    toy = Toy([row] * 50, threads=2)
    before = get()
    assert (tiny * tiny)[0] > 0
    for threads in (1, 2):
        out[:] = 1
        pool.run(toy.request, threads)
        np.testing.assert_array_equal(out, 0)
        assert get() == before
        assert (tiny * tiny)[0] > 0
    # A caller with another rounding mode: results are the same, and the mode is still the caller's afterwards.
    third = np.array([1.0 / 3.0], np.float32)
    squared = third * third
    assert float(squared[0]) > float(third[0]) ** 2  # rounded up, which that mode would not do
    row[step.X] = third.ctypes.data
    toy = Toy([row], threads=2)
    toward_zero = before | (3 << 13 if isas.chosen().machine == "x86_64" else 3 << 22)
    for threads in (1, 2):
        put(toward_zero)
        pool.run(toy.request, threads)
        after = get()
        put(before)
        assert after == toward_zero
        np.testing.assert_array_equal(out, np.repeat(squared, out.size))


def test_a_system_that_has_no_more_threads(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    toy = Layers(5, 4, threads=3)
    expected = toy.set_input(1)
    with pytest.warns(RuntimeWarning, match=r"1 of 3 threads: can't start new thread"):
        pool.run(toy.request, 3)
    np.testing.assert_array_equal(toy.output, expected)
    expected = toy.set_input(2)
    pool.run(toy.request, 3)  # does not ask, and warn, again
    np.testing.assert_array_equal(toy.output, expected)


def test_a_closed_pool_runs_its_callers_alone(functions: dict[str, int]) -> None:
    pool = Pool(functions)
    toy = Layers(20, 4, threads=3)
    for run in range(4):
        expected = toy.set_input(run)
        pool.run(toy.request, 3)
        np.testing.assert_array_equal(toy.output, expected)
        if run == 1:
            threads = list(pool._threads)
            pool.close()
            assert not any(thread.is_alive() for thread in threads)
    assert pool.workers == 0
