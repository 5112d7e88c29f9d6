"""Interpret the pickle opcodes that checkpoints are made of, building plain values only.

Nothing here imports, looks up or calls what a file names: a global is a key into the caller's vocabulary, and what
that does not list is a FormatError. Objects outside the vocabulary's few constructors never come to exist.
The opcodes are those of CPython's Lib/pickletools.py, protocols 1 to 5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sepcore.formats.source import Cursor

MAX_OPCODES = 500_000
"""Opcodes and copied items in one pickle: bounds time, memory, stack and memo. MobileNetV2 needs 11,000."""
MAX_DEPTH = 256
"""Marks open at once, which is how deep containers nest in a file."""
MAX_TEXT_BYTES = 16 << 20
"""Bytes of all strings in one pickle together."""
MAX_LINE_BYTES = 512
"""Bytes of a global's module or name, or of a number written as text."""
MAX_INTEGER_BYTES = 64


class Refusal(Exception):
    """A value is not allowed; the machine adds the file and offset and raises a FormatError."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class Constructor:
    """A function of ours that stands for a global: it takes the file's argument tuple and returns a plain value."""

    name: str
    build: Callable[[tuple[object, ...]], object]


@dataclass(frozen=True, slots=True)
class Opaque:
    """Stands where a file holds an object that is allowed but carries no weights; its content is dropped."""

    name: str


class Vocabulary(Protocol):
    """What the globals and persistent ids of a file mean."""

    def find_global(self, name: str, *, outermost: bool) -> object:
        """Return what ``module.name`` stands for, or raise Refusal; ``outermost`` when the file begins with it."""

    def load_persistent(self, persistent_id: object) -> object:
        """Return the value a persistent id stands for, or raise Refusal."""


