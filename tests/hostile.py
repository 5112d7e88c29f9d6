"""Generate hostile and broken checkpoints: each one must be refused with a FormatError, and nothing else may happen.

Nothing here needs torch or any stored file. ``python tests/hostile.py FOLDER`` writes the corpus out.
"""

from __future__ import annotations

import random
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torch_layouts import (
    LEGACY_MAGIC,
    Call,
    Global,
    PersistentId,
    Raw,
    Stored,
    ZipEntry,
    legacy_file,
    legacy_parts,
    opcodes,
    pickled,
    safetensors_file,
    storage_id,
    tensor,
    zip_archive,
    zip_entries,
    zip_file,
)

WEIGHT = Stored.of(np.arange(12, dtype=np.float32), "0")
BIAS = Stored.of(np.arange(3, dtype=np.float16), "1", "cuda:0")
STORAGES = (WEIGHT, BIAS)
SYSTEM = Global("os", "system")
COMMAND = "echo hostile > hostile-was-here"
SHELL_GLOBALS = ("os system", "posix system", "builtins eval", "builtins exec", "builtins getattr", "subprocess Popen")


def state_dict(*, legacy: bool = False) -> OrderedDict[str, object]:
    """Return a sound state dict on ``STORAGES``, which every case breaks in one way."""
    weight, bias = (storage_id(stored, legacy=legacy) for stored in STORAGES)
    return OrderedDict({"weight": tensor(weight, (3, 4)), "bias": tensor(bias, (3,))})


def sound_zip() -> bytes:
    return zip_file(state_dict(), STORAGES)


def sound_legacy() -> bytes:
    return legacy_file(state_dict(legacy=True), STORAGES)


def sound_safetensors() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
        "bias": {"dtype": "F16", "shape": [3], "data_offsets": [48, 54]},
    }
    return safetensors_file(header, WEIGHT.raw + BIAS.raw)


LAUGHS = b")q\0" + b"".join(b"0(" + b"h%c" % level * 10 + b"tq%c" % (level + 1) for level in range(200))
"""Opcodes for a tuple of ten equal tuples of ten equal tuples …, 200 levels deep."""

SOUND: dict[str, Callable[[], bytes]] = {
    "zip": sound_zip,
    "legacy": sound_legacy,
    "safetensors": sound_safetensors,
}


def program(body: bytes) -> bytes:
    """Return a zip checkpoint whose pickle is ``body``, which ends with its own STOP if it gets that far."""
    return zip_file(Raw(b"\x80\x02" + body), STORAGES)


def with_weight(weight: object) -> bytes:
    return zip_file({**state_dict(), "weight": weight}, STORAGES)


def executing() -> Iterator[tuple[str, bytes]]:
    """Pickles that would run a command if anything in them were called."""
    for name in SHELL_GLOBALS:
        module, attribute = name.split()
        function = Global(module, attribute)
        yield f"reduce {name}", with_weight(Call(function, (COMMAND,)))
        yield f"legacy reduce {name}", legacy_file({"weight": Call(function, (COMMAND,))})
        yield f"newobj {name}", program(opcodes(function) + opcodes((COMMAND,)) + b"\x81.")
        yield (
            f"stack_global {name}",
            program(opcodes(module) + opcodes(attribute) + b"\x93" + opcodes((COMMAND,)) + b"R."),
        )
        yield f"inst {name}", program(b"(" + opcodes(COMMAND) + f"i{module}\n{attribute}\n.".encode())
        yield f"obj {name}", program(b"(" + opcodes(function) + opcodes(COMMAND) + b"o.")
    state = Call(Global("collections", "OrderedDict"), (), {"__setstate__": SYSTEM})
    yield "build with a callable state", with_weight(state)
    yield "build on a class", program(opcodes(Global("collections", "OrderedDict")) + opcodes({"a": 1}) + b"b.")
    yield "reduce of a string", program(opcodes("os.system") + opcodes((COMMAND,)) + b"R.")
    yield "reduce of a storage type", program(opcodes(Global("torch", "FloatStorage")) + b")R.")
    yield (
        "newobj with keywords",
        program(opcodes(Global("argparse", "Namespace")) + b")" + opcodes({"a": 1}) + b"\x92."),
    )
    yield "ordered dict of a generator", with_weight(Call(Global("collections", "OrderedDict"), ("pairs",)))
    attributes = Call(Global("torch._tensor", "_rebuild_from_type_v2"), (SYSTEM, SYSTEM, (COMMAND,), {}))
    yield "tensor rebuilt by a command", with_weight(attributes)
    other = Call(
        Global("torch._tensor", "_rebuild_from_type_v2"),
        (Global("torch", "Size"), Global("torch", "Tensor"), ((1,),), {}),
    )
    yield "tensor rebuilt by another constructor", with_weight(other)
    for number, size in ((0x82, 1), (0x83, 2), (0x84, 4)):
        yield f"extension opcode {number:#x}", program(bytes([number]) + b"\1" * size + b".")
    yield "text persistent id", program(b"Pstorage\n.")
    yield "magic by reduce", legacy_file({}, magic=Call(SYSTEM, (COMMAND,)))
    yield "keys by reduce", legacy_file(state_dict(legacy=True), STORAGES, keys=Call(SYSTEM, (COMMAND,)))
    yield "load from bytes", with_weight(Call(Global("torch.storage", "_load_from_bytes"), ("x",)))
    yield "module object", program(opcodes(Global("torchvision.models.mobilenetv2", "MobileNetV2")) + b")\x81}b.")
    module = PersistentId(("module", "x", "model.py", "import os"))
    yield "module persistent id", legacy_file({"weight": module})


