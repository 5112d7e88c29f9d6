"""Runs programs on Numba's threads, and refuses the calls for which its threading layer would end the process.

The same range kernels as the pool's, and the same bits. It must not know sessions or steps; numba is imported when the
first session asks for it, and compiles for a second in each process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from sepcore.errors import ThreadingError
from sepcore.kernels.isa import Isa
from sepcore.kernels.runtime import layout
from sepcore.runtime.pool import Pool

_SPINS = 32_000  # looks at the open step before a thread gives its CPU away: most of a millisecond

# Numba's layers by what they do not bear; tbb bears both.
_ONE_CALLER, _NO_FORK = "workqueue", "omp"


class Prange:
    """Shares each run among the iterations of one ``prange``.

    Numba's own functions of a program that uses it run on the same threads: what its layer does not bear, they and
    these runs must not do together either, and only these runs can be refused here.

    Parameters
    ----------
    pool : whose native functions run what one thread runs alone.

    Raises
    ------
    ThreadingError : Numba has no threading layer.
    """

    def __init__(self, isa: Isa, pool: Pool) -> None:
        import numba

        from sepcore.kernels.runtime.prange import prange_run

        self._pool = pool
        self.walk_images_address = pool.walk_images_address
        self._run = prange_run(isa.name)
        try:
            # Compiling starts the layer's threads: from here on it is known which layer it is.
            self._run.compile((numba.types.int64,) * 3)
            self.layer: str = numba.threading_layer()
        except ValueError as error:
            raise ThreadingError(f"threading: expected a threading layer of Numba, found none: {error}") from error
        self._blocks: list[_Block] = []
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def run(self, request: int, threads: int) -> None:
        """Run a request, as ``sepcore.runtime.pool.Pool.run`` does.

        Raises
        ------
        ThreadingError : another call is in progress, or this is a forked process, and the layer does not bear it.
        """
        if threads == 1:
            self._pool.run(request, 1)
            return
        with self._allowed():
            try:
                block = self._blocks.pop()
            except IndexError:
                block = _Block()
            self._run(block.address, request, threads)
            self._blocks.append(block)

    @contextlib.contextmanager
    def _allowed(self) -> Iterator[None]:
        if self.layer == _NO_FORK and _launched_before_fork:
            raise ThreadingError(
                "threading='prange': Numba's layer 'omp' was used before this process was forked, and cannot be used "
                "after; start processes by spawn, install tbb, or use threading='pool'"
            )
        if self.layer != _ONE_CALLER:
            yield
            return
        if not self._one_caller.acquire(blocking=False):
            raise ThreadingError(
                "threading='prange': Numba's layer 'workqueue' bears one caller at a time, and another thread is in a "
                "call; install tbb, or use threading='pool'"
            )
        try:
            yield
        finally:
            self._one_caller.release()

    def _reset(self) -> None:
        """The first state, and that of a forked child: the thread that held the lock is not in it."""
        self._one_caller = threading.Lock()


class _Block:
    """The memory in which the threads of one run at a time claim tiles."""

    def __init__(self) -> None:
        self._memory = (ctypes.c_int64 * (layout.CPUS + layout.LINE_WORDS))()
        start = ctypes.addressof(self._memory)
        self.address = start + -start % layout.LINE_BYTES
        words = (ctypes.c_int64 * layout.CPUS).from_address(self.address)
        words[layout.SPINS] = _SPINS
        words[layout.SCHED_YIELD] = ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0


_shared: list[Prange] = []
_shared_lock = threading.Lock()
_launched_before_fork = False


def shared_prange(isa: Isa, pool: Pool) -> Prange:
    """The one of this process.

    Raises
    ------
    ThreadingError : Numba has no threading layer.
    """
    with _shared_lock:
        if not _shared:
            _shared.append(Prange(isa, pool))
        return _shared[0]


def _after_fork() -> None:
    """A forked child: another thread may have held the lock, and Numba's threads may have been started before."""
    global _shared_lock, _launched_before_fork
    _shared_lock = threading.Lock()
    parallel: Any = sys.modules.get("numba.np.ufunc.parallel")
    _launched_before_fork = _launched_before_fork or bool(getattr(parallel, "_is_initialized", False))


os.register_at_fork(after_in_child=_after_fork)