def shown(value: object) -> str:
    """Describe a value from a file in a few words: never its whole content, which may be huge or cyclic."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else value[:80] + "…")
    if isinstance(value, (Constructor, Opaque)):
        return value.name
    if isinstance(value, (list, tuple)):
        items = ["…" if isinstance(item, (list, tuple)) else shown(item) for item in value[:8]]
        return f"({', '.join(items)}{', …' if len(value) > 8 else ''})"
    return f"a value of type {type(value).__name__}"


class Machine:
    """One run over one pickle.

    Parameters
    ----------
    cursor : stands at the pickle's first byte; after ``run`` it stands behind the last.
    vocabulary : meaning of globals and persistent ids.
    """

    def __init__(self, cursor: Cursor, vocabulary: Vocabulary) -> None:
        self.cursor = cursor
        self.take = cursor.take
        self.vocabulary = vocabulary
        self.stack: list[object] = []
        self.outer: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.spent = 0
        self.text_bytes = 0

    def run(self) -> object:
        """Return the pickled value: a scalar, str, list, tuple, dict, Opaque or what the vocabulary builds.

        Raises
        ------
        FormatError : an opcode, global, operand or size is not allowed, or the bytes end early.
        """
        cursor, take, handlers = self.cursor, self.take, _HANDLERS
        while True:
            start = cursor.position
            opcode = take(1)
            try:
                if opcode == b".":
                    return self._result()
                self.spent += 1
                if self.spent > MAX_OPCODES:
                    raise Refusal(f"at most {MAX_OPCODES} opcodes", "more")
                handler = handlers.get(opcode)
                if handler is None:
                    raise Refusal("an opcode that state dicts use", f"opcode {_opcode_name(opcode)}")
                handler(self)
            except Refusal as error:
                raise cursor.source.error(cursor.where(start), error.expected, error.found) from None
            except IndexError:
                raise cursor.source.error(
                    cursor.where(start), f"an operand for opcode {_opcode_name(opcode)}", "an empty stack"
                ) from None

    def _result(self) -> object:
        if self.outer or len(self.stack) != 1:
            raise Refusal("one value at the end of a pickle", f"{len(self.stack)} and {len(self.outer)} open marks")
        return self.stack[0]

    # Stack and memo.

    def mark(self) -> None:
        if len(self.outer) == MAX_DEPTH:
            raise Refusal(f"values nested at most {MAX_DEPTH} deep", "deeper ones")
        self.outer.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[object]:
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def pop(self) -> None:
        self.stack.pop()

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise Refusal("a memo entry stored before", f"entry {index}, never stored")
        self.stack.append(self.memo[index])

    # Numbers and text.

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def real(self) -> None:
        self.stack.append(struct.unpack(">d", self.take(8))[0])

    def integer(self, size: int) -> None:
        if size > MAX_INTEGER_BYTES:
            raise Refusal(f"an integer of at most {MAX_INTEGER_BYTES} bytes", f"one of {size} bytes")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def decimal(self) -> None:
        text = self.cursor.line(MAX_LINE_BYTES)
        if text in (b"00", b"01"):
            self.stack.append(text == b"01")
            return
        digits = text.removesuffix(b"L")
        if not digits.removeprefix(b"-").isdigit():
            raise Refusal("a decimal integer", shown(text.decode("latin-1")))
        self.stack.append(int(digits))

    def text(self, size: int, encoding: str = "utf-8") -> None:
        self.text_bytes += size
        if self.text_bytes > MAX_TEXT_BYTES:
            raise Refusal(f"at most {MAX_TEXT_BYTES} bytes of strings", f"{self.text_bytes}")
        self.stack.append(_decoded(self.take(size), encoding))

    def binary(self, size: int) -> None:
        # Weights never lie in bytes objects, so their content is not even read.
        self.cursor.skip(size)
        self.stack.append(_BYTES)

    # Containers.

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def tuple_since_mark(self) -> None:
        items = self.pop_mark()
        self.stack.append(tuple(items))

    def set_since_mark(self) -> None:
        self.pop_mark()
        self.stack.append(_SET)

    def append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def extend(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise Refusal("a list to append to", shown(target))

    def set_item(self) -> None:
        value = self.stack.pop()
        self._set_items([self.stack.pop(), value])

    def set_items(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if len(items) % 2:
            raise Refusal("a value for every key", "an odd number of items")
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2]):
                target[checked_key(key)] = value
        elif not isinstance(target, Opaque):
            raise Refusal("a dict to set items in", shown(target))

    # Globals and objects.

    def find_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refusal("a module and a name", f"{shown(module)} and {shown(name)}")
        outermost = not self.stack and not self.outer
        self.stack.append(self.vocabulary.find_global(f"{module}.{name}", outermost=outermost))

    def global_lines(self) -> None:
        module = _decoded(self.cursor.line(MAX_LINE_BYTES))
        self.find_global(module, _decoded(self.cursor.line(MAX_LINE_BYTES)))

    def global_from_stack(self) -> None:
        name = self.stack.pop()
        self.find_global(self.stack.pop(), name)

    def construct(self) -> None:
        arguments = self.stack.pop()
        constructor = self.stack.pop()
        if not isinstance(constructor, Constructor):
            raise Refusal("an allowed constructor", shown(constructor))
        if not isinstance(arguments, tuple):
            raise Refusal(f"a tuple of arguments for {constructor.name}", shown(arguments))
        # A constructor may copy a container it is given: that counts, or a short file could have one copied for ever.
        self.spent += sum(len(item) for item in arguments if isinstance(item, (list, tuple, dict)))
        self.stack.append(constructor.build(arguments))

    def construct_with_keywords(self) -> None:
        keywords = self.stack.pop()
        if not isinstance(keywords, dict) or keywords:
            raise Refusal("a constructor without keyword arguments", shown(keywords))
        self.construct()

    def set_state(self) -> None:
        # Attributes of an object (a state dict's _metadata, say) carry no weights and are dropped.
        self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, (dict, Opaque)):
            raise Refusal("an object that can take attributes", shown(target))

    def persistent(self) -> None:
        self.stack.append(self.vocabulary.load_persistent(self.stack.pop()))


def checked_key(key: object) -> object:
    """Return ``key`` if a dict may hold it: nothing whose hash or comparison could be made slow or recursive."""
    if isinstance(key, int) and not -(1 << 63) <= key < 1 << 64:
        raise Refusal("a dict key of at most 64 bits", "a longer integer")
    if key is None or isinstance(key, (str, int, float, Opaque)):
        return key
    raise Refusal("a string or number as dict key", shown(key))


def _decoded(raw: bytes, encoding: str = "utf-8") -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise Refusal("UTF-8 text", f"the bytes {raw[:16].hex(' ')}") from None


def _opcode_name(opcode: bytes) -> str:
    name = _REFUSED.get(opcode)
    return f"0x{opcode[0]:02x}" + (f" ({name})" if name else "")


_BYTES = Opaque("bytes")
_SET = Opaque("set")

_REFUSED = {
    b"i": "INST",
    b"o": "OBJ",
    b"P": "PERSID",
    b"\x82": "EXT1",
    b"\x83": "EXT2",
    b"\x84": "EXT4",
    b"\x97": "NEXT_BUFFER",
    b"\x98": "READONLY_BUFFER",
}

_HANDLERS: Mapping[bytes, Callable[[Machine], object]] = {
    b"\x80": lambda m: m.take(1),  # PROTO: every protocol is read alike
    b"\x95": lambda m: m.take(8),  # FRAME: a reading hint
    b"(": Machine.mark,
    b"0": Machine.pop,
    b"1": Machine.pop_mark,
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"I": Machine.decimal,
    b"L": Machine.decimal,
    b"J": lambda m: m.integer(4),
    b"K": lambda m: m.stack.append(m.take(1)[0]),
    b"M": lambda m: m.stack.append(m.unsigned(2)),
    b"\x8a": lambda m: m.integer(m.take(1)[0]),
    b"\x8b": lambda m: m.integer(m.unsigned(4)),
    b"G": Machine.real,
    b"U": lambda m: m.text(m.take(1)[0], "latin-1"),
    b"T": lambda m: m.text(m.unsigned(4), "latin-1"),
    b"X": lambda m: m.text(m.unsigned(4)),
    b"\x8c": lambda m: m.text(m.take(1)[0]),
    b"\x8d": lambda m: m.text(m.unsigned(8)),
    b"C": lambda m: m.binary(m.take(1)[0]),
    b"B": lambda m: m.binary(m.unsigned(4)),
    b"\x8e": lambda m: m.binary(m.unsigned(8)),
    b"\x96": lambda m: m.binary(m.unsigned(8)),
    b"]": lambda m: m.stack.append([]),
    b"a": Machine.append,
    b"e": Machine.extend,
    b")": lambda m: m.stack.append(()),
    b"t": Machine.tuple_since_mark,
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"}": lambda m: m.stack.append({}),
    b"s": Machine.set_item,
    b"u": Machine.set_items,
    b"\x8f": lambda m: m.stack.append(_SET),
    b"\x90": Machine.extend,
    b"\x91": Machine.set_since_mark,
    b"h": lambda m: m.recall(m.take(1)[0]),
    b"j": lambda m: m.recall(m.unsigned(4)),
    b"q": lambda m: m.remember(m.take(1)[0]),
    b"r": lambda m: m.remember(m.unsigned(4)),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"c": Machine.global_lines,
    b"\x93": Machine.global_from_stack,
    b"R": Machine.construct,
    b"\x81": Machine.construct,
    b"\x92": Machine.construct_with_keywords,
    b"b": Machine.set_state,
    b"Q": Machine.persistent,
}
