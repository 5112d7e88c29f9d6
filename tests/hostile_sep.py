"""Generate hostile and broken .sep files: each must be refused with a FormatError within a second.

The files are put together here byte by byte, by the format's description and not by its writer. ``python
tests/hostile_sep.py FOLDER`` writes the corpus out.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Case = tuple[str, bytes]
Way = tuple[str | int, ...]

ARRAYS: dict[str, NDArray[Any]] = {
    "w": np.arange(2 * 3 * 3 * 3, dtype="<f4").reshape(2, 3, 3, 3),
    "b": np.array([0.5, -1.5], "<f4"),
    "number": np.array(7, "<i8"),
    "nothing": np.zeros((0, 3), "<f4"),
    "mask": np.array([True, False, True]),
}
HEAD_BYTES = 56


def aligned(position: int) -> int:
    return (position + 63) // 64 * 64


def laid_out() -> tuple[list[dict[str, Any]], bytes]:
    """The tensors' entries and the bytes they lie in."""
    entries, content = [], b""
    for name, array in ARRAYS.items():
        content = content.ljust(aligned(len(content)), b"\0")
        raw = array.tobytes()
        entry = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": len(content)}
        entries.append({**entry, "crc32": zlib.crc32(raw)})
        content += raw
    return entries, content


ENTRIES, TENSORS = laid_out()


def packed() -> tuple[list[dict[str, Any]], bytes]:
    """The entries of two levels of packed weights, and their bytes from a multiple of 4096 on."""
    levels, content = [], b""
    for isa, sizes in (("avx2", (100, 64, 1)), ("another_cpu", (8,))):
        content = content.ljust(-(-len(content) // 4096) * 4096, b"\0")
        first, blocks = len(content), []
        for number, size in enumerate(sizes):
            content = content.ljust(aligned(len(content)), b"\0")
            raw = bytes(range(1, size + 1))
            entry = {"key": f"{number:032x}", "offset": len(content) - first, "bytes": size}
            blocks.append({**entry, "crc32": zlib.crc32(raw)})
            content += raw
        content = content.ljust(aligned(len(content)) + 4096, b"\0")
        levels.append({"isa": isa, "shapes": [[1, 3, 8, 6]], "blocks": blocks})
    return levels, content


LEVELS, PACKED = packed()


def manifest() -> dict[str, Any]:
    """A sound manifest: a convolution with a fused clamp, a pad, and a cast there and back."""
    conv = {"strides": [2, 1], "padding": [1, 1, 1, 1], "groups": 1, "activation": ["clamp", 0.0, {"float": "inf"}]}
    pad = {"pads": [[0, 0], [0, 0], [1, 0], [0, 2]], "mode": "constant", "value": {"float": "-inf"}}
    return {
        "writer": "a text editor",
        "family": "by hand",
        "arch": "three_steps",
        "num_classes": 2,
        "labels": ["cat", "Käuzchen"],
        "preprocess": {
            "input_size": [8, 6],
            "resize": None,
            "crop": "center",
            "interpolation": "bicubic",
            "mean": [0.5, 0.25, 0],
            "std": [1.0, 0.5, 2],
        },
        "graph": {
            "name": "by_hand",
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 3, "h", 6]}],
            "outputs": ["y"],
            "nodes": [
                node("conv2d", "conv", ["x", "w", "b"], "c", conv),
                node("pad", "pad", ["c"], "p", pad),
                node("cast", "cast", ["p"], "d", {"dtype": {"dtype": "float64"}}),
                node("cast", "back", ["d"], "y", {"dtype": {"dtype": "float32"}}),
            ],
            "bounds": [{"length": "h", "least": 2, "most": 99}],
        },
        "tensors": copy.deepcopy(ENTRIES),
        "packed": copy.deepcopy(LEVELS),
    }


def node(op: str, name: str, inputs: list[str], output: str, attrs: dict[str, Any]) -> dict[str, Any]:
    return {"op": op, "name": name, "inputs": inputs, "outputs": [output], "attrs": attrs, "source": f"line of {name}"}


