"""Linked machine code, and how it gets into executable memory: with mmap, struct and ctypes alone.

It must not compile or link. Memory is never writable and executable at once. What is placed stays for the life of the
process, because addresses of it are in tables that native code walks.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

from sepcore.errors import CompileError

# What an object may ask of libc; every other name is refused, when it is built and when it is loaded.
LIBC_SYMBOLS = frozenset({"memcpy", "memmove", "memset", "sched_getcpu", "sched_setaffinity", "sched_yield", "syscall"})

STUB_BYTES = 16
# A jump to the address behind it: libc may be further away than a call reaches.
_STUBS = {
    "x86_64": bytes.fromhex("ff2502000000 9090"),  # jmp *2(%rip); nop; nop
    "aarch64": struct.pack("<II", 0x58000050, 0xD61F0200),  # ldr x16, .+8; br x16
}

_kept: list[mmap.mmap] = []


class Code(NamedTuple):
    """Position-independent machine code.

    Attributes
    ----------
    machine : what ``platform.machine()`` says on Linux where it runs.
    content : from the start of a page.
    functions : name -> offset.
    stubs : function of libc -> offset of the STUB_BYTES through which the code calls it, filled in by ``place``.
    """

    machine: str
    content: bytes | memoryview
    functions: Mapping[str, int]
    stubs: Mapping[str, int]


def place(code: Code) -> dict[str, int]:
    """Copy ``code`` into memory of its own and make that executable; the address of each function.

    Raises
    ------
    CompileError : the C library lacks a function, or the system refuses executable memory.
    """
    if not code.functions:
        return {}
    try:
        memory = mmap.mmap(-1, len(code.content), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError) as error:
        raise CompileError(f"kernel objects: {len(code.content)} bytes of memory: {error}") from error
    memory[:] = code.content
    for name, offset in code.stubs.items():
        memory[offset : offset + STUB_BYTES] = _STUBS[code.machine] + struct.pack("<Q", _libc_address(name))
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    _make_executable(base, len(code.content))
    _kept.append(memory)
    return {name: base + offset for name, offset in code.functions.items()}


def _libc_address(name: str) -> int:
    function = getattr(ctypes.CDLL(None), name, None)
    address = ctypes.cast(function, ctypes.c_void_p).value if function is not None else None
    if address is None:
        raise CompileError(f"kernel object: this system's C library has no {name!r}")
    return address


def _make_executable(base: int, size: int) -> None:
    """Take writing away and allow execution; Linux then makes ARM's instruction cache see the new code."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise CompileError(f"kernel objects: this system refuses executable memory (mprotect: {reason})")
