"""Writes small ELF64 relocatable objects byte by byte, right ones and wrong ones, for the tests of the loader."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

PROGBITS, SYMTAB, STRTAB, RELA, NOBITS = 1, 2, 3, 4, 8
WRITE, ALLOC, EXEC, TLS = 1, 2, 4, 0x400
X86_64, AARCH64 = 62, 183


@dataclass
class Part:
    """A section with content of its own; ``relocations`` are (offset, kind, symbol, addend)."""

    name: str
    content: bytes
    flags: int = ALLOC | EXEC
    kind: int = PROGBITS
    alignment: int = 16
    relocations: Sequence[tuple[int, int, int, int]] = ()
    size: int | None = None


@dataclass
class ElfFile:
    """Sections, and ``symbols`` as (name, section, value, size, global), are numbered from 1."""

    parts: list[Part]
    symbols: list[tuple[str, int, int, int, bool]] = field(default_factory=list)
    machine: int = X86_64
    kind: int = 1

    def to_bytes(self) -> bytes:
        strings = _Strings()
        table = bytes(24) + b"".join(
            struct.pack("<IBBHQQ", strings.add(name), is_global << 4, 0, section, value, size)
            for name, section, value, size, is_global in self.symbols
        )
        sections = [(p.name, p.kind, p.flags, p.content, p.size, 0, 0, p.alignment, 0) for p in self.parts]
        symtab = len(sections) + 1
        sections.append((".symtab", SYMTAB, 0, table, None, symtab + 1, 1, 8, 24))
        sections.append((".strtab", STRTAB, 0, bytes(strings.content), None, 0, 0, 1, 0))
        for number, part in enumerate(self.parts, 1):
            if part.relocations:
                entries = b"".join(
                    struct.pack("<QQq", offset, symbol << 32 | kind, addend)
                    for offset, kind, symbol, addend in part.relocations
                )
                sections.append((".rela" + part.name, RELA, 0, entries, None, symtab, number, 8, 24))
        names = _Strings()
        offsets = [names.add(name) for name, *_ in sections] + [names.add(".shstrtab")]
        sections.append((".shstrtab", STRTAB, 0, bytes(names.content), None, 0, 0, 1, 0))
        body, headers = b"", bytes(64)
        for name_at, (_, kind, flags, content, size, link, info, alignment, entry) in zip(offsets, sections):
            length = len(content) if size is None else size
            headers += struct.pack(
                "<IIQQQQIIQQ", name_at, kind, flags, 0, 64 + len(body), length, link, info, alignment, entry
            )
            body += content
        head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
            "<HHIQQQIHHHHHH", self.kind, self.machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64,
            len(sections) + 1, len(sections),
        )  # fmt: skip
        return head + body + headers


class _Strings:
    def __init__(self) -> None:
        self.content = bytearray(b"\0")

    def add(self, text: str) -> int:
        at = len(self.content)
        self.content += text.encode() + b"\0"
        return at
