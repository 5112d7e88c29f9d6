"""Walk a serialised ONNX model field by field before protobuf allocates anything for it.

It must not know what the fields mean, only which of them hold messages of their own.
"""

from __future__ import annotations

from sepcore.errors import FormatError

MAX_FIELDS = 500_000
"""Fields one model may have. An empty message takes two bytes in the file and 150 once parsed."""

_MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {
        7: "GraphProto",
        8: "OperatorSetIdProto",
        14: "StringStringEntryProto",
        20: "TrainingInfoProto",
        25: "FunctionProto",
    },
    "GraphProto": {
        1: "NodeProto",
        5: "TensorProto",
        11: "ValueInfoProto",
        12: "ValueInfoProto",
        13: "ValueInfoProto",
        14: "TensorAnnotation",
        15: "SparseTensorProto",
        16: "StringStringEntryProto",
    },
    "NodeProto": {5: "AttributeProto", 9: "StringStringEntryProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        14: "TypeProto",
        15: "TypeProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "FunctionProto": {
        7: "NodeProto",
        9: "OperatorSetIdProto",
        11: "AttributeProto",
        12: "ValueInfoProto",
        14: "StringStringEntryProto",
    },
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto", 3: "StringStringEntryProto", 4: "StringStringEntryProto"},
    "TensorProto": {13: "StringStringEntryProto", 16: "StringStringEntryProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "ValueInfoProto": {2: "TypeProto", 4: "StringStringEntryProto"},
    "TypeProto": {1: "TypeProto.Tensor"},
    "TypeProto.Tensor": {2: "TensorShapeProto"},
    "TensorShapeProto": {1: "TensorShapeProto.Dimension"},
}
"""Message type -> field number -> type of the message in that field. Source: onnx/onnx.proto."""

_TEXTS: dict[str, tuple[int, ...]] = {
    "ModelProto": (2, 3, 4, 6),
    "GraphProto": (2, 10),
    "NodeProto": (1, 2, 3, 4, 6, 7, 8),
    "AttributeProto": (1, 13, 21),
    "FunctionProto": (1, 4, 5, 6, 8, 10, 13),
    "TensorProto": (8, 12),
    "ValueInfoProto": (1, 3),
    "TensorShapeProto.Dimension": (2, 3),
    "OperatorSetIdProto": (1,),
    "StringStringEntryProto": (1, 2),
}
"""Message type -> fields that hold text, which protobuf does not check."""

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def check_wire(path: str, content: bytes) -> None:
    """Raise FormatError unless ``content`` is a well-formed ModelProto of at most ``MAX_FIELDS`` fields.

    Source: https://protobuf.dev/programming-guides/encoding
    """
    fields = 0
    pending = [("ModelProto", 0, len(content))]
    while pending:
        message, position, end = pending.pop()
        inner, texts = _MESSAGES.get(message, {}), _TEXTS.get(message, ())
        while position < end:
            start = position
            key, position = _varint(path, content, position, end)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                _, position = _varint(path, content, position, end)
            elif kind == _LENGTH:
                length, position = _varint(path, content, position, end)
                if number in texts:
                    _check_text(path, content[position : position + length], start)
                elif number in inner:
                    pending.append((inner[number], position, position + length))
                position += length
            elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
                position += 4 if kind == _FOUR_BYTES else 8
            else:
                raise FormatError(path, f"byte {start}", f"a field of {message}", f"wire type {kind}")
            if number == 0:
                raise FormatError(path, f"byte {start}", f"a field of {message}", "field number 0")
            if position > end:
                found = f"{end - start}, of {position - start} declared"
                raise FormatError(path, f"byte {start}", f"field {number} of {message} whole", f"{found} bytes")
            fields += 1
            if fields > MAX_FIELDS:
                raise FormatError(path, f"byte {start}", f"a model of at most {MAX_FIELDS} fields", "more")


def _check_text(path: str, text: bytes, start: int) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError(path, f"byte {start}", "UTF-8 text", repr(text[:40])) from None


def _varint(path: str, content: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at ``position`` and where the next byte lies."""
    if position < end and content[position] < 0x80:
        return content[position], position + 1
    number = shift = 0
    start = position
    while position < end and shift < 64:
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise FormatError(path, f"byte {start}", "a number of at most ten bytes", "one without an end")
