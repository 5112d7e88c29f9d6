"""Describe tensors as views of storages, check them, and read them from a file once they are known to be wanted.

Nothing here parses a file: it is told where each storage lies. No byte of a storage is read before every size, offset
and stride of the tensors on it has been checked; Python's integers do not overflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.formats.arrays import ITEM_BYTES, read_flat
from sepcore.formats.pickle_vm import Refusal, shown
from sepcore.formats.source import Source

MAX_RANK = 32
MAX_EXPANDED_BYTES = 1 << 20
"""A tensor may repeat elements of its storage (stride 0) up to this size; a larger one must fit its storage."""
MAX_EMPTY_ELEMENTS = 1 << 40


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of equal elements in the file, or a window on one.

    Parameters
    ----------
    key : name under which the file keeps the elements.
    dtype : element type, PyTorch's name.
    numel : elements in the run, or in the window.
    start : first element of the window.
    """

    key: str
    dtype: str
    numel: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A checked view of storage ``key``; ``offset`` and ``strides`` count elements of ``dtype`` from its first byte."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def checked_tensor(view: tuple[object, ...], dtype: str | None = None) -> Tensor:
    """Return the tensor that PyTorch's ``set_(*view)`` would make of ``(storage, offset, shape, strides)``.

    ``dtype`` differs from the storage's own where the file keeps untyped bytes.

    Raises
    ------
    Refusal : a value has the wrong type, or the view reaches outside the storage.
    """
    storage, offset, shape, strides = view
    if not isinstance(storage, Storage):
        raise Refusal("a storage", shown(storage))
    dtype = dtype or storage.dtype
    item_bytes, stored_bytes = ITEM_BYTES[dtype], storage.numel * ITEM_BYTES[storage.dtype]
    first = checked_size("offset", offset)
    dims, steps = _checked_sizes("shape", shape), _checked_sizes("strides", strides)
    if len(dims) != len(steps):
        raise Refusal(f"{len(dims)} strides", f"{len(steps)}")
    if 0 in dims:
        if math.prod(max(dim, 1) for dim in dims) > MAX_EMPTY_ELEMENTS:
            raise Refusal("an empty tensor of moderate shape", f"shape {dims}")
    else:
        last = first + sum((dim - 1) * step for dim, step in zip(dims, steps))
        if (last + 1) * item_bytes > stored_bytes:
            raise Refusal(
                f"a view inside the {stored_bytes} bytes of storage '{storage.key}'",
                f"offset {first}, shape {dims}, strides {steps} of {dtype}, which need {(last + 1) * item_bytes}",
            )
        if math.prod(dims) * item_bytes > max(stored_bytes, MAX_EXPANDED_BYTES):
            raise Refusal(f"a tensor no larger than its storage of {stored_bytes} bytes", f"shape {dims}")
    return Tensor(storage.key, dtype, storage.start + first, dims, steps)


def checked_size(what: str, value: object) -> int:
    """Return ``value`` as a count of elements, which is an integer from 0 to 2**62, or raise Refusal."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1 << 62:
        raise Refusal(f"{what}: a count of elements", shown(value))
    return value


def _checked_sizes(what: str, values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > MAX_RANK:
        raise Refusal(f"{what}: at most {MAX_RANK} sizes", shown(values))
    return tuple(checked_size(what, value) for value in values)


def read_tensors(
    source: Source, tensors: Mapping[str, Tensor], offsets: Mapping[str, int], storages: Mapping[str, Storage]
) -> dict[str, NDArray[Any]]:
    """Read the storages that ``tensors`` view, each once, and return the views.

    Parameters
    ----------
    source : the checkpoint.
    tensors : name -> checked view.
    offsets : storage key -> byte at which its elements begin in the file.
    storages : storage key -> the whole storage.

    Returns
    -------
    name -> read-only array; tensors that share a storage share memory.

    Raises
    ------
    FormatError : two tensors give one storage different element types.
    """
    flats: dict[str, tuple[str, NDArray[Any]]] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in tensors.items():
        if tensor.key not in flats:
            flats[tensor.key] = tensor.dtype, _read_storage(source, tensor.dtype, storages[tensor.key], offsets)
        dtype, flat = flats[tensor.key]
        if dtype != tensor.dtype:
            raise source.error(f"tensor '{name}'", f"{dtype}, as other tensors on its storage", tensor.dtype)
        arrays[name] = _view(flat, tensor)
    return arrays


def _read_storage(source: Source, dtype: str, storage: Storage, offsets: Mapping[str, int]) -> NDArray[Any]:
    count = storage.numel * ITEM_BYTES[storage.dtype] // ITEM_BYTES[dtype]
    return read_flat(source, offsets[storage.key], dtype, count)


def _view(flat: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    if 0 in tensor.shape:
        empty = np.empty(tensor.shape, flat.dtype)
        empty.flags.writeable = False
        return empty
    item_bytes = flat.dtype.itemsize
    view: NDArray[Any] = np.ndarray(
        tensor.shape,
        flat.dtype,
        buffer=flat.data,
        offset=tensor.offset * item_bytes,
        strides=tuple(step * item_bytes for step in tensor.strides),
    )
    return view
