"""Loading objects: references resolved, memory never writable and executable, and every wrong number refused."""

from __future__ import annotations

import ctypes
import platform
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from elf_files import AARCH64, ALLOC, EXEC, NOBITS, TLS, WRITE, ElfFile, Part

from sepcore.compile import elf, link
from sepcore.compile.loader import load
from sepcore.errors import CompileError

on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="hand-written x86-64 machine code")

PC32, PLT32 = 2, 4
# mov eax, [rip + table]; ret: the displacement's place is 2 bytes in, and it counts from its own end.
LOAD_TABLE = bytes.fromhex("8b0500000000 c3")


def table_object(value: int = 0x1234567) -> ElfFile:
    """``answer`` returns the second word of a table in another section."""
    return ElfFile(
        [
            Part(".text", LOAD_TABLE, relocations=[(2, PC32, 1, -4)]),
            Part(".rodata", struct.pack("<II", 7, value), ALLOC, alignment=64),
        ],
        [("", 2, 4, 0, False), ("answer", 1, 0, len(LOAD_TABLE), True)],
    )


def calling(name: str) -> ElfFile:
    """``caller`` jumps to the external function ``name``."""
    return ElfFile(
        [Part(".text", bytes.fromhex("e900000000"), relocations=[(1, PLT32, 2, -4)])],
        [("caller", 1, 0, 5, True), (name, 0, 0, 0, True)],
    )


def call(address: int) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int32)(address)())


@on_x86
def test_references_between_sections_and_to_libc() -> None:
    found = load({"answer": table_object().to_bytes(), "caller": calling("sched_getcpu").to_bytes()})
    assert set(found) == {"answer", "caller"}
    assert call(found["answer"]) == 0x1234567
    assert call(found["caller"]) >= 0


@on_x86
def test_objects_are_apart() -> None:
    found = load({"answer": table_object(11).to_bytes()}), load({"answer": table_object(22).to_bytes()})
    assert [call(each["answer"]) for each in found] == [11, 22]


@on_x86
def test_memory_is_executable_and_not_writable() -> None:
    address = load({"answer": table_object().to_bytes()})["answer"]
    for line in Path("/proc/self/maps").read_text(encoding="ascii").splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            assert line.split()[1] == "r-xp"
            break
    else:
        pytest.fail("the function is in no mapping")


@on_x86
def test_zeroed_memory_is_zero_and_aligned() -> None:
    wanted = table_object()
    wanted.parts[1] = Part(".rodata", b"", ALLOC, NOBITS, alignment=4096, size=8)
    assert call(load({"answer": wanted.to_bytes()})["answer"]) == 0


def test_nothing_to_load() -> None:
    assert load({}) == {}


def changed(change: Callable[[ElfFile], object]) -> bytes:
    wanted = table_object()
    change(wanted)
    return wanted.to_bytes()


def relocated(*entry: int) -> bytes:
    return changed(lambda w: setattr(w.parts[0], "relocations", [entry]))


WRONG = {
    "empty": (b"", "file header: expected bytes inside the object's 0, found 64 at 0"),
    "not ELF": (b"MZ" + bytes(200), "expected 64-bit little-endian ELF"),
    "32 bits": (table_object().to_bytes().replace(b"ELF\x02", b"ELF\x01"), "expected 64-bit little-endian ELF"),
    "executable": (changed(lambda w: setattr(w, "kind", 2)), r"a relocatable object \(1\), found 2"),
    "unknown machine": (changed(lambda w: setattr(w, "machine", 8)), "expected machine of"),
    "truncated": (table_object().to_bytes()[:-1], "section headers: expected bytes inside"),
    "writable": (changed(lambda w: setattr(w.parts[1], "flags", ALLOC | WRITE)), "'.rodata': expected read-only"),
    "thread-local": (changed(lambda w: setattr(w.parts[1], "flags", ALLOC | TLS)), "expected no thread-local data"),
    "alignment 24": (changed(lambda w: setattr(w.parts[1], "alignment", 24)), "a power of two up to 4096, found 24"),
    "alignment 8192": (changed(lambda w: setattr(w.parts[1], "alignment", 8192)), "found 8192"),
    "section past the end": (changed(lambda w: setattr(w.parts[1], "size", 10**6)), "found 1000000 at"),
    "huge section": (changed(lambda w: setattr(w.parts[1], "size", 1 << 62)), "at most 67108864 bytes"),
    "huge zeros": (
        changed(lambda w: w.parts.append(Part(".bss", b"", ALLOC, NOBITS, size=1 << 40))),
        "at most 67108864 bytes",
    ),
    "symbol past its section": (
        changed(lambda w: w.symbols.append(("far", 1, 8, 0, True))),
        "'far': expected a place inside 7 bytes, found 0 at 8",
    ),
    "symbol longer than its section": (changed(lambda w: w.symbols.append(("long", 1, 1, 7, True))), "found 7 at 1"),
    "symbol in no section": (changed(lambda w: w.symbols.append(("lost", 99, 0, 0, True))), "section that is loaded"),
    "common symbol": (changed(lambda w: w.symbols.append(("shared", 0xFFF2, 8, 8, True))), "section that is loaded"),
    "relocation past its section": (relocated(4, PC32, 1, 0), "four bytes inside 7, found offset 4"),
    "relocation far out": (relocated(1 << 63, PC32, 1, 0), "four bytes inside 7"),
    "relocation to no symbol": (relocated(2, PC32, 3, 0), "a symbol below 3, found 3"),
    "relocation to nothing": (relocated(2, PC32, 0, 0), "in nothing that is loaded"),
    "absolute relocation": (relocated(2, 1, 1, 0), "relocation 1 is not one that kernels use"),
    "relocation out of reach": (relocated(2, PC32, 1, 1 << 40), "out of reach"),
    "function missing": (changed(lambda w: w.symbols.pop()), "expected a function of that name in it, found none"),
    "function local": (
        changed(lambda w: w.symbols.__setitem__(1, ("answer", 1, 0, 7, False))),
        "expected a function of that name in it, found none",
    ),
    "function elsewhere": (changed(lambda w: w.symbols.__setitem__(1, ("answer", 0, 0, 0, True))), "found 'answer'"),
    "foreign function": (calling("system").to_bytes(), "expected symbols of .* found 'system'"),
    "two symbol tables": (
        changed(lambda w: w.parts.append(Part(".symtab2", bytes(24), 0, 2))),
        "symbol tables: expected one, found 2",
    ),
}


