"""Generate hostile and broken ONNX files: each must be refused with a typed error within a second, in little memory.

Nothing here needs any stored file. ``python tests/hostile_onnx.py FOLDER`` writes the corpus out, a folder per case.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, FunctionProto, ModelProto, TensorProto, helper, numpy_helper

Case = tuple[str, Callable[[Path], Path]]
"""A name, and what writes the files of the case into a folder and returns the model's path."""

OPSET = 18
WEIGHT = np.arange(2 * 3 * 3 * 3, dtype=np.float32).reshape(2, 3, 3, 3)
DATA = "model.onnx.data"


def tensor(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: list[Any],
    constants: list[TensorProto] | None = None,
    *,
    shape: tuple[int | str, ...] = ("n", 3, 8, 8),
    outputs: tuple[str, ...] = ("y",),
    functions: list[FunctionProto] | None = None,
    opset: int = OPSET,
) -> ModelProto:
    """A model with the float input "x"."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants or [],
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid("local", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=imports, functions=functions or [], ir_version=10)


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(op, inputs, outputs, **attributes)


def sound() -> ModelProto:
    """What most cases break in one way."""
    return model(
        [
            node("Conv", ["x", "w", "b"], ["a"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
            node("Relu", ["a"], ["r"], name="relu"),
            node("Reshape", ["r", "shape"], ["y"], name="reshape"),
        ],
        [tensor("w", WEIGHT), tensor("b", np.zeros(2, np.float32)), tensor("shape", np.array([0, -1]))],
    )


def content(proto: ModelProto | bytes) -> Callable[[Path], Path]:
    """Write one file."""

    def write(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        return path

    return write


def varint(number: int) -> bytes:
    text = bytearray()
    while number > 0x7F:
        text.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*text, number))


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def truncations() -> Iterator[Case]:
    """The sound model cut at every byte, and one with external data cut at every byte of those."""
    whole = sound().SerializeToString()
    for length in range(len(whole)):
        yield f"cut at byte {length}", content(whole[:length])
    for length in range(0, WEIGHT.nbytes, 7):
        yield f"data cut at byte {length}", external({"location": DATA}, WEIGHT.tobytes()[:length])


def wire() -> Iterator[Case]:
    """What is no protobuf, or too much of it."""
    whole = sound().SerializeToString()
    yield "zeros", content(bytes(1000))
    yield "text", content(b"not a model\n" * 100)
    yield "random", content(random.Random(0).randbytes(5000))
    yield "trailing garbage", content(whole + b"\xff\xff\xff")
    yield "trailing zeros", content(whole + bytes(100))
    yield "a length without an end", content(whole + b"\x3a" + b"\xff" * 20)
    yield "a length of 2**62", content(whole + b"\x3a" + varint(1 << 62))
    yield "a group", content(whole + b"\x3b\x3c")
    yield "field number 0", content(whole + b"\x02\x00")
    yield "wire type 7", content(whole + b"\x0f")
    header = b"\x08\x0a" + field(8, b"\x10" + varint(OPSET))
    yield "five million empty nodes", content(header + field(7, b"\x0a\x00" * 5_000_000))
    yield "five million empty initializers", content(header + field(7, b"\x2a\x00" * 5_000_000))
    yield "five million external entries", content(header + field(7, field(5, b"\x6a\x00" * 5_000_000)))
    deep = b""
    for _ in range(2000):
        deep = field(1, field(5, field(6, deep)))
    yield "graphs 2000 deep", content(header + field(7, deep))


def changed(change: Callable[[ModelProto], Any]) -> Callable[[Path], Path]:
    proto = sound()
    change(proto)
    return content(proto)


def models() -> Iterator[Case]:
    """Models without what a model needs."""
    yield "no ir_version", changed(lambda m: m.ClearField("ir_version"))
    yield "no graph", changed(lambda m: m.ClearField("graph"))
    yield "no opset", changed(lambda m: m.ClearField("opset_import"))
    yield "two opsets", changed(lambda m: m.opset_import.append(helper.make_opsetid("", 13)))
    yield "two opsets by two names", changed(lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 13)))
    yield "no output", changed(lambda m: m.graph.ClearField("output"))
    yield "output that nothing makes", changed(lambda m: setattr(m.graph.output[0], "name", "z"))
    yield "output without a name", changed(lambda m: setattr(m.graph.output[0], "name", ""))
    yield "output twice", changed(lambda m: m.graph.output.append(m.graph.output[0]))
    yield "input twice", changed(lambda m: m.graph.input.append(m.graph.input[0]))
    yield "input without a name", changed(lambda m: setattr(m.graph.input[0], "name", ""))
    yield "initializer twice", changed(lambda m: m.graph.initializer.append(m.graph.initializer[0]))
    yield "initializer without a name", changed(lambda m: setattr(m.graph.initializer[0], "name", ""))
    yield "input of type 99", changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99))
    yield "input of no type", changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 0))
    yield "axis of 2**62", model_with_shape((1 << 62, 3, 8, 8))
    yield "a thousand axes", model_with_shape((1,) * 1000)
    yield "node without an operator", changed(lambda m: setattr(m.graph.node[0], "op_type", ""))


def model_with_shape(shape: tuple[int, ...]) -> Callable[[Path], Path]:
    return content(model([node("Relu", ["x"], ["y"])], shape=shape))


def graphs() -> Iterator[Case]:
    """Values made twice, never, or from themselves; functions without an end."""
    relu = [node("Relu", ["x"], ["y"])]
    yield "missing input", content(model([node("Add", ["x", "nothing"], ["y"])]))
    yield "missing initializer", changed(lambda m: m.graph.initializer.pop(0))
    yield "made twice", content(model([*relu, *relu]))
    yield "made twice by one", content(model([node("Split", ["x"], ["y", "y"], axis=1)]))
    yield "makes the input", content(model([node("Relu", ["x"], ["x"]), *relu]))
    yield "makes an initializer", content(model([*relu, node("Relu", ["x"], ["w"])], [tensor("w", WEIGHT)]))
    yield "reads itself", content(model([node("Add", ["x", "y"], ["y"])]))
    circle = [node("Add", ["x", "a"], ["b"]), node("Relu", ["b"], ["a"]), node("Relu", ["b"], ["y"])]
    yield "cycle of two", content(model(circle))
    chain = [node("Add", ["x", f"v{i}"], [f"v{(i + 1) % 3000}"]) for i in range(3000)]
    yield "cycle of three thousand", content(model([*chain, node("Relu", ["v0"], ["y"])]))
    for name, functions in functions_without_end().items():
        call = helper.make_node("f0", ["x"], ["y"], domain="local")
        yield name, content(model([call], functions=functions))


def function(name: str, nodes: list[Any]) -> FunctionProto:
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["x"], ["y"], nodes, imports)


def functions_without_end() -> dict[str, list[FunctionProto]]:
    def call(name: str, x: str, y: str) -> Any:
        return helper.make_node(name, [x], [y], domain="local")

    def calls(name: str, count: int) -> list[Any]:
        names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
        return [call(name, a, b) for a, b in pairwise(names)]

    leaf = [node("Relu", ["x"], ["y"])]
    return {
        "function calls itself": [function("f0", [call("f0", "x", "y")])],
        "functions call each other": [function("f0", [call("f1", "x", "y")]), function("f1", [call("f0", "x", "y")])],
        "function twice": [function("f0", leaf), function("f0", leaf)],
        "function without its output": [function("f0", [node("Relu", ["x"], ["z"])])],
        "function of too few inputs": [helper.make_function("local", "f0", [], ["y"], leaf, [])],
        "billion laughs": [*(function(f"f{i}", calls(f"f{i + 1}", 10)) for i in range(30)), function("f30", leaf)],
        "functions 5000 deep": [
            *(function(f"f{i}", [call(f"f{i + 1}", "x", "y")]) for i in range(5000)),
            function("f5000", leaf),
        ],
    }


def tensors() -> Iterator[Case]:
    """Initializers whose elements are not what they claim."""

    def weight(change: Callable[[TensorProto], Any]) -> Callable[[Path], Path]:
        return changed(lambda m: change(m.graph.initializer[0]))

    def typed(code: int, dims: list[int], **fields: Any) -> Callable[[Path], Path]:
        def change(found: TensorProto) -> None:
            found.CopyFrom(TensorProto(name="w", data_type=code, dims=dims))
            for name, values in fields.items():
                getattr(found, name).extend(values)

        return weight(change)

    yield "raw data too short", weight(lambda t: setattr(t, "raw_data", t.raw_data[:-1]))
    yield "raw data too long", weight(lambda t: setattr(t, "raw_data", t.raw_data + b"\0"))
    yield "no data", weight(lambda t: t.ClearField("raw_data"))
    yield "data in two fields", weight(lambda t: t.float_data.append(1))
    yield "data in the wrong field", typed(TensorProto.FLOAT, [2], int64_data=[1, 2])
    yield "too few elements", typed(TensorProto.FLOAT, [3], float_data=[1, 2])
    yield "int8 of 300", typed(TensorProto.INT8, [1], int32_data=[300])
    yield "uint8 of -1", typed(TensorProto.UINT8, [1], int32_data=[-1])
    yield "float16 of 70000 as bits", typed(TensorProto.FLOAT16, [1], int32_data=[70000])
    yield "type 99", weight(lambda t: setattr(t, "data_type", 99))
    yield "no type", weight(lambda t: setattr(t, "data_type", 0))
    yield "a segment", weight(lambda t: setattr(t.segment, "begin", 1))
    for dims in ([-1], [1 << 62], [1 << 31, 1 << 31, 1 << 31], [0, 1 << 62], [1] * 100, [1 << 20, 1 << 20]):
        yield f"dimensions {dims}"[:60], weight(partial(set_dimensions, dims))


def set_dimensions(dims: list[int], found: TensorProto) -> None:
    found.ClearField("dims")
    found.dims.extend(dims)


def attributes() -> Iterator[Case]:
    """Attributes that do not fit the node or themselves."""

    def conv(**changes: Any) -> Callable[[Path], Path]:
        settings = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], **changes}
        return content(model([node("Conv", ["x", "w"], ["y"], **settings)], [tensor("w", WEIGHT)]))

    yield "attribute twice", changed(lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0]))
    yield "attribute without a name", changed(lambda m: setattr(m.graph.node[0].attribute[0], "name", ""))
    yield "attribute of no type", changed(lambda m: setattr(m.graph.node[0].attribute[0], "type", 0))
    yield (
        "attribute of type 99",
        content(
            sound()
            .SerializeToString()
            .replace(b"pads@\x01@\x01@\x01@\x01\xa0\x01\x07", b"pads@\x01@\x01@\x01@\x01\xa0\x01\x63")
        ),
    )
    yield "text that is not UTF-8", conv(auto_pad=b"\xff\xfe")
    yield (
        "reference outside of a function",
        changed(
            lambda m: m.graph.node[1].attribute.append(
                AttributeProto(name="a", ref_attr_name="b", type=AttributeProto.INT)
            )
        ),
    )
    yield "other kernel than the weight", conv(kernel_shape=[5, 5])
    yield "three pads", conv(pads=[1, 1, 1])
    yield "pads and auto_pad", conv(auto_pad="SAME_UPPER")
    yield "auto_pad of no kind", conv(auto_pad="SOMEHOW", pads=[0, 0, 0, 0])
    yield "stride 0", conv(strides=[0, 1])
    yield "group 0", conv(group=0)
    yield "group as a text", conv(group="one")
    yield "strides as numbers", conv(strides=[1.0, 1.0])
    yield "axis 4 of 4", content(model([node("Concat", ["x", "x"], ["y"], axis=4)]))
    yield "axis -2**62", content(model([node("Softmax", ["x"], ["y"], axis=-(1 << 62))]))
    yield "perm twice 0", content(model([node("Transpose", ["x"], ["y"], perm=[0, 0, 1, 2])]))
    yield "no axis", content(model([node("Concat", ["x", "x"], ["y"])]))
    yield "no kernel", content(model([node("MaxPool", ["x"], ["y"])]))
    yield "kernel 0", content(model([node("MaxPool", ["x"], ["y"], kernel_shape=[0, 0])]))
    yield "cast to 99", content(model([node("Cast", ["x"], ["y"], to=99)]))
    yield "constant of nothing", content(model([node("Constant", [], ["y"])]))
    yield "constant of two things", content(model([node("Constant", [], ["y"], value_int=1, value_float=1.0)]))


def inputs() -> Iterator[Case]:
    """Too few or too many inputs, and constants that cannot be what they stand for."""

    def with_constant(op: str, array: Any, **settings: Any) -> Callable[[Path], Path]:
        return content(model([node(op, ["x", "c"], ["y"], **settings)], [tensor("c", array)]))

    yield "no inputs", content(model([node("Relu", [], ["y"])]))
    yield "absent input", content(model([node("Relu", [""], ["y"])]))
    yield "two inputs too many", content(model([node("Relu", ["x", "x", "x"], ["y"])]))
    yield "weight of two axes", with_constant("Conv", np.zeros((2, 3), np.float32))
    yield "weight without elements", with_constant("Conv", np.zeros((2, 3, 0, 3), np.float32))
    yield "matrix of one axis", with_constant("Gemm", np.zeros(3, np.float32))
    yield "shape of -2", with_constant("Reshape", np.array([-2, 3]))
    yield "shape of two rests", with_constant("Reshape", np.array([-1, -1]))
    yield "shape of numbers", with_constant("Reshape", np.array([1.5], np.float32))
    yield "shape of two axes", with_constant("Reshape", np.array([[1, 2]]))
    yield "shape of a million", with_constant("Reshape", np.ones(1 << 20, np.int64))
    yield "axes twice", with_constant("ReduceMean", np.array([1, 1]))
    yield "a million axes", with_constant("Unsqueeze", np.arange(1 << 20))
    yield "repeats of one axis", with_constant("Tile", np.array([2]))
    yield "odd pads", with_constant("Pad", np.array([1, 2, 3]))
    yield "squeezed channels", with_constant("Squeeze", np.array([1]))
    yield "parts too large", content(model([node("Split", ["x", "c"], ["y", "z"], axis=1)], [tensor("c", [2, 2])]))
    yield "parts too many", content(model([node("Split", ["x", "c"], ["y", "z"], axis=1)], [tensor("c", [1, 1, 1])]))
    steps = [tensor("s", [0]), tensor("e", [1]), tensor("a", [0]), tensor("t", [0])]
    yield "step 0", content(model([node("Slice", ["x", "s", "e", "a", "t"], ["y"])], steps))
    yield "neither scales nor sizes", content(model([node("Resize", ["x"], ["y"])]))
    arrays = [tensor("a", np.ones((2, 3), np.float32)), tensor("b", np.ones((4, 5), np.float32))]
    yield "constants that do not fit", content(model([node("Add", ["a", "b"], ["y"])], arrays))
    range_ = [tensor("a", np.int64(0)), tensor("b", np.int64(9)), tensor("c", np.int64(0))]
    yield "range without a step", content(model([node("Range", ["a", "b", "c"], ["y"])], range_))


def external(
    entries: dict[str, str] | list[tuple[str, str]],
    data: bytes | None = None,
    *,
    name: str = DATA,
    arrange: Callable[[Path], Any] = lambda folder: None,
    change: Callable[[ModelProto], Any] = lambda proto: None,
) -> Callable[[Path], Path]:
    """A model whose weight lies outside; ``data`` is written to ``name``, ``arrange`` may do more to the folder."""

    def write(folder: Path) -> Path:
        proto = sound()
        outside(proto.graph.initializer[0], list(entries.items()) if isinstance(entries, dict) else entries)
        change(proto)
        if data is not None:
            (folder / name).write_bytes(data)
        arrange(folder)
        return content(proto)(folder)

    return write


def outside(found: TensorProto, entries: list[tuple[str, str]]) -> None:
    found.ClearField("raw_data")
    found.data_location = TensorProto.EXTERNAL
    for key, value in entries:
        found.external_data.add(key=key, value=value)


def paths() -> Iterator[Case]:
    """External data that lies elsewhere, or not where it is said to lie."""
    data = WEIGHT.tobytes()
    for location in (
        *("../secret", "/etc/passwd", "sub/../../secret", "./" + DATA, ".", "..", "", "/", "sub//x", "sub/"),
        *("C:\\secret", "..\\secret", "sub\\x", "file:///etc/passwd", DATA + "\0", DATA + "\n", "x" * 5000),
    ):
        name = repr(location)[:40]
        yield f"location {name}", external({"location": location}, data)
    yield "no location", external({"offset": "0"}, data)
    yield "location twice", external([("location", DATA), ("location", DATA)], data)
    yield "missing file", external({"location": "missing"}, data)
    yield "a folder", external({"location": "sub"}, arrange=lambda folder: (folder / "sub").mkdir())
    yield "a pipe", external({"location": "pipe"}, arrange=lambda folder: os.mkfifo(folder / "pipe"))
    yield "a link", external({"location": "link"}, data, arrange=lambda folder: (folder / "link").symlink_to(DATA))
    yield "a link to nowhere", external({"location": "link"}, arrange=lambda folder: (folder / "link").symlink_to("no"))
    yield "a hard link", external({"location": "link"}, data, arrange=lambda f: os.link(f / DATA, f / "link"))

    def linked_folder(folder: Path) -> None:
        (folder / "real").mkdir()
        (folder / "real" / DATA).write_bytes(data)
        (folder / "sub").symlink_to("real")

    yield "in a linked folder", external({"location": f"sub/{DATA}"}, arrange=linked_folder)
    for key, value in (
        *(("offset", text) for text in ("-1", "1", "1e3", "0x0", " 0", "9" * 30, "٣", "")),
        *(("length", text) for text in ("0", "1", str(len(data) + 1), str(1 << 40), "-5", "many")),
    ):
        yield f"{key} {value!r}", external({"location": DATA, key: value}, data)
    yield "file of nothing", external({"location": DATA}, b"")
    yield (
        "data inside too",
        external({"location": DATA}, data, change=lambda m: setattr(m.graph.initializer[0], "raw_data", data)),
    )

    def overlap(proto: ModelProto) -> None:
        for position in range(1000):
            more = proto.graph.initializer.add()
            more.CopyFrom(proto.graph.initializer[0])
            more.name = f"w{position}"
            del more.external_data[:]
            more.external_data.add(key="location", value=DATA)
            more.external_data.add(key="offset", value=str(position + 1))

    yield "a thousand overlapping tensors", external({"location": DATA}, data + bytes(2000), change=overlap)


GROUPS = (truncations, wire, models, graphs, tensors, attributes, inputs, paths)


def bit_flips(count: int) -> Iterator[bytes]:
    """The sound model with a bit flipped; many of these still say something sensible."""
    rng = random.Random(1)
    whole = sound().SerializeToString()
    for _ in range(count):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        yield bytes(flipped)


def swellings() -> Iterator[tuple[str, ModelProto]]:
    """Small models that are sound, but would take any amount of memory or time if constants were folded blindly."""
    one = tensor("one", np.ones(1, np.float32))
    huge = tensor("huge", np.array([1 << 40]))
    yield "expand", model([node("Expand", ["one", "huge"], ["c"]), node("Add", ["x", "c"], ["y"])], [one, huge])
    yield "constant of shape", model([node("ConstantOfShape", ["huge"], ["c"]), node("Add", ["x", "c"], ["y"])], [huge])
    bounds = [tensor("a", np.int64(0)), tensor("b", np.int64(1 << 40)), tensor("d", np.int64(1))]
    yield (
        "range",
        model(
            [node("Range", ["a", "b", "d"], ["c"]), node("Shape", ["c"], ["s"]), node("Expand", ["x", "s"], ["y"])],
            bounds,
        ),
    )
    pads = tensor("pads", np.array([1 << 40, 0]))
    yield "pad", model([node("Pad", ["one", "pads"], ["c"]), node("Add", ["x", "c"], ["y"])], [one, pads])
    doubled = [node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(1000)]
    first = tensor("c0", np.ones(1, np.float32))
    yield "concat", model([*doubled, node("Add", ["x", "c1000"], ["y"])], [first])
    big = tensor("c0", np.ones(1 << 20, np.float32))
    turned = [node("Neg", [f"c{i}"], [f"c{i + 1}"]) for i in range(5000)]
    yield "five thousand copies of a constant", model([*turned, node("Add", ["x", "c5000"], ["y"])], [big])
    squared = [node("Mul", [f"c{i}", f"c{i}"], [f"c{i + 1}"]) for i in range(1000)]
    lengths = [node("Shape", ["x"], ["c0"]), *squared, node("Reshape", ["x", "c1000"], ["y"])]
    yield "squares of a length", model(lengths)
    matrix = tensor("m", np.ones((1024, 1024), np.float32))
    gemms = [node("Gemm", [f"c{i}", "m"], [f"c{i + 1}"]) for i in range(2000)]
    yield (
        "two thousand turned weights",
        model(
            [node("Flatten", ["x"], ["c0"]), *gemms, node("Relu", ["c2000"], ["y"])], [matrix], shape=("n", 1024, 1, 1)
        ),
    )
    names = [node("Relu", ["x"], [f"v{i}"], name="n") for i in range(20_000)]
    yield "twenty thousand nodes of one name", model([*names, node("Relu", ["x"], ["y"])])


def main(folder: Path) -> None:
    """Write the whole corpus."""
    for group in GROUPS:
        for position, (name, write) in enumerate(group()):
            case = folder / f"{group.__name__}-{position:04d}"
            case.mkdir(parents=True)
            (case / "name.txt").write_text(name)
            write(case)
    for name, proto in swellings():
        case = folder / f"swellings-{name.replace(' ', '-')}"
        case.mkdir(parents=True)
        content(proto)(case)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
