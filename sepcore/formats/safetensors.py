"""Read safetensors files: the header is checked here, then the safetensors package reads the tensors.

Nothing is read before the header has been checked; bfloat16, which the package cannot give to NumPy, is read here.
The format is https://github.com/huggingface/safetensors, README, section "Format".
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sepcore.formats.arrays import ITEM_BYTES, read_flat
from sepcore.formats.pickle_vm import shown
from sepcore.formats.source import Source

MAX_HEADER_BYTES = 4 << 20
"""A header holds about a hundred bytes per tensor."""
MAX_RANK = 32
MAX_SIZE_DIGITS = 19

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True)
class TensorRange:
    """A checked header entry: elements ``dtype`` of ``shape`` fill bytes ``first`` to ``last`` behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int
    last: int


def read_safetensors(source: Source) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the tensors, read-only, in the order in which they lie in the file, and the file's ``__metadata__``.

    Raises
    ------
    FormatError : the header is broken, or does not describe every byte of the file exactly once.
    """
    from safetensors import SafetensorError, safe_open

    ranges, start, metadata = read_header(source)
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with safe_open(source.path, framework="numpy") as archive:
            for entry in ranges:
                if entry.dtype == "bfloat16":
                    flat = read_flat(source, start + entry.first, entry.dtype, math.prod(entry.shape))
                    arrays[entry.name] = flat.reshape(entry.shape)
                else:
                    arrays[entry.name] = archive.get_tensor(entry.name)
                arrays[entry.name].flags.writeable = False
    except SafetensorError as error:
        raise source.error("the header", "a file that the safetensors package reads", str(error)) from None
    return arrays, metadata


def read_header(source: Source) -> tuple[list[TensorRange], int, dict[str, str]]:
    """Return the tensors' ranges, sorted, the byte from which they count, and ``__metadata__``; all of it checked."""
    size = int.from_bytes(source.read(0, 8), "little")
    if not 2 <= size <= min(MAX_HEADER_BYTES, source.size - 8):
        raise source.error("byte 0", f"a header size up to {min(MAX_HEADER_BYTES, source.size - 8)}", f"{size}")
    header = _parse(source, source.read(8, size))
    metadata = _checked_metadata(source, header.pop("__metadata__", {}))
    ranges = sorted(
        (_checked_range(source, name, entry) for name, entry in header.items()),
        key=lambda entry: (entry.first, entry.last),
    )
    _check_cover(source, ranges, source.size - 8 - size)
    return ranges, 8 + size, metadata


def _parse(source: Source, raw: bytes) -> dict[str, object]:
    def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) != len(pairs):
            names = [name for name, _ in pairs]
            double = next(name for name in table if names.count(name) > 1)
            raise source.error("the header", f"key {shown(double)} once", "it twice")
        return table

    def short_integer(digits: str) -> int:
        if len(digits) > MAX_SIZE_DIGITS:
            raise source.error("the header", f"sizes of at most {MAX_SIZE_DIGITS} digits", f"{len(digits)} digits")
        return int(digits)

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=no_duplicates, parse_int=short_integer)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise source.error("the header", "a JSON object in UTF-8", str(error)[:200]) from None
    except RecursionError:
        raise source.error("the header", "a JSON object of three levels", "far deeper nesting") from None
    if not isinstance(header, dict):
        raise source.error("the header", "a JSON object", shown(header))
    return header


def _checked_metadata(source: Source, metadata: object) -> dict[str, str]:
    if isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()):
        return metadata
    raise source.error("the header's __metadata__", "an object of strings", shown(metadata))


def _checked_range(source: Source, name: str, entry: object) -> TensorRange:
    def refuse(expected: str, found: object) -> Exception:
        return source.error(f"tensor {shown(name)}", expected, shown(found))

    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise refuse("dtype, shape and data_offsets", entry)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise refuse(f"a dtype of {', '.join(_DTYPES)}", dtype)
    if not _is_sizes(shape) or len(shape) > MAX_RANK:
        raise refuse(f"a shape of at most {MAX_RANK} sizes", shape)
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise refuse("two data_offsets", offsets)
    first, last = offsets
    wanted = math.prod(shape) * ITEM_BYTES[_DTYPES[dtype]]
    if last - first != wanted:
        raise refuse(f"data_offsets that are {wanted} bytes apart, for {dtype} of shape {shape}", offsets)
    return TensorRange(name, _DTYPES[dtype], tuple(shape), first, last)


def _is_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_cover(source: Source, ranges: list[TensorRange], size: int) -> None:
    position = 0
    for entry in ranges:
        if entry.first != position:
            raise source.error(
                f"tensor {shown(entry.name)}",
                f"data_offsets from {position}, where the last tensor ends",
                f"{entry.first}",
            )
        position = entry.last
    if position != size:
        raise source.error("the tensors' bytes", f"{position}, as the header says", f"{size}")
