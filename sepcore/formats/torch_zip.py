"""Read the zip layout that ``torch.save`` writes since PyTorch 1.6: ``<root>/data.pkl`` beside ``<root>/data/<key>``.

Nothing here touches a weight: it says what the pickle holds and where each storage lies.
"""

from __future__ import annotations

from collections.abc import Mapping

from sepcore.formats.arrays import ITEM_BYTES
from sepcore.formats.pickle_vm import Machine
from sepcore.formats.source import Cursor, Source
from sepcore.formats.torch_pickle import Pickled, TorchVocabulary
from sepcore.formats.torch_tensors import Storage
from sepcore.formats.zip_archive import Entry


def read_torch_zip(source: Source, entries: Mapping[str, Entry]) -> Pickled:
    """Return what a zip checkpoint, whose entries are given, holds.

    Raises
    ------
    FormatError : the pickle or a storage is broken, big-endian, or not what a state dict needs.
    """
    root = _archive_root(source, entries)
    order = entries.get(f"{root}/byteorder")
    if order is not None and (order.size > 16 or source.read(order.offset, order.size) != b"little"):
        raise source.error(
            f"entry '{order.name}'", "little", "another byte order; save again on a little-endian machine"
        )
    pickle = entries[f"{root}/data.pkl"]
    vocabulary = TorchVocabulary()
    value = Machine(Cursor(source, pickle.offset, pickle.offset + pickle.size, pickle.name), vocabulary).run()
    storages = vocabulary.storages
    offsets = {key: _find_storage(source, entries, root, storage) for key, storage in storages.items()}
    return Pickled(value, storages, offsets)


def _archive_root(source: Source, entries: Mapping[str, Entry]) -> str:
    """Return the one top folder that holds ``data.pkl``."""
    roots = [name.split("/")[0] for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise source.error("the archive's directory", "one entry <root>/data.pkl", f"{len(roots)}")
    return roots[0]


def _find_storage(source: Source, entries: Mapping[str, Entry], root: str, storage: Storage) -> int:
    name = f"{root}/data/{storage.key}"
    entry = entries.get(name)
    if entry is None:
        raise source.error(f"entry '{name}'", f"{storage.numel} {storage.dtype} elements", "no such entry")
    if entry.size // ITEM_BYTES[storage.dtype] != storage.numel:
        raise source.error(f"entry '{name}'", f"{storage.numel} {storage.dtype} elements", f"{entry.size} bytes")
    return entry.offset