def signed(
    content: object, tensors: bytes = TENSORS, packed: bytes = PACKED, *, version: int = 2, size: int | None = None
) -> bytes:
    """A whole file, with the checksum of its head and manifest right, whatever these say."""
    text = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    tail = bytes(-(HEAD_BYTES + len(text)) % 64) + tensors
    if packed:
        tail += bytes(-(HEAD_BYTES + len(text) + len(tail)) % 4096) + packed
    whole = HEAD_BYTES + len(text) + len(tail)
    head = struct.pack("<8sIIQ", b"SEPCORE\0", version, len(text), whole if size is None else size)
    return head + hashlib.sha256(head + text).digest() + text + tail


def sound() -> bytes:
    return signed(manifest())


def changed(path: Way, value: Any) -> dict[str, Any]:
    """The sound manifest with another value at ``path``."""
    content: Any = manifest()
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content  # type: ignore[no-any-return]


def places(value: Any, path: Way = ()) -> Iterator[tuple[Way, Any]]:
    """Every value in a manifest and the way to it."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key), item
        yield from places(item, (*path, key))


def truncations() -> Iterator[Case]:
    whole = sound()
    for length in (*range(3000), *range(3000, len(whole), 37)):
        yield f"cut at byte {length}", whole[:length]


def additions() -> Iterator[Case]:
    for count in (1, 63, 64, 65, 4096):
        yield f"{count} zeros more", sound() + bytes(count)
        yield f"{count} zeros more, announced", signed(manifest(), packed=PACKED + bytes(count))
    bare = {**manifest(), "tensors": []}
    bare["graph"] = {**bare["graph"], "outputs": ["x"], "nodes": []}
    yield "tensors that nothing tells of", signed(bare)


def heads() -> Iterator[Case]:
    whole = sound()
    for version in (0, 1, 3, 1 << 31, (1 << 32) - 1):
        yield f"version {version}", signed(manifest(), version=version)
    for length in (0, 1, 8 << 20, (8 << 20) + 1, (1 << 32) - 1):
        yield f"manifest of {length} bytes", whole[:12] + struct.pack("<I", length) + whole[16:]
    for size in (0, 1, len(whole) - 1, len(whole) + 1, 1 << 62, (1 << 64) - 1):
        yield f"file of {size} bytes", signed(manifest(), size=size)
    yield "no checksum", whole[:24] + bytes(32) + whole[56:]
    yield "another magic", b"SEPCORE\1" + whole[8:]
    yield "a manifest of 8 MB and one byte", signed(b" " * ((8 << 20) + 1))


def texts() -> Iterator[Case]:
    yield "an empty manifest", signed(b"")
    yield "no JSON", signed(b"graph: yes")
    yield "two values", signed(json.dumps(manifest()).encode() * 2)
    yield "a byte-order mark", signed(b"\xef\xbb\xbf" + json.dumps(manifest()).encode())
    yield "Latin-1", signed(json.dumps(manifest(), ensure_ascii=False).encode("latin-1"))
    yield "UTF-16", signed(json.dumps(manifest()).encode("utf-16"))
    for depth in (5, 500, 100_000):
        yield f"{depth} brackets", signed(b"[" * depth + b"]" * depth)
        yield f"{depth} braces", signed(b'{"a":' * depth + b"1" + b"}" * depth)
        nested = b"[" * depth + b"1" + b"]" * depth
        yield f"an attribute {depth} deep", signed(json.dumps(manifest()).encode().replace(b"[2, 1]", nested))
    yield "millions of arrays", signed(b"[" + b"[]," * 2_000_000 + b"[]]")
    yield "millions of numbers", signed(b"[" + b"1," * 4_000_000 + b"1]")
    yield "a million digits", signed(b'{"num_classes":' + b"9" * 1_000_000 + b"}")
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"):
        yield f"the number {number.decode()}", signed(json.dumps(manifest()).encode().replace(b"0.25", number))
    text = json.dumps(manifest()).encode()
    yield "a key twice", signed(text.replace(b'"family":', b'"arch": "a", "family":'))
    yield "an attribute twice", signed(text.replace(b'"groups":', b'"groups": 1, "groups":'))


def members() -> Iterator[Case]:
    """Every object with a member less, and with one more; attributes that an operator needs not may go."""
    optional = {"strides", "padding", "groups", "activation", "pads", "mode", "value"}
    for path, value in places(manifest()):
        if isinstance(path[-1], str) and path[-1] not in optional:
            content = changed(path, value)
            place: Any = content
            for key in path[:-1]:
                place = place[key]
            del place[path[-1]]
            yield f"no {path}", signed(content)
        if isinstance(value, dict):
            yield f"more in {path}", signed(changed(path, {**value, "surplus": 1}))
    yield "more at the top", signed({**manifest(), "surplus": 1})


def wrong_types() -> Iterator[Case]:
    """Every value replaced by ones of another type."""
    for path, value in places(manifest()):
        for other in (
            None,
            True,
            1.5,
            -1,
            1 << 63,
            "",
            "\0",
            "x" * 5000,
            [],
            [[]],
            {},
            {"float": "nan"},
            {"dtype": "O"},
        ):
            if type(other) is type(value) or is_allowed(path, other):
                continue
            yield f"{path} is {str(other)[:20]!r}", signed(changed(path, other))


def is_allowed(path: Way, other: Any) -> bool:
    """Whether the format and the operator take a value of this type at this place as well."""
    key = path[-1]
    if other is None:
        return key in ("labels", "resize", "activation", "pads")
    if path[:2] == ("graph", "inputs") and path[-2] == "shape":
        return bool(other == "\0")  # Any text may name a length.
    if path[-2:-1] == ("std",):
        return type(other) in (int, float) and other > 0
    if path[-2:-1] == ("mean",) or key == "value" or path[-2:] in (("activation", 1), ("activation", 2)):
        return type(other) in (int, float) and (other != 1 << 63 or path[-2] == "mean")
    return False


def layouts() -> Iterator[Case]:
    """Tensors that lie elsewhere than the file allows."""

    def entry(index: int, **values: Any) -> bytes:
        return signed(changed(("tensors", index), {**ENTRIES[index], **values}))

    for offset in (-64, -1, 1, 32, 64, 192, 300, 320, 1 << 20, 1 << 40, (1 << 63) - 64, 1 << 64, 256.0, True, "256"):
        yield f"offset {offset!r}", entry(1, offset=offset)
    for shape in (
        [1],
        [3],
        [-2],
        [2, -1, -1],
        [1 << 40],
        [1 << 32, 1 << 32],
        [1 << 62],
        [0, 1 << 62],
        [2.0],
        [True],
        2,
    ):
        yield f"shape {shape!r}", entry(1, shape=shape)
    yield "33 axes", entry(1, shape=[2] + [1] * 32)
    yield "a hollow giant", entry(3, shape=[0, 1 << 30, 1 << 30])
    for dtype in (
        "float16",
        "bfloat16",
        "object",
        "O",
        "<f4",
        ">f4",
        "f4",
        "str",
        "complex64",
        "uint64",
        "",
        ",",
        "8f4",
    ):
        yield f"dtype {dtype!r}", entry(1, dtype=dtype)
    yield "a wider dtype", entry(1, dtype="float64")
    yield "a narrower dtype", entry(1, dtype="int8")
    for crc in (0, -1, ENTRIES[1]["crc32"] ^ 1, 1 << 32):
        yield f"CRC-32 {crc}", entry(1, crc32=crc)
    yield "a name twice", entry(1, name="w")
    yield "a name of an input", entry(2, name="x")
    yield "a name of a node's output", entry(2, name="c")
    yield "no name", entry(2, name="")
    yield "one tensor less", signed({**manifest(), "tensors": ENTRIES[:-1]})
    yield "one tensor twice", signed({**manifest(), "tensors": [*ENTRIES, ENTRIES[-1]]})
    yield "another order", signed({**manifest(), "tensors": [ENTRIES[1], ENTRIES[0], *ENTRIES[2:]]})
    yield "two tensors in one place", signed({**manifest(), "tensors": [*ENTRIES, {**ENTRIES[-1], "name": "again"}]})
    raw = bytearray(TENSORS)
    raw[ENTRIES[0]["offset"] + ARRAYS["w"].nbytes] = 1
    yield "something between the tensors", signed(manifest(), bytes(raw))
    padded = json.dumps(manifest()).encode()
    padded += b" " * ((10 - HEAD_BYTES - len(padded)) % 64)
    filled = bytearray(signed(padded))
    filled[HEAD_BYTES + len(padded)] = 1
    yield "something behind the manifest", bytes(filled)
    masked = bytearray(TENSORS)
    masked[-1] = 2
    yield (
        "a bool of 2",
        signed(changed(("tensors", 4, "crc32"), zlib.crc32(bytes(masked[ENTRIES[4]["offset"] :]))), bytes(masked)),
    )


def packings() -> Iterator[Case]:
    """Packed weights that lie elsewhere than the file allows, or are not what it says."""

    def block(**values: Any) -> bytes:
        return signed(changed(("packed", 0, "blocks", 1), {**LEVELS[0]["blocks"][1], **values}))

    def level(**values: Any) -> bytes:
        return signed(changed(("packed", 1), {**LEVELS[1], **values}))

    for offset in (-64, 0, 1, 64, 127, 192, 4096, 1 << 40, 1 << 64, 128.0, True):
        yield f"offset {offset!r}", block(offset=offset)
    for size in (-1, 0, 1, 63, 65, 128, 1 << 40, 1 << 64, 64.0, True):
        yield f"{size!r} bytes", block(bytes=size)
    for crc in (0, -1, LEVELS[0]["blocks"][1]["crc32"] ^ 1, 1 << 32):
        yield f"CRC-32 {crc}", block(crc32=crc)
    for key in ("", "0" * 31, "0" * 33, "x" * 32, "A" * 32, 0):
        yield f"key {key!r}", block(key=key)
    yield "a key twice", block(key=LEVELS[0]["blocks"][0]["key"])
    yield "no blocks", level(blocks=[])
    yield "an instruction set twice", level(isa=LEVELS[0]["isa"])
    for isa in ("", "AVX", "a b", "../avx2"):
        yield f"instruction set {isa!r}", level(isa=isa)
    for shapes in ([[0]], [[-1]], [[1 << 41]], [1], 1, [["n"]]):
        yield f"shapes {shapes!r}", level(shapes=shapes)
    yield "one level less", signed({**manifest(), "packed": LEVELS[:1]})
    yield "one level more", signed({**manifest(), "packed": [*LEVELS, {**LEVELS[1], "isa": "third"}]})
    yield "another order", signed({**manifest(), "packed": LEVELS[::-1]})
    yield "no spare bytes", signed(manifest(), packed=PACKED[:-4096])
    yield "a spare byte less", signed(manifest(), packed=PACKED[:-1])
    for place in (-1, -4096, 100, 127, 64 * 3, 4095):
        raw = bytearray(PACKED)
        raw[place] ^= 1
        yield f"something at {place}", signed(manifest(), packed=bytes(raw))


def graphs() -> Iterator[Case]:
    """Graphs that break a rule."""
    nodes = ("graph", "nodes")
    yield "an unknown operator", signed(changed((*nodes, 0, "op"), "os.system"))
    yield "a cycle", signed(changed((*nodes, 1, "inputs"), ["y"]))
    yield "a node that reads itself", signed(changed((*nodes, 1, "inputs"), ["p"]))
    yield "a missing value", signed(changed((*nodes, 0, "inputs"), ["x", "v", "b"]))
    yield "a value made twice", signed(changed((*nodes, 1, "outputs"), ["c"]))
    yield "a node's name twice", signed(changed((*nodes, 1, "name"), "conv"))
    yield "too many inputs", signed(changed((*nodes, 0, "inputs"), ["x", "w", "b", "b", "b"]))
    yield "too many outputs", signed(changed((*nodes, 0, "outputs"), ["c", "e"]))
    yield "an unknown output", signed(changed(("graph", "outputs"), ["z"]))
    yield "no outputs", signed(changed(("graph", "outputs"), []))
    yield "an input twice", signed(changed(("graph", "inputs"), manifest()["graph"]["inputs"] * 2))
    yield "an input of no elements", signed(changed(("graph", "inputs", 0, "shape"), ["n", 3, 0, 6]))
    yield "an input of 33 axes", signed(changed(("graph", "inputs", 0, "shape"), [1] * 33))
    yield "an unknown activation", signed(changed((*nodes, 0, "attrs", "activation"), ["exec"]))
    yield "three strides", signed(changed((*nodes, 0, "attrs", "strides"), [1, 1, 1]))
    yield "strides of 0", signed(changed((*nodes, 0, "attrs", "strides"), [0, 0]))
    yield "no pads", signed(changed((*nodes, 1, "attrs", "pads"), [[0], [0], [1], [0]]))
    for text in (",", "f8,", "{'a': 1}", "1" * 30, "Float64", "\0", "a b", "[('a', 'f4')]", "datetime64", "object"):
        yield f"the dtype {text!r}", signed(changed((*nodes, 2, "attrs", "dtype"), text))
    yield "the dtype object", signed(changed((*nodes, 2, "attrs", "dtype"), {"dtype": "object"}))
    yield "an infinite text", signed(changed((*nodes, 1, "attrs", "value"), {"float": "infinity"}))
    yield "a list as a float", signed(changed((*nodes, 1, "attrs", "value"), {"float": ["inf"]}))
    yield "two types", signed(changed((*nodes, 1, "attrs", "value"), {"float": "inf", "dtype": "float32"}))


def beside_the_graph() -> Iterator[Case]:
    for size in ([0, 8], [8], [8, 8, 8], [1 << 20, 8], [8.0, 8], [True, 8]):
        yield f"input_size {size}", signed(changed(("preprocess", "input_size"), size))
    for resize in (0, -1, 1 << 40, 256.0, "256"):
        yield f"resize {resize!r}", signed(changed(("preprocess", "resize"), resize))
    for std in ([0, 1, 1], [-1, 1, 1], [1, 1], [1, 1, "1"], [1, 1, None]):
        yield f"std {std}", signed(changed(("preprocess", "std"), std))
    yield "another crop", signed(changed(("preprocess", "crop"), "corner"))
    yield "another filter", signed(changed(("preprocess", "interpolation"), "gaussian"))
    yield "a label too few", signed(changed(("labels",), ["cat"]))
    yield "a label too many", signed(changed(("labels",), ["cat", "owl", "dog"]))
    yield "a number as label", signed(changed(("labels",), ["cat", 1]))
    yield "fewer classes than none", signed(changed(("num_classes",), -1))


GROUPS: tuple[Callable[[], Iterator[Case]], ...] = (
    truncations,
    additions,
    heads,
    texts,
    members,
    wrong_types,
    layouts,
    packings,
    graphs,
    beside_the_graph,
)


def flipped(content: bytes, count: int, seed: int = 0) -> Iterator[tuple[int, int]]:
    """``count`` places in ``content``: a byte and the bit to flip there; the first 100 bytes with every bit of each."""
    rng = random.Random(seed)
    yield from ((byte, 1 << bit) for byte in range(min(100, len(content))) for bit in range(8))
    yield from ((rng.randrange(len(content)), 1 << rng.randrange(8)) for _ in range(count))


def main(folder: Path) -> None:
    for group in GROUPS:
        for index, (_, content) in enumerate(group()):
            (folder / f"{group.__name__}_{index:04d}.sep").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