def malformed_pickles() -> Iterator[tuple[str, bytes]]:
    yield "no stop", program(opcodes({"a": 1}))
    yield "empty pickle", zip_archive([ZipEntry("archive/data.pkl", b"")])
    yield "stop at once", program(b".")
    yield "two values", program(b"NN.")
    yield "open mark", program(b"(N.")
    yield "unknown opcode", program(b"\xff.")
    yield "read-only buffers", program(b"\x97\x98.")
    yield "empty stack", program(b"R.")
    yield "append without list", program(b"Na.")
    yield "appends to a tuple", program(b")(NNe.")
    yield "setitems on a list", program(b"](NNu.")
    yield "odd setitems", program(b"}(Nu.")
    yield "setitem without value", program(b"}Ns.")
    yield "tuple3 of two", program(b"NN\x87.")
    yield "pop of nothing", program(b"0.")
    yield "pop_mark of nothing", program(b"1.")
    yield "memo never stored", program(b"h\7.")
    yield "memo of an empty stack", program(b"q\0.")
    yield "memo far away", program(b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.")
    yield "unhashable key", program(b"}]Ns.")
    yield "tuple as key", program(b"}" + b")" + b"\x85" * 100_000 + b"Ns.")
    yield "string cut off", program(b"X\xff\xff\xff\x7fabc")
    yield "long string cut off", program(b"\x8d" + b"\xff" * 8 + b"abc")
    yield "bytes cut off", program(b"\x8e" + b"\xff" * 8 + b"abc")
    yield "huge integer", program(b"\x8b\xff\xff\xff\x7f" + b"\1" * 64)
    yield "long integer text", program(b"I" + b"9" * 100_000 + b"\n.")
    yield "integer text of letters", program(b"Labc\n.")
    yield "not UTF-8", program(b"X\2\0\0\0\xff\xfe.")
    yield "global without end", program(b"c" + b"a" * 100_000)
    yield "global not UTF-8", program(b"c\xff\xfe\nx\n.")
    yield "global of numbers", program(b"NN\x93.")
    yield "frame cut off", program(b"\x95\0\0")
    yield "only a number", program(b"K\7.")
    yield "only a list", zip_file([tensor(WEIGHT, (3, 4))], STORAGES)
    yield "no tensors", zip_file({"epoch": 1, "name": "x"})
    yield "key of a tensor is a number", zip_file({7: tensor(WEIGHT, (3, 4))}, STORAGES)


def exhausting() -> Iterator[tuple[str, bytes]]:
    """Short files that ask for much time or memory."""
    yield "million lists", program(b"]" * 600_000 + b".")
    yield "million dicts", program(b"}" * 600_000 + b".")
    yield "million memo entries", program(b"N" + b"\x94" * 600_000 + b".")
    yield "nested marks", program(b"(" * 600_000 + b".")
    yield "nested tuples", program(b")" + b"\x85" * 450_000 + b".")
    yield "nested lists", program(b"]" * 200_000 + b"a" * 199_999 + b".")
    yield "list in itself", program(b"]q\0h\0a.")
    yield "dict in itself", program(b"}q\0" + opcodes("state_dict") + b"h\0s.")
    wrappers = b"".join(opcodes(name) + b"h\0" for name in ("state_dict", "model", "net", "ema", "model_ema"))
    yield "dict in itself under every wrapper", program(b"}q\0(" + wrappers + b"u.")
    yield "list in a tuple in itself", program(b"]q\0(h\0ta.")
    yield "billion laughs", program(LAUGHS + b".")
    pairs = b"](" + b"(NNt" * 90_000 + b"e\x85q\0"
    ordered = b"ccollections\nOrderedDict\nq\1"
    yield "one list copied for ever", program(pairs + ordered + b"h\1h\0R0" * 100_000 + b".")
    long_tuple = b"(" + b"N" * 200_000 + b"t\x85q\0ctorch\nSize\nq\1"
    yield "one tuple copied for ever", program(long_tuple + b"h\1h\0R0" * 60_000 + b".")
    colliding = b"".join(opcodes(((1 << 61) - 1) * n) + b"N" for n in range(1, 40_000))
    yield "colliding keys", program(b"}(" + colliding + b"u.")
    yield "strings without end", program((b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"0") * 17 + b".")
    yield "wide strings", program(b"X" + struct.pack("<I", 18 << 20) + "😀".encode() + b"x" * ((18 << 20) - 4) + b".")
    deep = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    yield "nested json", safetensors_file(deep)
    yield "long number in json", safetensors_file(b'{"a":' + b"9" * 1_000_000 + b"}")
    yield "big json", safetensors_file(b'{"a":[' + b"{}," * 2_000_000 + b"{}]}")
    prefix = "module." * 100_000
    yield "prefix for ever", zip_file({prefix + "weight": tensor(WEIGHT, (99, 99))}, STORAGES)
    yield "expanded tensor", with_weight(tensor(WEIGHT, (1 << 20, 1 << 20), (0, 0)))
    yield "expanded by a little", with_weight(tensor(WEIGHT, (300, 1000), (0, 0)))
    entries = zip_entries(state_dict(), STORAGES)
    yield "entries announced", zip_archive(entries, count=(1 << 16) - 1)
    empty = [ZipEntry(f"archive/{number}", b"") for number in range(20)]
    yield "very many entries", zip_archive(empty, count=1 << 20, zip64_end=True)


def broken_tensors() -> Iterator[tuple[str, bytes]]:
    views: dict[str, tuple[tuple[object, ...], tuple[object, ...], object]] = {
        "negative offset": ((3, 4), (4, 1), -1),
        "offset past the end": ((3, 4), (4, 1), 1),
        "far offset": ((3, 4), (4, 1), 1 << 61),
        "overflowing offset": ((3, 4), (4, 1), (1 << 64) - 4),
        "negative stride": ((3, 4), (4, -1), 3),
        "far stride": ((3, 4), (1 << 61, 1), 0),
        "overflowing stride": ((3, 4), (1 << 64, 1), 0),
        "shape past the end": ((4, 4), (4, 1), 0),
        "overflowing shape": ((1 << 33, 1 << 33), (1, 1), 0),
        "negative shape": ((-3, -4), (4, 1), 0),
        "negative and empty": ((-1, 0), (4, 1), 0),
        "huge and empty": ((0, 1 << 61, 1 << 61), (1, 1, 1), 0),
        "fewer strides": ((3, 4), (4,), 0),
        "more strides": ((3, 4), (4, 1, 1), 0),
        "shape of strings": (("3", "4"), (4, 1), 0),
        "shape of floats": ((3.0, 4.0), (4, 1), 0),
        "shape of booleans": ((True, True), (4, 1), 0),
        "offset a string": ((3, 4), (4, 1), "0"),
        "offset a list": ((3, 4), (4, 1), [0]),
        "a hundred axes": ((1,) * 100, (1,) * 100, 0),
    }
    for name, (shape, strides, offset) in views.items():
        yield name, with_weight(tensor(WEIGHT, shape, strides, offset))
        legacy = tensor(storage_id(WEIGHT, legacy=True), shape, strides, offset)
        yield f"legacy {name}", legacy_file({**state_dict(legacy=True), "weight": legacy}, STORAGES)
    v2 = Global("torch._utils", "_rebuild_tensor_v2")
    plain = (storage_id(WEIGHT), 0, (3, 4), (4, 1), False, OrderedDict())
    yield "no arguments", with_weight(Call(v2, ()))
    yield "too many arguments", with_weight(Call(v2, (*plain, None, None)))
    yield "arguments in a list", with_weight(Raw(opcodes(v2) + opcodes(list(plain)) + b"R"))
    yield "negated", with_weight(Call(v2, (*plain, {"neg": True})))
    yield "storage a number", with_weight(Call(v2, (7, *plain[1:])))
    yield "parameter of a number", with_weight(Call(Global("torch._utils", "_rebuild_parameter"), (7, True, {})))
    for version in ("", "_v2", "_v3"):
        yield (
            f"three arguments{version}",
            with_weight(Call(Global("torch._utils", f"_rebuild_tensor{version}"), plain[:3])),
        )
    yield "shape a number", with_weight(Call(v2, (*plain[:2], 3, *plain[3:])))
    v3 = Global("torch._utils", "_rebuild_tensor_v3")
    untyped = PersistentId(("storage", Global("torch.storage", "UntypedStorage"), "0", "cpu", 48))
    yield "dtype a string", with_weight(Call(v3, (untyped, *plain[1:], "float32")))
    yield "float8", with_weight(Call(v3, (untyped, *plain[1:], Global("torch", "float8_e4m3fn"))))
    wider = Call(v3, (untyped, *plain[1:], Global("torch", "float64")))
    yield "untyped read too wide", zip_file({"weight": wider}, STORAGES)
    narrow = Call(v3, (untyped, *plain[1:], Global("torch", "uint16")))
    full = Call(v3, (untyped, *plain[1:], Global("torch", "float32")))
    yield "one storage as two types", zip_file({"a": narrow, "b": full}, STORAGES)
    for rebuild in ("qtensor", "sparse_tensor", "nested_tensor", "meta_tensor_no_storage", "wrapper_subclass"):
        yield f"rebuild {rebuild}", with_weight(Call(Global("torch._utils", f"_rebuild_{rebuild}"), ()))


def broken_storages() -> Iterator[tuple[str, bytes]]:
    float_type = Global("torch", "FloatStorage")
    ids: dict[str, object] = {
        "a string": "storage",
        "a number": 7,
        "a list": ["storage", float_type, "0", "cpu", 12],
        "empty": (),
        "another kind": ("tensor", float_type, "0", "cpu", 12),
        "too short": ("storage", float_type, "0", "cpu"),
        "too long": ("storage", float_type, "0", "cpu", 12, None, None),
        "type a string": ("storage", "FloatStorage", "0", "cpu", 12),
        "type a dtype": ("storage", Global("torch", "float32"), "0", "cpu", 12),
        "key a number": ("storage", float_type, 0, "cpu", 12),
        "key a tuple": ("storage", float_type, ("0",), "cpu", 12),
        "location a number": ("storage", float_type, "0", 0, 12),
        "meta": ("storage", float_type, "0", "meta", 12),
        "negative numel": ("storage", float_type, "0", "cpu", -12),
        "numel a float": ("storage", float_type, "0", "cpu", 12.0),
        "huge numel": ("storage", float_type, "0", "cpu", 1 << 61),
        "overflowing numel": ("storage", float_type, "0", "cpu", (1 << 64) + 12),
        "numel larger": ("storage", float_type, "0", "cpu", 13),
        "numel smaller": ("storage", float_type, "0", "cpu", 11),
        "missing key": ("storage", float_type, "99", "cpu", 12),
        "escaping key": ("storage", float_type, "../data/0", "cpu", 12),
        "quantized": ("storage", Global("torch", "QInt8Storage"), "0", "cpu", 48),
        "view past the end": ("storage", float_type, "0", "cpu", 12, ("v", 4, 9)),
        "view negative": ("storage", float_type, "0", "cpu", 12, ("v", -1, 12)),
        "view a number": ("storage", float_type, "0", "cpu", 12, 7),
    }
    for name, persistent_id in ids.items():
        weight = tensor(PersistentId(persistent_id), (3, 4))
        yield f"persistent id {name}", with_weight(weight)
        yield f"legacy persistent id {name}", legacy_file({"weight": weight}, STORAGES)
    double = PersistentId(("storage", Global("torch", "DoubleStorage"), "0", "cpu", 6))
    yield "one key, two types", zip_file({**state_dict(), "again": tensor(double, (6,))}, STORAGES)
    yield "storage entry missing", zip_file(state_dict(), STORAGES[:1])
    short = Stored("FloatStorage", "0", WEIGHT.raw[:-4], 12)
    yield "storage entry short", zip_file(state_dict(), (short, BIAS))


def broken_zips() -> Iterator[tuple[str, bytes]]:
    def changed(index: int, **fields: object) -> bytes:
        entries = zip_entries(state_dict(), STORAGES)
        for name, value in fields.items():
            setattr(entries[index], name, value)
        return zip_archive(entries)

    entries = zip_entries(state_dict(), STORAGES)
    yield "name twice", zip_archive([*entries, ZipEntry("archive/data/0", WEIGHT.raw)])
    yield "pickle twice", zip_archive([entries[0], *entries])
    yield "two roots", zip_archive([*entries, ZipEntry("other/data.pkl", pickled({}))])
    yield "no pickle", zip_archive(entries[1:])
    yield "no entries", zip_archive([])
    yield "compressed", changed(2, method=8)
    yield "compressed pickle", changed(0, method=8)
    yield "encrypted", changed(2, flags=0x801)
    yield "big-endian", changed(1, content=b"big")
    yield "byteorder unknown", changed(1, content=b"middle")
    yield "size too large", changed(2, size=1 << 20)
    yield "size all ones", changed(2, size=0xFFFFFFFF)
    yield "zip64 size huge", changed(2, size=0xFFFFFFFF, central_extra=struct.pack("<HHQQ", 1, 16, 1 << 62, 1 << 62))
    yield "zip64 extra cut off", changed(2, size=0xFFFFFFFF, central_extra=struct.pack("<HHI", 1, 16, 7))
    yield "local name differs", changed(2, local_name="archive/data/1")
    yield "local name longer", changed(2, local_name="archive/data/000")
    yield "header past the end", changed(2, header=0x7FFFFFFF)
    yield "header of another entry", changed(2, header=0)
    yield "header inside content", changed(2, header=100)
    for name in (
        "../data/0",
        "/etc/passwd",
        "archive/../../x",
        "archive\\data",
        "archive/da\0ta",
        "",
        "archive/\udcff",
    ):
        yield f"name {name!r}", zip_archive([*entries, ZipEntry(name, b"x", local_name=name.replace("\udcff", "x"))])
    inner = zip_archive([ZipEntry("archive/data/0", WEIGHT.raw)])
    overlap = [*entries[:2], ZipEntry("archive/outer", inner), *entries[3:]]
    zip_archive(overlap)
    inside = overlap[2].written_at + 30 + len("archive/outer")
    body = zip_archive([*overlap, ZipEntry("archive/data/0", b"")])
    start = body.index(b"PK\3\4", inside)
    yield "overlapping entries", zip_archive([*overlap, ZipEntry("archive/data/0", b"", size=48, header=start)])
    yield "count too large", zip_archive(entries, count=len(entries) + 1)
    yield "count too small", zip_archive(entries, count=len(entries) - 1)
    sound = sound_zip()
    yield "bytes after the end", sound + b"\0" * 7
    yield "bytes before the start", b"PK\3\4" + sound
    yield "zip64 locator astray", sound[:-22] + struct.pack("<4sIQI", b"PK\6\7", 0, 1 << 62, 1) + sound[-22:]
    yield (
        "zip64 contradiction",
        zip_archive(entries, zip64_end=True).replace(
            struct.pack("<QQ", len(entries), len(entries)), struct.pack("<QQ", 3, 3)
        ),
    )
    end = len(sound) - 22
    yield "zip64 end missing", sound[:end] + struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1) + sound[end:]
    yield "another disk", sound[: end + 4] + b"\1" + sound[end + 5 :]
    yield "a comment announced", sound[: end + 20] + b"\1" + sound[end + 21 :]
    directory = sound.index(b"PK\1\2")
    yield "directory overwritten", sound[:directory] + b"XX" + sound[directory + 2 :]
    yield "name past the directory", sound[: directory + 29] + b"\xff" + sound[directory + 30 :]
    yield "stored and real size differ", sound[: directory + 20] + b"\1" + sound[directory + 21 :]
    local = sound.index(b"PK\3\4")
    yield "local size differs", sound[: local + 22] + b"\1" + sound[local + 23 :]
    script = [ZipEntry("archive/constants.pkl", b"x"), ZipEntry("archive/code/__torch__.py", b"x")]
    yield "TorchScript", zip_archive([*entries, *script])
    yield "torch.export", zip_archive([ZipEntry("archive/models/model.json", b"{}")])
    yield "some other zip", zip_archive([ZipEntry("readme.txt", b"hello")])


