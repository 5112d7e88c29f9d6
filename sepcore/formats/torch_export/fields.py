"""Parse a JSON entry within bounds, and hand out its values only once they have the type that is asked for.

It must not know what a field means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sepcore.errors import FormatError
from sepcore.formats.pickle_vm import shown
from sepcore.formats.source import Source
from sepcore.formats.zip_archive import Entry

MAX_JSON_BYTES = 64 << 20
"""EfficientNet-B0 takes 1 MB, most of it stack traces."""

MAX_JSON_TOKENS = 1 << 21
"""Brackets and commas: bounds what a small file of nothing but brackets may grow to in memory."""

MAX_TEXT = 1 << 12
MAX_INTEGER_DIGITS = 20

MAX_SHOWN = 300
"""Characters of a file's own words in a message."""

_FLOAT_WORDS = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
"""How PyTorch spells what JSON has no number for."""


def read_json(source: Source, entry: Entry) -> Field:
    """The value of a JSON entry.

    Raises
    ------
    FormatError : it is too large, nested too deeply, names a key twice, or is no JSON.
    """
    where = f"entry '{entry.name}'"
    if entry.size > MAX_JSON_BYTES:
        raise source.error(where, f"at most {MAX_JSON_BYTES} bytes of JSON", str(entry.size))
    raw = source.read(entry.offset, entry.size)
    if sum(map(raw.count, (b"[", b"{", b","))) > MAX_JSON_TOKENS:
        raise source.error(where, f"at most {MAX_JSON_TOKENS} values", "more")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise source.error(where, "UTF-8", f"other bytes at {error.start}") from None
    except RecursionError:
        raise source.error(where, "JSON of moderate depth", "brackets nested too deeply") from None
    except ValueError as error:
        raise source.error(where, "JSON", str(error)[:200]) from None
    return Field(source.path, where, value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a JSON entry, and where it stands.

    Attributes
    ----------
    path : the file.
    place : the entry, for the outermost value; else the key or index in ``within``.
    value : what ``json`` made of it.
    within : the field that holds it.
    """

    path: str
    place: str
    value: object
    within: Field | None = None

    @property
    def where(self) -> str:
        """The entry and the way to this value, for messages."""
        place = self.place if len(self.place) <= MAX_SHOWN else self.place[:MAX_SHOWN] + "…"
        return place if self.within is None else f"{self.within.where}, {place}"

    def error(self, expected: str, found: str | None = None) -> FormatError:
        """The error for this value."""
        return FormatError(self.path, self.where, expected, shown(self.value) if found is None else found)

    def _members(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self.error("an object")
        return self.value

    def member(self, name: str) -> Field:
        """The member of an object; an error where there is none."""
        members = self._members()
        if name not in members:
            raise self.error(f"a member '{name}'", ", ".join(members)[:200] or "an empty object")
        return Field(self.path, name, members[name], self)

    def optional(self, name: str) -> Field | None:
        """The member of an object; None where there is none, or null."""
        value = self._members().get(name)
        return None if value is None else Field(self.path, name, value, self)

    def members(self) -> Iterator[tuple[str, Field]]:
        """The members of an object by name."""
        for name, value in self._members().items():
            if len(name) > MAX_TEXT:
                raise self.error(f"names of at most {MAX_TEXT} characters", str(len(name)))
            yield name, Field(self.path, name, value, self)

    def elements(self) -> list[Field]:
        """The elements of an array."""
        if not isinstance(self.value, list):
            raise self.error("an array")
        return [Field(self.path, f"element {index}", value, self) for index, value in enumerate(self.value)]

    def variant(self) -> tuple[str, Field]:
        """The only member of an object, by which PyTorch writes a value of one of several types."""
        members = self._members()
        if len(members) != 1:
            raise self.error("an object of one member", f"{len(members)}")
        ((name, value),) = members.items()
        return name, Field(self.path, name, value, self)

    def text(self) -> str:
        """A string of moderate length."""
        if not isinstance(self.value, str) or len(self.value) > MAX_TEXT:
            raise self.error(f"a text of at most {MAX_TEXT} characters")
        return self.value

    def name(self) -> str:
        """A string that is not empty."""
        if not self.text():
            raise self.error("a name")
        return self.text()

    def flag(self) -> bool:
        """True or False."""
        if not isinstance(self.value, bool):
            raise self.error("true or false")
        return self.value

    def integer(self) -> int:
        """An integer of 64 bits."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not -(1 << 63) <= self.value < 1 << 63:
            raise self.error("an integer of 64 bits")
        return self.value

    def number(self) -> float:
        """A floating-point number; it may be infinite or NaN."""
        if isinstance(self.value, str) and self.value in _FLOAT_WORDS:
            return _FLOAT_WORDS[self.value]
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            raise self.error("a number")
        return float(self.value)
