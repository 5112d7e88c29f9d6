"""The process's pool of threads: starts workers when a call first wants them, survives fork, ends with the interpreter.

It must not know sessions or steps: a request in memory says which program to run, and native functions run it.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import time
import warnings
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sepcore.kernels.runtime import layout

if TYPE_CHECKING:
    import threading

WALK_IMAGES = "walk_images"

# Some 50 us: bridges the gap between two steps and between calls that follow each other closely.
_SPINS = 2000

_C_FUNCTIONS = {
    layout.CLOCK_GETTIME: "clock_gettime",
    layout.SCHED_YIELD: "sched_yield",
    layout.MUTEX_LOCK: "pthread_mutex_lock",
    layout.MUTEX_UNLOCK: "pthread_mutex_unlock",
    layout.COND_WAIT: "pthread_cond_wait",
    layout.COND_SIGNAL: "pthread_cond_signal",
}


class Pool:
    """Worker threads that help callers run programs. Any thread may call; one call at a time has the workers.

    Workers are daemon threads of Python that sit in native code from start to end, without Python's lock: portable,
    seen by debuggers, and gone in a forked child, where the pool starts afresh. Idle ones sleep, and use no CPU.

    Parameters
    ----------
    addresses : of the native functions, by name without the instruction set (``pool_run`` ...).

    Attributes
    ----------
    workers : how many have started.
    walk_images_address : the kernel of steps that take images through a program, see ``sepcore.kernels.runtime.walk``.
    """

    def __init__(self, addresses: Mapping[str, int]) -> None:
        word = ctypes.c_int64
        self._pool_run = ctypes.CFUNCTYPE(word, word, word)(addresses["pool_run"])
        self._walk_alone = ctypes.CFUNCTYPE(None, word, word)(addresses["walk_alone"])
        self._pool_worker = ctypes.CFUNCTYPE(None, word, word)(addresses["pool_worker"])
        self._pool_stop = ctypes.CFUNCTYPE(None, word)(addresses["pool_stop"])
        self.walk_images_address = addresses[WALK_IMAGES]
        self._memory = (ctypes.c_int64 * (layout.POOL_WORDS + layout.LINE_WORDS))()
        start = ctypes.addressof(self._memory)
        self._block = start + -start % layout.LINE_BYTES
        self._words = (ctypes.c_int64 * layout.POOL_WORDS).from_address(self._block)
        self._libc = ctypes.CDLL(None)
        self._lock = allocate_lock()
        self._threads: list[threading.Thread] = []
        self._asked_for = 1
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.close)

    @property
    def workers(self) -> int:
        return len(self._threads)

    def run(self, request: int, threads: int) -> None:
        """Run a request; returns when all its steps are done.

        Parameters
        ----------
        request : address of its words, see ``sepcore.kernels.runtime.layout``. It, the program and the thread blocks
            belong to this call until it returns.
        threads : what the request says of them: how many may share the run, this one included. Fewer do where other
            calls are in flight, where workers could not be started, and after runs that workers made slower.
        """
        if threads > 1:
            if threads > self._asked_for:
                self._start(threads)
            if self._pool_run(self._block, request):
                return
        self._walk_alone(self._block, request)

    def close(self) -> None:
        """Stop the workers for good and wait for them; later runs are made by their callers alone."""
        with self._lock:
            self._asked_for = layout.MAX_THREADS
            self._pool_stop(self._block)
            for thread in self._threads:
                thread.join()
            self._words[layout.WORKERS] = 0
            self._threads = []

    def _reset(self) -> None:
        """An empty pool: the first state, and that of a forked child, whose parent's workers are not there."""
        self._lock = allocate_lock()
        self._threads = []
        self._asked_for = 1
        ctypes.memset(self._block, 0, ctypes.sizeof(self._words))
        words = self._words
        words[layout.SPINS] = _SPINS
        words[layout.CLOCK_ID] = time.CLOCK_MONOTONIC
        for word, name in _C_FUNCTIONS.items():
            words[word] = _address(self._libc, name)

    def _start(self, threads: int) -> None:
        """Start workers until ``threads`` threads can share a run; a system that refuses is asked once."""
        with self._lock:
            if threads <= self._asked_for:
                return
            self._set_cpus()
            while len(self._threads) + 1 < threads:
                try:
                    self._start_worker()
                except RuntimeError as error:
                    warnings.warn(
                        f"sepcore runs with {len(self._threads) + 1} of {threads} threads: {error}",
                        RuntimeWarning,
                        stacklevel=4,
                    )
                    break
            self._asked_for = threads

    def _start_worker(self) -> None:
        index = len(self._threads) + 1
        worker = layout.FIRST_WORKER + (index - 1) * layout.WORKER_WORDS
        self._words[worker + layout.KEPT_OFF] = -1
        self._libc.pthread_mutex_init(ctypes.c_void_p(self._block + 8 * (worker + layout.MUTEX)), None)
        self._libc.pthread_cond_init(ctypes.c_void_p(self._block + 8 * (worker + layout.COND)), None)
        import threading  # what calls that run alone do without

        thread = threading.Thread(
            target=self._pool_worker, args=(self._block, index), name=f"sepcore-{index}", daemon=True
        )
        thread.start()
        self._words[worker + layout.TID] = thread.native_id or 0
        self._threads.append(thread)
        self._words[layout.WORKERS] = index

    def _set_cpus(self) -> None:
        """Tell the native code where workers may run, so that it can keep them off their caller's CPU (Linux only)."""
        if not hasattr(os, "sched_getaffinity"):
            return
        cpus = os.sched_getaffinity(os.getpid())  # the process's, not those a calling thread was bound to
        if len(cpus) < 2 or max(cpus) >= layout.MAX_CPUS:
            return
        for word in range(layout.CPU_WORDS):
            bits = sum(1 << (cpu % 64) for cpu in cpus if cpu // 64 == word)
            self._words[layout.CPUS + word] = ctypes.c_int64(bits).value
        self._words[layout.SCHED_SETAFFINITY] = _address(self._libc, "sched_setaffinity")
        self._words[layout.SCHED_GETCPU] = _address(self._libc, "sched_getcpu")


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


_shared: list[Pool] = []
_shared_lock = allocate_lock()


def shared_pool(addresses: Callable[[], Mapping[str, int]]) -> Pool:
    """The one pool of this process, which grows to the largest number of threads that a session asks for.

    Parameters
    ----------
    addresses : gives those of the native functions; called where there is no pool yet.
    """
    with _shared_lock:
        if not _shared:
            _shared.append(Pool(addresses()))
        return _shared[0]


def _renew_lock() -> None:
    """A forked child: the thread that held the lock is not in it."""
    global _shared_lock
    _shared_lock = allocate_lock()


os.register_at_fork(after_in_child=_renew_lock)
