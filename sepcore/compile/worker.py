"""The compiling side of ``parallel``: builds the rows that it is told on stdin and writes the objects to stdout.

It must not touch the cache: what it builds belongs to who asked. Started only by ``parallel``, which explains the
messages.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from importlib import import_module
from typing import BinaryIO

from sepcore.compile import keys
from sepcore.compile.build import KernelSource, build_object
from sepcore.errors import CompileError
from sepcore.kernels import isa as isas

GREETING = b"sepcore compiler\n"
BUILT, FAILED = 1, 2
REPLY = struct.Struct("<BQ")  # BUILT or FAILED, and the bytes of the object or message that follows


def main() -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle: it closes stdin
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the replies
    replies.write(GREETING)
    replies.flush()
    registry, isa, sources = json.loads(sys.stdin.buffer.readline())
    for line in sys.stdin.buffer:
        name, parameters = json.loads(line)
        try:
            _reply(replies, BUILT, _build(registry, isa, sources, name, parameters))
        except CompileError as error:
            _reply(replies, FAILED, str(error).encode())
        except Exception as error:
            _reply(replies, FAILED, f"kernel {name!r}: {type(error).__name__}: {error}".encode())


def _reply(replies: BinaryIO, kind: int, content: bytes) -> None:
    replies.write(REPLY.pack(kind, len(content)))
    replies.write(content)
    replies.flush()


def _build(registry: str, isa: str, sources: str, name: str, parameters: str) -> bytes:
    # Before the row's module is imported and after it was compiled: a file that is edited meanwhile is caught.
    require_sources(registry, sources)
    row: keys.KernelRow = import_module(registry).find(name)
    if repr(row.parameters) != parameters:
        raise CompileError(f"kernel {name!r}: expected parameters {parameters}, found {row.parameters!r} in {registry}")
    code = build_object([KernelSource(name, row.build(), row.arity)], isas.by_name(isa))
    require_sources(registry, sources)
    return code


def require_sources(registry: str, sources: str) -> None:
    """Raise a CompileError where the kernels' sources no longer have the digest ``sources``."""
    if keys.source_digest(registry) != sources:
        raise CompileError("the kernels' source files changed since this process started; start it again")