@on_x86
@pytest.mark.parametrize("what", WRONG)
def test_wrong_objects_are_refused(what: str) -> None:
    code, said = WRONG[what]
    with pytest.raises(CompileError, match=said):
        load({"answer": code})


def test_other_machine_is_refused() -> None:
    machine = AARCH64 if platform.machine() == "x86_64" else 62
    with pytest.raises(CompileError, match=f"'answer': expected code for {platform.machine()}, found code for"):
        load({"answer": changed(lambda w: setattr(w, "machine", machine))})


@on_x86
def test_damage_never_escapes_as_another_error() -> None:
    """Flipped bits and lost ends of an object, as if the cache's checksum did not exist."""
    chance = random.Random(20)
    whole = table_object().to_bytes()
    refused = 0
    for _ in range(2000):
        code = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            code[chance.randrange(len(code))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.2:
            del code[chance.randrange(len(code)) :]
        try:
            load({"answer": bytes(code)})
        except CompileError:
            refused += 1
    assert 500 < refused < 2000  # not every bit matters to the loader


@pytest.mark.parametrize(
    ("kind", "before", "target", "addend", "after"),
    [
        (283, 0x94000000, 0x2008, 0, 0x94000402),  # bl .+0x1008
        (282, 0x14000000, 0x0000, 0, 0x17FFFC00),  # b .-0x1000
        (275, 0x90000000, 0x2ABC, 0, 0xB0000000),  # adrp x0, one page ahead
        (275, 0x90000003, 0x0ABC, 0, 0xF0FFFFE3),  # adrp x3, one page back
        (277, 0x91000000, 0x2123, 0, 0x91048C00),  # add x0, x0, #0x123
        (299, 0x3DC00000, 0x2120, 0, 0x3DC04800),  # ldr q0, [x0, #0x120]
        (286, 0xF9400020, 0x2100, 0x18, 0xF9408C20),  # ldr x0, [x1, #0x118]
        (285, 0xBD400000, 0x2124, 0, 0xBD412400),  # ldr s0, [x0, #0x124]
        (284, 0x79400000, 0x2122, 0, 0x79424400),  # ldrh w0, [x0, #0x122]
        (278, 0x39400000, 0x2121, 0, 0x39448400),  # ldrb w0, [x0, #0x121]
        (261, 0x00000000, 0x0FF0, 0x8, 0xFFFFFFF8),  # .word target + 8 - .
    ],
)
def test_arm_relocations(kind: int, before: int, target: int, addend: int, after: int) -> None:
    """Instruction words as the Arm Architecture Reference Manual encodes them; the place is 0x1000."""
    memory = bytearray(0x3000)
    struct.pack_into("<I", memory, 0x1000, before)
    link._RELOCATE["aarch64"](memory, 0x1000, [(0, 1 << 32 | kind, addend)], [None, target])
    assert hex(struct.unpack_from("<I", memory, 0x1000)[0]) == hex(after)


@pytest.mark.parametrize(
    ("kind", "target", "said"),
    [(283, 0x2002, "out of reach"), (283, 1 << 28, "out of reach"), (299, 0x2128, "out of reach"), (257, 0, "not one")],
)
def test_arm_relocations_that_cannot_be_done(kind: int, target: int, said: str) -> None:
    with pytest.raises(CompileError, match=said):
        link._RELOCATE["aarch64"](bytearray(4096), 0, [(0, 1 << 32 | kind, 0)], [None, target])


def test_sections_that_are_not_loaded_cost_nothing() -> None:
    wanted = table_object()
    wanted.parts += [Part(".comment", b"text", 0), Part(".eh_frame", bytes(64), ALLOC, relocations=[(0, 24, 1, 0)])]
    wanted.parts.append(Part(".note", b"", ALLOC | EXEC))
    assert [s.name for s in elf.parse(wanted.to_bytes()).sections.values()] == [".text", ".rodata"]
