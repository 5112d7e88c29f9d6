"""Builds many kernels at once, in processes of their own; it must not cache or load what it builds.

Each worker is sent one JSON line with the registry, the instruction set and the sources' digest, then a line with name
and parameters for each row, one at a time; it answers as ``worker.REPLY`` says. A worker whose parent dies reads the
end of its stdin and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue

from sepcore.compile import keys, worker
from sepcore.compile.build import KernelSource, build_object
from sepcore.errors import CompileError
from sepcore.kernels import isa as isas

# A worker spends on importing numba what three kernels cost, and 150 MB.
_ROWS_PER_WORKER = 3
_MAX_WORKERS = 8
_GREETING_SECONDS = 60.0

# The worker finds the modules that this process finds, whatever directory it starts in.
_START = "import sys; sys.path[:] = sys.argv[1:]; from sepcore.compile.worker import main; main()"

Outcome = tuple[str, "bytes | CompileError"]


def build_rows(rows: Sequence[keys.KernelRow], isa: str, registry: str) -> Iterator[tuple[str, bytes]]:
    """Name and object of each row, as they are finished.

    Rows that no other process knows, and all of them where none can be started (a frozen or embedded interpreter), are
    built in this one, one by one.

    Raises
    ------
    CompileError : a row cannot be compiled, or a worker was killed.
    """
    waiting = deque(row for row in rows if not getattr(row, "here_only", False))
    if waiting:
        yield from _built_by_workers(waiting, isa, registry)
    sources = keys.remembered_source_digest(registry)
    for row in (*waiting, *(row for row in rows if getattr(row, "here_only", False))):
        worker.require_sources(registry, sources)
        yield row.name, build_object([KernelSource(row.name, row.build(), row.arity)], isas.by_name(isa))
        worker.require_sources(registry, sources)


def _built_by_workers(waiting: deque[keys.KernelRow], isa: str, registry: str) -> Iterator[tuple[str, bytes]]:
    """What workers could build of ``waiting``; rows stay in it where none could be started."""
    count = max(1, min(_cpus(), _MAX_WORKERS, len(waiting) // _ROWS_PER_WORKER))
    first = json.dumps([registry, isa, keys.remembered_source_digest(registry)])
    outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
    workers = [w for w in (_start_worker() for _ in range(count)) if w is not None]
    threads = [threading.Thread(target=_drive, args=(w, first, waiting, outcomes), daemon=True) for w in workers]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            outcome = outcomes.get()
            if outcome is None:
                running -= 1
                continue
            name, result = outcome
            if isinstance(result, CompileError):
                raise result
            yield name, result
    finally:
        for process in workers:
            process.kill()
        for process, thread in zip(workers, threads):
            thread.join()
            with contextlib.suppress(BrokenPipeError):
                process.communicate()


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _start_worker() -> subprocess.Popen[bytes] | None:
    """A worker process, or None where ``sys.executable`` is no Python that could run one."""
    if getattr(sys, "frozen", False) or not re.match(r"(?i)python[\d.]*t?$", os.path.basename(sys.executable or "")):
        return None
    command = [sys.executable, "-c", _START, *sys.path]
    # Numba's settings are in no key, so they may not change what is compiled.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    try:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError:
        return None


def _drive(
    process: subprocess.Popen[bytes], first: str, waiting: deque[keys.KernelRow], outcomes: SimpleQueue[Outcome | None]
) -> None:
    """Have ``process`` build rows until none is waiting."""
    assert process.stdin is not None and process.stdout is not None
    try:
        patience = threading.Timer(_GREETING_SECONDS, process.kill)
        patience.daemon = True
        patience.start()
        greeting = process.stdout.read(len(worker.GREETING))
        patience.cancel()
        if greeting != worker.GREETING:
            return
        process.stdin.write(first.encode() + b"\n")
        while True:
            try:
                row = waiting.popleft()
            except IndexError:
                return
            outcomes.put((row.name, _ask(process, row)))
    except OSError:
        return
    finally:
        outcomes.put(None)


def _ask(process: subprocess.Popen[bytes], row: keys.KernelRow) -> bytes | CompileError:
    """The object of one row from a worker, or why there is none."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps([row.name, repr(row.parameters)]).encode() + b"\n")
        process.stdin.flush()
        kind, length = worker.REPLY.unpack(process.stdout.read(worker.REPLY.size))
        content = process.stdout.read(length)
        if len(content) != length:
            raise EOFError
    except (OSError, EOFError, struct.error):
        return CompileError(f"kernel {row.name!r}: the compiling process ended with code {process.wait()}")
    return content if kind == worker.BUILT else CompileError(content.decode(errors="replace"))
