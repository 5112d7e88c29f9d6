"""Reads ELF64 relocatable objects and checks every number in them; it must not map memory or run anything.

Formats: System V ABI, chapter "Object Files"; relocations in the x86-64 and AArch64 supplements.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sepcore.errors import CompileError

_MAGIC = b"\x7fELF"
_HEADER_BYTES = 64
_SECTION_BYTES = 64
_SYMBOL_BYTES = 24
_RELOCATION_BYTES = 24
_MAX_SECTIONS = 4096
_MAX_ALIGNMENT = 4096
MAX_LOADED_BYTES = 1 << 26

_SYMTAB, _RELA, _NOBITS, _REL = 2, 4, 8, 9
_WRITE, _ALLOC, _TLS = 1, 2, 0x400
_UNDEFINED, _FIRST_RESERVED = 0, 0xFF00

MACHINES = {62: "x86_64", 183: "aarch64"}


class Section(NamedTuple):
    """A part of the object that is loaded: ``content`` is padded with zeros to ``size`` bytes."""

    name: str
    size: int
    alignment: int
    content: bytes


class Symbol(NamedTuple):
    """``section`` is a key of ``ElfObject.sections``, None for what is defined elsewhere; local names are dropped."""

    name: str
    section: int | None
    value: int
    is_global: bool

    @property
    def is_external(self) -> bool:
        """Whether the symbol is to be found outside the object."""
        return self.section is None and self.name != ""


class ElfObject(NamedTuple):
    """The loadable content of an object.

    Attributes
    ----------
    machine : what ``platform.machine()`` says on Linux where the code runs.
    sections : by section number.
    symbols : in the order of the symbol table.
    relocations : for each loaded section (offset in it, symbol number << 32 | kind, addend); four bytes each.
    """

    machine: str
    sections: dict[int, Section]
    symbols: tuple[Symbol, ...]
    relocations: dict[int, list[tuple[int, int, int]]]


def is_elf(code: bytes) -> bool:
    """Whether ``code`` starts like an ELF file."""
    return code[:4] == _MAGIC


def undefined_symbols(code: bytes) -> set[str]:
    """Names that the object expects others to define."""
    return {s.name for s in parse(code).symbols if s.is_external}


def parse(code: bytes) -> ElfObject:
    """Sections, symbols and relocations of a 64-bit little-endian relocatable object.

    Raises
    ------
    CompileError : the object is broken, of another kind, or holds writable data (kernels have none).
    """
    return _Reader(code).read()


class _Reader:
    def __init__(self, code: bytes) -> None:
        self.code = code

    def require(self, holds: bool, where: str, expected: str, found: object) -> None:
        if not holds:
            raise CompileError(f"kernel object: {where}: expected {expected}, found {found}")

    def part(self, offset: int, size: int, where: str) -> bytes:
        """``size`` bytes at ``offset``."""
        end = len(self.code)
        self.require(
            offset <= end and size <= end - offset, where, f"bytes inside the object's {end}", f"{size} at {offset}"
        )
        return self.code[offset : offset + size]

    def text(self, table: bytes, offset: int, where: str) -> str:
        """The zero-terminated string at ``offset`` of a string table."""
        end = table.find(b"\0", offset) if offset < len(table) else -1
        self.require(end >= 0, where, f"a string inside the {len(table)} bytes of its table", f"offset {offset}")
        try:
            return table[offset:end].decode("ascii")
        except UnicodeDecodeError:
            raise CompileError(f"kernel object: {where}: expected ASCII, found {table[offset:end]!r}") from None

    def read(self) -> ElfObject:
        machine, headers, names = self.headers()
        sections = {}
        for number, header in enumerate(headers):
            section = self.section(number, header, names)
            if section is not None:
                sections[number] = section
        total = sum(s.size + s.alignment for s in sections.values())
        self.require(total <= MAX_LOADED_BYTES, "sections", f"at most {MAX_LOADED_BYTES} bytes", total)
        symbols = self.symbols(headers, sections)
        return ElfObject(machine, sections, symbols, self.relocations(headers, sections, len(symbols)))

    def headers(self) -> tuple[str, list[tuple[int, ...]], bytes]:
        """The machine, all section headers, and the table of section names."""
        head = self.part(0, _HEADER_BYTES, "file header")
        self.require(head[:7] == _MAGIC + b"\x02\x01\x01", "file header", "64-bit little-endian ELF", head[:7].hex())
        kind, number = struct.unpack_from("<HH", head, 16)
        self.require(kind == 1, "file header", "a relocatable object (1)", kind)
        self.require(number in MACHINES, "file header", f"machine of {sorted(MACHINES)}", number)
        (start,) = struct.unpack_from("<Q", head, 40)
        size, count, names_at = struct.unpack_from("<HHH", head, 58)
        self.require(size == _SECTION_BYTES, "section header size", str(_SECTION_BYTES), size)
        self.require(0 < count <= _MAX_SECTIONS, "section count", f"1 to {_MAX_SECTIONS}", count)
        self.require(names_at < count, "section name table", f"a section below {count}", names_at)
        table = self.part(start, count * _SECTION_BYTES, "section headers")
        headers = list(struct.iter_unpack("<IIQQQQIIQQ", table))
        names = self.part(headers[names_at][4], headers[names_at][5], "section names")
        return MACHINES[number], headers, names

    def section(self, number: int, header: tuple[int, ...], names: bytes) -> Section | None:
        """The section, or None where nothing of it is loaded."""
        name_at, kind, flags, _, offset, size, _, _, alignment, _ = header
        if not flags & _ALLOC or size == 0:
            return None
        where = f"section {number}"
        name = self.text(names, name_at, where)
        if name == ".eh_frame":  # stack unwinding: kernels neither throw nor are thrown through
            return None
        where = f"section {name!r}"
        self.require(not flags & _TLS, where, "no thread-local data", f"flags {flags:#x}")
        # .data.rel.ro is written by relocation alone.
        read_only = not flags & _WRITE or name.startswith(".data.rel.ro")
        self.require(read_only, where, "read-only memory (kernels hold no state)", f"{size} writable bytes")
        alignment = alignment or 1
        valid = alignment <= _MAX_ALIGNMENT and alignment & (alignment - 1) == 0
        self.require(valid, where, f"an alignment of a power of two up to {_MAX_ALIGNMENT}", alignment)
        self.require(size <= MAX_LOADED_BYTES, where, f"at most {MAX_LOADED_BYTES} bytes", size)
        content = b"" if kind == _NOBITS else self.part(offset, size, where)
        return Section(name, size, alignment, content)

    def symbols(self, headers: list[tuple[int, ...]], sections: dict[int, Section]) -> tuple[Symbol, ...]:
        tables = [h for h in headers if h[1] == _SYMTAB]
        self.require(len(tables) == 1, "symbol tables", "one", len(tables))
        _, _, _, _, offset, size, strings_at, _, _, entry = tables[0]
        valid = entry == _SYMBOL_BYTES and size % _SYMBOL_BYTES == 0
        self.require(valid, "symbol table", f"entries of {_SYMBOL_BYTES} bytes", f"{size} bytes by {entry}")
        self.require(strings_at < len(headers), "symbol names", f"a section below {len(headers)}", strings_at)
        strings = self.part(headers[strings_at][4], headers[strings_at][5], "symbol names")
        table = self.part(offset, size, "symbol table")
        return tuple(
            self.symbol(fields, strings, sections, len(headers)) for fields in struct.iter_unpack("<IBBHQQ", table)
        )

    def symbol(self, fields: tuple[int, ...], strings: bytes, sections: dict[int, Section], count: int) -> Symbol:
        name_at, info, _, number, value, size = fields
        is_global = info >> 4 != 0
        name = self.text(strings, name_at, "symbol name") if is_global else ""
        if number == _UNDEFINED:
            return Symbol(name, None, 0, is_global)
        if number not in sections:
            # Source file names and symbols of sections that are not loaded; a relocation may not name them.
            if is_global or count <= number < _FIRST_RESERVED:
                self.require(False, f"symbol {name!r}", "a section that is loaded", number)
            return Symbol("", None, 0, False)
        room = sections[number].size
        if value > room or size > room - value:
            self.require(False, f"symbol {name!r}", f"a place inside {room} bytes", f"{size} at {value}")
        return Symbol(name, number, value, is_global)

    def relocations(
        self, headers: list[tuple[int, ...]], sections: dict[int, Section], symbols: int
    ) -> dict[int, list[tuple[int, int, int]]]:
        found: dict[int, list[tuple[int, int, int]]] = {}
        for _, kind, _, _, offset, size, _, target, _, entry in headers:
            if target not in sections or kind not in (_REL, _RELA):
                continue
            where = f"relocations of {sections[target].name!r}"
            valid = kind == _RELA and entry == _RELOCATION_BYTES and size % _RELOCATION_BYTES == 0
            self.require(valid, where, "entries with addends", f"{size} bytes by {entry}")
            entries = list(struct.iter_unpack("<QQq", self.part(offset, size, where)))
            furthest = max((at for at, _, _ in entries), default=-4)
            room = sections[target].size
            self.require(furthest <= room - 4, where, f"four bytes inside {room}", f"offset {furthest}")
            highest = max((info for _, info, _ in entries), default=-1) >> 32
            self.require(highest < symbols, where, f"a symbol below {symbols}", highest)
            found.setdefault(target, []).extend(entries)
        return found
