"""Read the weights and constants of a .pt2 file, each when it is asked for.

It must not read a tensor that no node uses, nor trust a size before it is checked. Nothing is unpickled: what
torch.save wrote is read as any checkpoint is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sepcore.formats.arrays import ITEM_BYTES
from sepcore.formats.pickle_vm import Refusal, shown
from sepcore.formats.source import Source
from sepcore.formats.torch_export.archive import Payload, Section
from sepcore.formats.torch_export.call import brief
from sepcore.formats.torch_export.fields import Field, read_json
from sepcore.formats.torch_export.program import STRIDED, parse_scalar_type
from sepcore.formats.torch_tensors import Storage, Tensor, checked_tensor, read_tensors
from sepcore.formats.torch_zip import read_torch_zip
from sepcore.formats.zip_archive import locate_entries, read_directory
from sepcore.ir.graph import Array


@dataclass(frozen=True)
class Tensors:
    """The tensors of one payload: described and checked, not yet read.

    Attributes
    ----------
    source : the file, or the part of it, in which they lie.
    views : key -> tensor, or why it cannot be read.
    offsets, storages : for the storages that the views are on.
    """

    source: Source
    views: Mapping[str, Tensor | Field]
    offsets: Mapping[str, int]
    storages: Mapping[str, Storage]

    def read(self, keys: Mapping[str, str]) -> dict[str, Array]:
        """The tensors under ``keys`` (name -> key), by name; those that share a storage share memory.

        Raises
        ------
        FormatError : there is none under a key, or it is stored as a pickled object.
        """
        wanted: dict[str, Tensor] = {}
        for name, key in keys.items():
            view = self.views.get(key)
            if isinstance(view, Field):
                raise view.error("a tensor stored raw", "a pickled object (a tensor subclass), which is never run")
            if view is None:
                raise self.source.error(f"tensor '{brief(key)}'", "its elements in the file", "none")
            wanted[name] = view
        return read_tensors(self.source, wanted, self.offsets, self.storages)


def describe(source: Source, payload: Payload) -> Tensors:
    """The tensors of a payload.

    Raises
    ------
    FormatError : the payload is broken, or a tensor does not lie inside its storage.
    """
    if payload.saved is not None:
        return _saved(Section(source, payload.saved)) if payload.saved.size else Tensors(source, {}, {}, {})
    return _raw(source, payload) if payload.config is not None else Tensors(source, {}, {}, {})


def _saved(section: Section) -> Tensors:
    pickled = read_torch_zip(section, locate_entries(section, read_directory(section)))
    if not isinstance(pickled.root, dict):
        raise section.error("the pickled value", "a dict of tensors", shown(pickled.root))
    views = {key: view for key, view in pickled.root.items() if isinstance(key, str) and isinstance(view, Tensor)}
    return Tensors(section, views, pickled.offsets, pickled.storages)


def _raw(source: Source, payload: Payload) -> Tensors:
    assert payload.config is not None
    views: dict[str, Tensor | Field] = {}
    offsets: dict[str, int] = {}
    storages: dict[str, Storage] = {}
    for key, meta in read_json(source, payload.config).member("config").members():
        if meta.member("use_pickle").flag():
            views[key] = meta
            continue
        path = meta.member("path_name")
        entry = payload.raw.get(path.name())
        if entry is None:
            raise path.error("a raw file beside the configuration")
        described = meta.member("tensor_meta")
        dtype = parse_scalar_type(described.member("dtype"))
        if dtype not in ITEM_BYTES:
            raise described.member("dtype").error(f"an element type of {', '.join(ITEM_BYTES)}", dtype)
        if described.member("layout").integer() != STRIDED:
            raise described.member("layout").error(f"{STRIDED}, a dense tensor")
        if entry.size % ITEM_BYTES[dtype]:
            raise source.error(f"entry '{entry.name}'", f"whole {dtype} elements", f"{entry.size} bytes")
        # Empty tensors of any type share one empty file.
        storage = Storage(entry.name if entry.size else f"{entry.name} {dtype}", dtype, entry.size // ITEM_BYTES[dtype])
        storages.setdefault(storage.key, storage)
        offsets[storage.key] = entry.offset
        views[key] = _view(described, storage)
    return Tensors(source, views, offsets, storages)


def _view(described: Field, storage: Storage) -> Tensor:
    shape, strides = (
        tuple(_plain(length) for length in described.member(name).elements()) for name in ("sizes", "strides")
    )
    try:
        return checked_tensor((storage, _plain(described.member("storage_offset")), shape, strides))
    except Refusal as refusal:
        raise described.error(refusal.expected, refusal.found) from None


def _plain(length: Field) -> int:
    kind, content = length.variant()
    if kind != "as_int":
        raise length.error("a number 'as_int'", repr(kind[:80]))
    return content.integer()
