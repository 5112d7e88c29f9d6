"""Read the stream that ``torch.save`` wrote before PyTorch 1.6: five pickles, then the storages one after another.

Nothing here touches a weight: it says what the pickle holds and where each storage lies.
"""

from __future__ import annotations

from collections.abc import Mapping

from sepcore.formats.arrays import ITEM_BYTES
from sepcore.formats.pickle_vm import Machine, shown
from sepcore.formats.source import Cursor, Source
from sepcore.formats.torch_pickle import Pickled, TorchVocabulary
from sepcore.formats.torch_tensors import Storage

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


def read_torch_legacy(source: Source) -> Pickled:
    """Return what a legacy checkpoint holds.

    Raises
    ------
    FormatError : a pickle or storage is broken or truncated, big-endian, or not what a state dict needs.
    """
    cursor = Cursor(source, 0, source.size)
    vocabulary = TorchVocabulary()

    def load() -> tuple[str, object]:
        where = cursor.where(cursor.position)
        return where, Machine(cursor, vocabulary).run()

    where, magic = load()
    if magic != MAGIC_NUMBER:
        raise source.error(where, f"the magic number {MAGIC_NUMBER:#x}", shown(magic))
    where, version = load()
    if version != PROTOCOL_VERSION:
        raise source.error(where, f"protocol version {PROTOCOL_VERSION}", shown(version))
    where, system = load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise source.error(where, "the description of a little-endian machine", "another")
    _, value = load()
    where, keys = load()
    offsets = _find_storages(source, where, keys, cursor.position, vocabulary.storages)
    return Pickled(value, vocabulary.storages, offsets)


def _find_storages(
    source: Source, where: str, keys: object, position: int, storages: Mapping[str, Storage]
) -> dict[str, int]:
    """Walk the storages from ``position``: each is an int64 count, then that many elements."""
    if not isinstance(keys, list):
        raise source.error(where, "the list of storage keys", shown(keys))
    offsets: dict[str, int] = {}
    for key in keys:
        if not isinstance(key, str) or key not in storages or key in offsets:
            raise source.error(where, "each key of a tensor's storage once", shown(key))
        storage = storages[key]
        count = int.from_bytes(source.read(position, 8), "little", signed=True)
        if count != storage.numel:
            raise source.error(f"byte {position}, storage '{key}'", f"{storage.numel} elements", f"{count}")
        size = count * ITEM_BYTES[storage.dtype]
        source.check_range(position + 8, size)
        offsets[key] = position + 8
        position += 8 + size
    missing = next((key for key in storages if key not in offsets), None)
    if missing is not None:
        raise source.error(where, f"storage key {shown(missing)}, which a tensor needs", f"{len(keys)} others")
    return offsets
