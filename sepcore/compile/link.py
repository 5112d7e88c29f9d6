"""Puts ELF objects together into one piece of position-independent code; it must not map memory or run anything."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from sepcore.compile import elf
from sepcore.compile.code import LIBC_SYMBOLS, STUB_BYTES, Code
from sepcore.errors import CompileError

_LINE = 64  # sections start on cache lines, whatever alignment they ask for


def link(objects: Mapping[str, bytes], machine: str) -> Code:
    """The code of ``objects``: name -> the relocatable object that defines the function of that name.

    Parameters
    ----------
    machine : what ``platform.machine()`` says on Linux where the code shall run.

    Raises
    ------
    CompileError : an object is broken, is for another machine, lacks its function or needs a symbol that is not
        allowed.
    """
    parsed = {name: elf.parse(code) for name, code in objects.items()}
    for name, each in parsed.items():
        if each.machine != machine:
            raise CompileError(f"kernel object {name!r}: expected code for {machine}, found code for {each.machine}")
    return _Layout(parsed, machine).link()


class _Layout:
    """The sections of every object, then the stubs that lead to libc."""

    def __init__(self, objects: Mapping[str, elf.ElfObject], machine: str) -> None:
        self.objects, self.machine = objects, machine
        self.places: dict[str, dict[int, int]] = {}  # object -> section number -> offset
        end = 0
        for name, each in objects.items():
            self.places[name] = {}
            for number, section in each.sections.items():
                start = _round_up(end, max(section.alignment, _LINE))
                self.places[name][number] = start
                end = start + section.size
        externals = sorted({s.name for o in objects.values() for s in o.symbols if s.is_external})
        for name in externals:
            if name not in LIBC_SYMBOLS:
                raise CompileError(f"kernel object: expected symbols of {sorted(LIBC_SYMBOLS)}, found {name!r}")
        start = _round_up(end, _LINE)
        self.stubs = {name: start + i * STUB_BYTES for i, name in enumerate(externals)}
        self.size = start + len(externals) * STUB_BYTES

    def link(self) -> Code:
        """All sections in their places, with every reference resolved.

        All references are relative to their own place, so offsets stand for addresses.
        """
        memory = bytearray(self.size)
        functions = {name: self._fill(memory, name) for name in self.objects}
        return Code(self.machine, bytes(memory), functions, self.stubs)

    def _fill(self, memory: bytearray, name: str) -> int:
        """Copy an object's sections and resolve its references; the offset of its function."""
        each, places = self.objects[name], self.places[name]
        for number, section in each.sections.items():
            memory[places[number] : places[number] + len(section.content)] = section.content
        targets = [self.stubs.get(s.name) if s.section is None else places[s.section] + s.value for s in each.symbols]
        relocate = _RELOCATE[self.machine]
        for number, entries in each.relocations.items():
            relocate(memory, places[number], entries, targets)
        for symbol, target in zip(each.symbols, targets):
            if symbol.name == name and symbol.is_global and symbol.section is not None and target is not None:
                return target
        raise CompileError(f"kernel object {name!r}: expected a function of that name in it, found none")


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


Relocate = Callable[[bytearray, int, list[tuple[int, int, int]], list["int | None"]], None]


def _relocate_x86(
    memory: bytearray, start: int, entries: list[tuple[int, int, int]], targets: list[int | None]
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
    memory: bytearray, start: int, entries: list[tuple[int, int, int]], targets: list[int | None]
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
            pages = (value >> 12) - (at >> 12)  # the code starts on a page
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