def broken_legacy() -> Iterator[tuple[str, bytes]]:
    value = state_dict(legacy=True)
    yield "another magic", legacy_file(value, STORAGES, magic=7)
    hidden = Raw(b"\x80\x02" + opcodes(LEGACY_MAGIC) + b"0K\7.")
    yield "magic later", legacy_file(value, STORAGES, magic=hidden)
    yield "another version", legacy_file(value, STORAGES, version=1002)
    yield "another system", legacy_file(value, STORAGES, system={"little_endian": False})
    yield "system a list", legacy_file(value, STORAGES, system=[1])
    yield "keys a string", legacy_file(value, STORAGES, keys="01")
    yield "keys of numbers", legacy_file(value, STORAGES, keys=[0, 1])
    yield "key unknown", legacy_file(value, STORAGES, keys=["0", "1", "2"])
    yield "key twice", legacy_file(value, STORAGES, keys=["0", "0"])
    yield "key missing", legacy_file(value, STORAGES, keys=["0"])
    yield "keys swapped", legacy_file(value, STORAGES, keys=["1", "0"])
    for name, numel in (("negative", -1), ("huge", 1 << 62), ("larger", 13), ("smaller", 11)):
        yield f"count {name}", legacy_file(value, (Stored("FloatStorage", "0", WEIGHT.raw, numel), BIAS))
    huge = Stored("FloatStorage", "0", WEIGHT.raw, 1 << 60)
    yield "huge on both sides", legacy_file({"weight": tensor(storage_id(huge, legacy=True), (3, 4))}, (huge,))


