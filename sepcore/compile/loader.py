"""Puts kernel objects into executable memory and finds their functions, with mmap, struct and ctypes alone.

It must not compile: on Linux neither numba nor llvmlite is imported. Memory is never writable and executable at once.
What is loaded stays for the life of the process, because addresses of it are in tables that native code walks.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

from sepcore.compile import elf
from sepcore.errors import CompileError

# What an object may ask of libc; every other name is refused, when it is built and when it is loaded.
LIBC_SYMBOLS = frozenset({"memcpy", "memmove", "memset", "sched_getcpu", "sched_setaffinity", "sched_yield", "syscall"})

_LINE = 64  # sections start on cache lines, whatever alignment they ask for
_STUB_BYTES = 16
# A jump to the address behind it: libc may be further away than a call reaches.
_STUBS = {
    "x86_64": bytes.fromhex("ff2502000000 9090"),  # jmp *2(%rip); nop; nop
    "aarch64": struct.pack("<II", 0x58000050, 0xD61F0200),  # ldr x16, .+8; br x16
}

_kept: list[Any] = []


def load(objects: Mapping[str, bytes]) -> dict[str, int]:
    """Address of each function in ``objects``: name -> the object that defines it. All share one mapping.

    Raises
    ------
    CompileError : an object is broken, is for another machine, lacks its function or needs a symbol that is not
        allowed, or the system refuses executable memory.
    """
    if sys.platform == "darwin":
        return _load_with_llvm(objects)
    machine = platform.machine()
    parsed = {name: elf.parse(code) for name, code in objects.items()}
    for name, each in parsed.items():
        if each.machine != machine:
            raise CompileError(f"kernel object {name!r}: expected code for {machine}, found code for {each.machine}")
    return _Image(parsed, machine).load() if parsed else {}


class _Image:
    """One mapping: the sections of every object, then the stubs that lead to libc."""

    def __init__(self, objects: Mapping[str, elf.ElfObject], machine: str) -> None:
        self.objects = objects
        self.relocate, self.stub_code = _RELOCATE[machine], _STUBS[machine]
        self.places: dict[str, dict[int, int]] = {}  # object -> section number -> offset
        end = 0
        for name, each in objects.items():
            self.places[name] = {}
            for number, section in each.sections.items():
                start = _round_up(end, max(section.alignment, _LINE))
                self.places[name][number] = start
                end = start + section.size
        externals = sorted({s.name for o in objects.values() for s in o.symbols if s.is_external})
        start = _round_up(end, _LINE)
        self.stubs = {name: start + i * _STUB_BYTES for i, name in enumerate(externals)}
        self.size = start + len(externals) * _STUB_BYTES

    def load(self) -> dict[str, int]:
        """Fill the mapping, make it executable, and find each object's function."""
        try:
            memory = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, ValueError) as error:
            raise CompileError(f"kernel objects: {self.size} bytes of memory: {error}") from error
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for name, offset in self.stubs.items():
            memory[offset : offset + _STUB_BYTES] = self.stub_code + struct.pack("<Q", _libc_address(name))
        offsets = {name: self._fill(memory, name) for name in self.objects}
        _make_executable(base, self.size)
        _kept.append(memory)
        return {name: base + offset for name, offset in offsets.items()}

    def _fill(self, memory: mmap.mmap, name: str) -> int:
        """Copy an object's sections and resolve its references; the offset of its function.

        All references are relative to their own place, so offsets stand for addresses.
        """
        each, places = self.objects[name], self.places[name]
        for number, section in each.sections.items():
            memory[places[number] : places[number] + len(section.content)] = section.content
        targets = [self.stubs.get(s.name) if s.section is None else places[s.section] + s.value for s in each.symbols]
        for number, entries in each.relocations.items():
            self.relocate(memory, places[number], entries, targets)
        for symbol, target in zip(each.symbols, targets):
            if symbol.name == name and symbol.is_global and symbol.section is not None and target is not None:
                return target
        raise CompileError(f"kernel object {name!r}: expected a function of that name in it, found none")


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _libc_address(name: str) -> int:
    if name not in LIBC_SYMBOLS:
        raise CompileError(f"kernel object: expected symbols of {sorted(LIBC_SYMBOLS)}, found {name!r}")
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


Relocate = Callable[[mmap.mmap, int, list[tuple[int, int, int]], list["int | None"]], None]


def _relocate_x86(
    memory: mmap.mmap, start: int, entries: list[tuple[int, int, int]], targets: list[int | None]
) -> None:
    """R_X86_64_PC32 (2) and PLT32 (4)."""
    pack = struct.Struct("<i").pack_into
    for offset, info, addend in entries:
        target, kind, at = targets[info >> 32], info & 0xFFFFFFFF, start + offset
        if target is None or kind not in (2, 4):
            raise _unusable(kind, target)
        try:
            pack(memory, at, target + addend - at)
        except struct.error:
            raise CompileError(f"kernel object: relocation by {target + addend - at}: out of reach") from None


# Log2 of the access size that scales the offset of ADD and of loads and stores.
_LOW12_SCALE = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}


def _relocate_arm(
    memory: mmap.mmap, start: int, entries: list[tuple[int, int, int]], targets: list[int | None]
) -> None:
    """R_AARCH64_PREL32 (261), CALL26 (283), JUMP26 (282), ADR_PREL_PG_HI21 (275) and the LO12 forms."""
    for offset, info, addend in entries:
        target, kind, at = targets[info >> 32], info & 0xFFFFFFFF, start + offset
        if target is None:
            raise _unusable(kind, target)
        value = target + addend
        distance = value - at
        (code,) = struct.unpack_from("<I", memory, at)
        if kind == 261:
            fits = -(1 << 31) <= distance < 1 << 31
            code = distance & 0xFFFFFFFF
        elif kind in (282, 283):
            fits = distance % 4 == 0 and -(1 << 27) <= distance < 1 << 27
            code = code & 0xFC000000 | distance >> 2 & 0x03FFFFFF
        elif kind == 275:
            pages = (value >> 12) - (at >> 12)  # the mapping itself starts on a page
            fits = -(1 << 20) <= pages < 1 << 20
            code = code & 0x9F00001F | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
        elif kind in _LOW12_SCALE:
            low, scale = value & 0xFFF, _LOW12_SCALE[kind]
            fits = low % (1 << scale) == 0
            code = code & 0xFFC003FF | low >> scale << 10
        else:
            raise _unusable(kind, target)
        if not fits:
            raise CompileError(f"kernel object: relocation {kind} by {distance}: out of reach")
        struct.pack_into("<I", memory, at, code)


def _unusable(kind: int, target: int | None) -> CompileError:
    if target is None:
        return CompileError(f"kernel object: relocation {kind} names a symbol that is in nothing that is loaded")
    return CompileError(f"kernel object: relocation {kind} is not one that kernels use")


_RELOCATE: dict[str, Relocate] = {"x86_64": _relocate_x86, "aarch64": _relocate_arm}


def _load_with_llvm(objects: Mapping[str, bytes]) -> dict[str, int]:
    """macOS: objects are Mach-O there, so LLVM's own linker loads them; llvmlite (not numba) is imported."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(codemodel="jitdefault", jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    _kept.append(engine)
    for name, code in objects.items():
        try:
            engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        except RuntimeError as error:
            raise CompileError(f"kernel object {name!r}: {error}") from error
    engine.finalize_object()
    addresses = {name: int(engine.get_function_address(name)) for name in objects}
    for name, address in addresses.items():
        if address == 0:
            raise CompileError(f"kernel object {name!r}: expected a function of that name in it, found none")
    return addresses
