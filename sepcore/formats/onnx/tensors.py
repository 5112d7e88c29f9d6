"""Turn a TensorProto into an array after checking that its elements are all there.

It must not know what a tensor is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from sepcore.errors import FormatError
from sepcore.formats.onnx.external import ExternalFiles
from sepcore.formats.onnx.model import MAX_RANK
from sepcore.ir.graph import Array, frozen

MAX_LENGTH = 2**31 - 1


@dataclass(frozen=True)
class ElementType:
    """One of ONNX's element types.

    Attributes
    ----------
    name : as in ONNX's documentation, lower case.
    stored : NumPy's type of one element in ``raw_data`` and external files; "" for types that cannot be read.
    field : the TensorProto field that holds the elements where ``raw_data`` does not.
    widened : type of the array that is handed out where it is not ``stored``: sepcore computes in float32, not in half
        precision.
    """

    name: str
    stored: str = ""
    field: str = ""
    widened: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array that is handed out, in this machine's byte order."""
        dtype: np.dtype[Any] = np.dtype(self.widened or self.stored).newbyteorder("=")
        return dtype


ELEMENT_TYPES = {
    1: ElementType("float32", "<f4", "float_data"),
    2: ElementType("uint8", "u1", "int32_data"),
    3: ElementType("int8", "i1", "int32_data"),
    4: ElementType("uint16"),
    5: ElementType("int16"),
    6: ElementType("int32", "<i4", "int32_data"),
    7: ElementType("int64", "<i8", "int64_data"),
    8: ElementType("string"),
    9: ElementType("bool", "?", "int32_data"),
    10: ElementType("float16", "<f2", "int32_data", widened="float32"),
    11: ElementType("float64", "<f8", "double_data"),
    12: ElementType("uint32"),
    13: ElementType("uint64"),
    14: ElementType("complex64"),
    15: ElementType("complex128"),
    16: ElementType("bfloat16", "<u2", "int32_data", widened="float32"),
    17: ElementType("float8e4m3fn"),
    18: ElementType("float8e4m3fnuz"),
    19: ElementType("float8e5m2"),
    20: ElementType("float8e5m2fnuz"),
    21: ElementType("uint4"),
    22: ElementType("int4"),
    23: ElementType("float4e2m1"),
    24: ElementType("float8e8m0"),
    25: ElementType("uint2"),
    26: ElementType("int2"),
}
"""TensorProto.DataType -> what is known of it. Source: onnx/onnx.proto."""

_BOOL, _HALF, _BFLOAT16 = ELEMENT_TYPES[9], ELEMENT_TYPES[10], ELEMENT_TYPES[16]


class UnreadableTypeError(Exception):
    """A tensor's elements are of a type that sepcore has no use for."""


def element_type(path: str, where: str, code: int) -> ElementType:
    """The row of a TensorProto.DataType.

    Raises
    ------
    FormatError : there is no such type.
    UnreadableTypeError : it cannot be read.
    """
    if code not in ELEMENT_TYPES:
        raise FormatError(path, where, "an element type of ONNX", str(code))
    row = ELEMENT_TYPES[code]
    if not row.stored:
        raise UnreadableTypeError(f"elements of type {row.name} cannot be read")
    return row


def read_tensor(path: str, tensor: Any, where: str, files: ExternalFiles) -> Array:
    """The array that ``tensor`` (a TensorProto) holds, or that lies beside the model.

    Returns
    -------
    A read-only array in this machine's byte order; float16 and bfloat16 arrive as float32.

    Raises
    ------
    FormatError
        If dimensions, element type and the number of elements do not fit together.
    UnreadableTypeError
        If the element type cannot be read.
    """
    row = element_type(path, where, tensor.data_type)
    shape = tuple(int(length) for length in tensor.dims)
    if len(shape) > MAX_RANK or any(not 0 <= length <= MAX_LENGTH for length in shape):
        raise FormatError(path, where, f"at most {MAX_RANK} dimensions of 0 to {MAX_LENGTH}", _shown(shape))
    if tensor.HasField("segment"):
        raise FormatError(path, where, "a whole tensor", "a segment of one")
    stored = np.dtype(row.stored)
    size = prod(shape) * stored.itemsize
    held_as = [name for name in _DATA_FIELDS if len(getattr(tensor, name))]
    if tensor.data_location == tensor.EXTERNAL:
        if held_as:
            raise FormatError(path, where, "external data only", f"{held_as[0]} too")
        flat = np.frombuffer(files.read(where, _entries(path, where, tensor), size), stored)
    elif "raw_data" in held_as or not held_as:
        if len(held_as) > 1:
            raise FormatError(path, where, "elements in one field", " and ".join(held_as))
        if len(tensor.raw_data) != size:
            expected = f"{size} bytes for {row.name}{_shown(shape)}"
            raise FormatError(path, where, expected, str(len(tensor.raw_data)))
        flat = np.frombuffer(tensor.raw_data, stored)
    else:
        flat = _typed(path, tensor, where, row, prod(shape), held_as)
    return frozen(_converted(flat, row).reshape(shape))


_FIELD_DTYPES = {
    "float_data": np.float32,
    "int32_data": np.int32,
    "int64_data": np.int64,
    "double_data": np.float64,
}
_DATA_FIELDS = ("raw_data", *_FIELD_DTYPES, "uint64_data", "string_data")


def _typed(path: str, tensor: Any, where: str, row: ElementType, count: int, held_as: list[str]) -> Array:
    """The elements in the field of their type; small integers and half floats (as bits) lie in ``int32_data``."""
    if held_as != [row.field]:
        raise FormatError(path, where, f"{row.name} elements in raw_data or {row.field}", " and ".join(held_as))
    found = getattr(tensor, row.field)
    if len(found) != count:
        raise FormatError(path, where, f"{count} elements for {_shown(tensor.dims)}", str(len(found)))
    wide = np.array(found, _FIELD_DTYPES[row.field])
    stored = np.dtype("<u2" if row is _HALF else row.stored)
    if wide.dtype.kind in "iu" and stored.kind in "iu" and count:
        info = np.iinfo(stored)
        if wide.min() < info.min or wide.max() > info.max:
            raise FormatError(path, where, f"{row.name} elements", f"{wide.min()} ... {wide.max()}")
    narrow = wide.astype(stored)
    return narrow.view("<f2") if row is _HALF else narrow


def _converted(flat: Array, row: ElementType) -> Array:
    if row is _BFLOAT16:
        return (flat.astype(np.uint32) << 16).view(np.float32)
    if row is _BOOL:
        truth: Array = flat.view(np.uint8) != 0
        return truth
    return flat.astype(row.dtype, copy=False)


def _entries(path: str, where: str, tensor: Any) -> dict[str, str]:
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in entries:
            raise FormatError(path, where, "each external data key once", f"{entry.key!r} twice")
        entries[entry.key] = entry.value
    return entries


def _shown(shape: Any) -> str:
    lengths = [str(length) for length in shape[: MAX_RANK + 1]]
    return f"[{', '.join(lengths)}{', ...' if len(shape) > MAX_RANK else ''}]"