def broken_safetensors() -> Iterator[tuple[str, bytes]]:
    def single(**fields: object) -> bytes:
        entry = {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48], **fields}
        return safetensors_file({"weight": {k: v for k, v in entry.items() if v != "absent"}}, WEIGHT.raw)

    def pair(first: list[int], second: list[int], content: int = 96) -> bytes:
        entries = {
            name: {"dtype": "F32", "shape": [(span[1] - span[0]) // 4], "data_offsets": span}
            for name, span in (("a", first), ("b", second))
        }
        return safetensors_file(entries, bytes(content))

    yield "overlap", pair([0, 48], [44, 92], 92)
    yield "same bytes twice", pair([0, 48], [0, 48], 48)
    yield "hole", pair([0, 44], [48, 96])
    yield "not from the start", pair([4, 48], [48, 96])
    yield "bytes left over", pair([0, 48], [48, 96], 97)
    yield "bytes missing", pair([0, 48], [48, 96], 95)
    fields: dict[str, dict[str, object]] = {
        "offsets reversed": {"data_offsets": [48, 0]},
        "offsets negative": {"data_offsets": [-48, 0]},
        "offsets past the end": {"data_offsets": [0, 4800], "shape": [3, 400]},
        "offsets far": {"data_offsets": [0, 1 << 62], "shape": [1 << 60]},
        "offsets of floats": {"data_offsets": [0.0, 48.0]},
        "three offsets": {"data_offsets": [0, 48, 48]},
        "offsets a string": {"data_offsets": "0,48"},
        "no offsets": {"data_offsets": "absent"},
        "shape too small": {"shape": [3, 3]},
        "shape overflowing": {"shape": [1 << 32, 1 << 32, 12]},
        "shape negative": {"shape": [-3, -4]},
        "shape of booleans": {"shape": [True, 12]},
        "shape a number": {"shape": 12},
        "shape of many": {"shape": [1] * 100 + [12]},
        "no shape": {"shape": "absent"},
        "dtype unknown": {"dtype": "F7"},
        "dtype float8": {"dtype": "F8_E4M3", "shape": [48]},
        "dtype a list": {"dtype": ["F32"]},
        "field unknown": {"code": "import os"},
    }
    for name, changes in fields.items():
        yield name, single(**changes)
    sound = sound_safetensors()
    header = sound[8 : 8 + int.from_bytes(sound[:8], "little")]
    yield "key twice", safetensors_file(header.replace(b'"bias"', b'"weight"'), WEIGHT.raw + BIAS.raw)
    yield "field twice", safetensors_file(header.replace(b'"shape": [3, 4]', b'"shape": [3, 4], "shape": [3, 4]'))
    yield "metadata of numbers", safetensors_file({"__metadata__": {"a": 1}})
    yield "metadata a list", safetensors_file({"__metadata__": [1]})
    yield "entry a number", safetensors_file({"weight": 1})
    yield "lone surrogate", safetensors_file(header.replace(b'"bias"', b'"\\ud800"'), WEIGHT.raw + BIAS.raw)
    yield "not json", safetensors_file(b"{not json at all")
    yield "not UTF-8", safetensors_file(b'{"\xff\xfe": 1}')
    yield "not a number", safetensors_file(b'{"a": NaN}')
    for size in (0, 1, len(header) + 1000, 1 << 30, (1 << 64) - 1):
        yield f"header size {size}", safetensors_file(header, WEIGHT.raw + BIAS.raw, size=size)


def foreign() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "one byte", b"\x80"
    yield "zeros", bytes(1000)
    yield "text", b"Not Found\n"
    yield "html", b"\n<!DOCTYPE html><html><body>404</body></html>"
    yield "xml", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
    yield "git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 14276811\n"
    yield "json", b'{"architectures": ["MobileNetV2"]}'
    yield "sharded index", b'{"metadata": {}, "weight_map": {"a": "model-00001.safetensors"}}'
    yield "plain pickle", pickled({"weight": 1})
    yield "gzip", b"\x1f\x8b\x08" + bytes(30)
    yield "tar", b"storages" + bytes(249) + b"ustar\x0000" + bytes(300)
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bytes(30)
    yield "tflite", b"\x1c\0\0\0TFL3" + bytes(30)
    yield "numpy", b"\x93NUMPY\1\0" + bytes(30)
    yield "onnx", b"\x08\x08\x12\x07pytorch\x3a\x04\x0a\x02ab"
    yield "sepcore", b"SEPCORE\0" + bytes(30)
    rng = random.Random(7)
    for size in (1, 16, 500, 5000):
        yield f"noise of {size}", rng.randbytes(size)


def truncations() -> Iterator[tuple[str, bytes]]:
    """Every sound file cut at every structural boundary, and at many bytes between."""
    for layout, make in SOUND.items():
        sound = make()
        cuts = set(range(0, len(sound), 7)) | {len(sound) - 1}
        if layout == "legacy":
            lengths = [len(part) for part in legacy_parts(state_dict(legacy=True), STORAGES)]
            cuts |= {sum(lengths[:count]) for count in range(len(lengths))}
        for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6"):
            cuts |= {at for at in range(len(sound)) if layout == "zip" and sound.startswith(mark, at)}
        for cut in sorted(cuts):
            yield f"{layout} cut at {cut}", sound[:cut]


GROUPS: tuple[Callable[[], Iterator[tuple[str, bytes]]], ...] = (
    executing,
    malformed_pickles,
    exhausting,
    broken_tensors,
    broken_storages,
    broken_zips,
    broken_legacy,
    broken_safetensors,
    foreign,
    truncations,
)


def bit_flips(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Sound files with one to three bits flipped: some of them stay readable, none may do anything but fail cleanly."""
    rng = random.Random(seed)
    for layout, make in SOUND.items():
        sound = make()
        for number in range(count):
            changed = bytearray(sound)
            for _ in range(rng.randint(1, 3)):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            yield f"{layout} flip {number}", bytes(changed)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        for number, (_, content) in enumerate(group()):
            (folder / f"{group.__name__}-{number:03d}.bin").write_bytes(content)
