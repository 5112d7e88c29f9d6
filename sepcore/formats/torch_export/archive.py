"""Find the graph, the weights and the constants in a .pt2 archive, in each of the layouts that PyTorch has written.

It must not interpret the graph. Sample inputs are never opened.

==============  ===================================  ==========================================================
PyTorch         graph                                weights (constants likewise)
==============  ===================================  ==========================================================
2.5 to 2.7      serialized_exported_program.json     serialized_state_dict.pt, as torch.save writes it
2.8             <root>/models/<name>.json            <root>/data/weights/<name>.pt, as torch.save writes it
2.9 and newer   <root>/models/<name>.json            <root>/data/weights/<name>_weights_config.json says where
                                                     in <root>/data/weights/weight_<i> each weight lies, raw
==============  ===================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sepcore.errors import FormatError
from sepcore.formats.source import Source
from sepcore.formats.zip_archive import Entry

ARCHIVE_VERSION = b"0"

_FLAT_GRAPH = "serialized_exported_program.json"


@dataclass(frozen=True)
class Payload:
    """Where tensors lie: in one file of torch.save, or as a configuration and raw files beside it.

    Attributes
    ----------
    saved : the file of torch.save, or None.
    config : the configuration, or None.
    raw : the raw files by the name that the configuration gives them.
    """

    saved: Entry | None
    config: Entry | None
    raw: Mapping[str, Entry]


@dataclass(frozen=True)
class Archive:
    """The parts of a .pt2 file that are read."""

    program: Entry
    weights: Payload
    constants: Payload


def read_archive(source: Source, entries: Mapping[str, Entry]) -> Archive:
    """Find the parts of a .pt2 file, whose entries are given.

    Raises
    ------
    FormatError : the archive holds no exported program or several, or is of a layout that is not known.
    """
    if _FLAT_GRAPH in entries:
        saved = {kind: entries.get(f"serialized_{kind}.pt") for kind in ("state_dict", "constants")}
        if saved["state_dict"] is None:
            raise source.error("the archive's directory", "an entry 'serialized_state_dict.pt'", _some(entries))
        return Archive(
            entries[_FLAT_GRAPH], Payload(saved["state_dict"], None, {}), Payload(saved["constants"], None, {})
        )
    root, name = _program(source, entries)
    _check_header(source, entries, root)
    return Archive(
        entries[f"{root}/models/{name}.json"],
        _payload(source, entries, f"{root}/data/weights/", f"{name}_weights_config.json", f"{name}.pt"),
        _payload(source, entries, f"{root}/data/constants/", f"{name}_constants_config.json", f"{name}.pt"),
    )


def _some(entries: Mapping[str, Entry]) -> str:
    return ", ".join(name[:80] for name, _ in zip(entries, range(5))) or "nothing"


def _program(source: Source, entries: Mapping[str, Entry]) -> tuple[str, str]:
    """The archive's top folder and the name of its only program."""
    found = []
    for name in entries:
        parts = name.split("/")
        if len(parts) == 3 and parts[1] == "models" and parts[2].endswith(".json"):
            found.append((parts[0], parts[2].removesuffix(".json")))
    if len(found) != 1:
        expected = "one exported program <root>/models/<name>.json, as torch.export.save writes"
        raise source.error(
            "the archive's directory", expected, f"{len(found)} of them" if found else f"none: {_some(entries)}"
        )
    return found[0]


def _check_header(source: Source, entries: Mapping[str, Entry], root: str) -> None:
    for name, expected in (("archive_format", b"pt2"), ("archive_version", ARCHIVE_VERSION), ("byteorder", b"little")):
        entry = entries.get(f"{root}/{name}")
        if entry is None:
            continue
        found = source.read(entry.offset, min(entry.size, 16))
        if entry.size != len(found) or found != expected:
            raise source.error(f"entry '{entry.name}'", expected.decode(), repr(found.decode("latin-1")))


def _payload(source: Source, entries: Mapping[str, Entry], folder: str, config: str, saved: str) -> Payload:
    found = Payload(
        entries.get(folder + saved),
        entries.get(folder + config),
        {name.removeprefix(folder): entry for name, entry in entries.items() if name.startswith(folder)},
    )
    if (found.saved is None) == (found.config is None):
        expected = f"either '{folder}{config}' or '{folder}{saved}'"
        raise source.error("the archive's directory", expected, "neither" if found.saved is None else "both")
    return found


class Section(Source):
    """One entry of an open archive, as a file of its own.

    Parameters
    ----------
    source : the archive.
    entry : what to read of it.
    """

    def __init__(self, source: Source, entry: Entry) -> None:
        self.path = source.path
        self.size = entry.size
        self._source = source
        self._entry = entry

    def error(self, where: str, expected: str, found: str) -> FormatError:
        """The error that names the file and the entry."""
        return self._source.error(f"entry '{self._entry.name}', {where}", expected, found)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill ``buffer`` from ``offset`` in the entry; a range outside the entry is a FormatError."""
        self.check_range(offset, len(memoryview(buffer).cast("B")))
        self._source.read_into(self._entry.offset + offset, buffer)
