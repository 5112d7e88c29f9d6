"""Generate hostile and broken .pt2 files: each must be refused with a typed error within a second, in little memory.

Nothing here needs torch or any stored file. ``python tests/hostile_pt2.py FOLDER`` writes the corpus out.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
from pt2_files import CONSTANTS, WEIGHTS, archive, entries, length, meta, network, network_file, node, program, ref
from torch_layouts import ZipEntry, zip_archive

Case = tuple[str, bytes]
Json = dict[str, Any]

CONFIG = "net/data/weights/model_weights_config.json"
GRAPH = "net/models/model.json"


def edited(change: Callable[[Json], object]) -> bytes:
    """The sound network with its graph entry changed."""
    described = network()
    change(described)
    return network_file("raw", described)


def graph_of(described: Json) -> Json:
    graph: Json = described["graph_module"]["graph"]
    return graph


def replaced(parts: dict[str, bytes | None]) -> bytes:
    """The sound archive with some entries changed, added or (None) removed."""
    sound = entries(network(), WEIGHTS, CONSTANTS)
    return archive({name: part for name, part in (sound | parts).items() if part is not None})


def single(target: str, output: Json, **arguments: Json) -> bytes:
    """A program of one node on "x" (2, 4)."""
    described = program([node(target, ["y"], **arguments)], {"x": meta((2, 4)), "y": output})
    return archive(entries(described))


def broken_json() -> Iterator[Case]:
    sound = json.dumps(network()).encode()
    for name, raw in {
        "empty": b"",
        "cut": sound[: len(sound) // 2],
        "two values": sound + sound,
        "not UTF-8": sound.replace(b"conv2d", b"conv\xff\xfe"),
        "a number": b"7",
        "an array": b"[]",
        "null": b"null",
        "an object": b"{}",
        "deep": b"[" * 100_000,
        "deep objects": b'{"a":' * 100_000,
        "a key twice": sound.replace(b'"schema_version"', b'"verifiers": [], "schema_version"'),
        "a digit too many": sound.replace(b'"major": 8', b'"major": ' + b"8" * 5000),
        "brackets": b"[" + b"[]," * 3_000_000 + b"[]]",
        "utf-16": json.dumps(network()).encode("utf-16"),
    }.items():
        yield f"graph {name}", replaced({GRAPH: raw})
    for name, raw in {"empty": b"", "an array": b"[]", "no config": b"{}", "config a list": b'{"config": []}'}.items():
        yield f"weights {name}", replaced({CONFIG: raw})


def broken_versions() -> Iterator[Case]:
    for major in (0, 5, 6, 9, -8, "8", None, 8.5, True, [8]):
        yield f"schema {major!r}", edited(lambda d, m=major: d["schema_version"].update(major=m))
    yield "schema missing", edited(lambda d: d.pop("schema_version"))
    for name, content in (("archive_format", b"pt3"), ("archive_version", b"1"), ("byteorder", b"big")):
        yield f"{name} {content!r}", replaced({f"net/{name}": content})
    yield "archive_format of a megabyte", replaced({"net/archive_format": b"p" * (1 << 20)})


def broken_archives() -> Iterator[Case]:
    sound = entries(network(), WEIGHTS, CONSTANTS)
    listed = [ZipEntry(name, content) for name, content in sound.items()]
    yield "no graph", replaced({GRAPH: None})
    yield "two graphs", replaced({"net/models/other.json": sound[GRAPH]})
    yield "two roots", replaced({"other/models/model.json": sound[GRAPH]})
    yield "no weights", replaced({CONFIG: None})
    yield "weights twice", replaced({"net/data/weights/model.pt": b"x"})
    yield "no constants", replaced({"net/data/constants/model_constants_config.json": None})
    yield "a raw file missing", replaced({"net/data/weights/weight_0": None})
    for position in range(len(listed)):
        changed = copy.deepcopy(listed)
        changed[position].method = 8
        yield f"compressed {changed[position].name}", zip_archive(changed)
        yield f"twice {listed[position].name}", zip_archive([*listed, listed[position]])
    for name in ("/etc/passwd", "../net/models/model.json", "net/../../x", "net\\models\\model.json", "net/a\0b"):
        yield f"entry {name!r}", zip_archive([*listed, ZipEntry(name, b"x")])
    flat = entries(network(), WEIGHTS, CONSTANTS, "flat")
    flat.pop("serialized_state_dict.pt")
    yield "flat, no weights", archive(flat)
    yield (
        "flat, no constants",
        archive({k: v for k, v in entries(network(), WEIGHTS, CONSTANTS, "flat").items() if "constants" not in k}),
    )


def executing() -> Iterator[Case]:
    """Pickles that would run a command, in every place where PyTorch would unpickle."""
    for name, content in hostile.executing():
        for layout, key in (("flat", "serialized_state_dict.pt"), ("saved", "net/data/weights/model.pt")):
            parts = entries(network(), WEIGHTS, CONSTANTS, layout)
            yield f"{layout} weights, {name}", archive(parts | {key: content})
    name, content = next(iter(hostile.executing()))
    parts = entries(network(), WEIGHTS, CONSTANTS, "flat")
    yield f"flat constants, {name}", archive(parts | {"serialized_constants.pt": content})
    config = json.loads(entries(network(), WEIGHTS, CONSTANTS)[CONFIG])
    config["config"]["conv.weight"]["use_pickle"] = True
    pickled = {CONFIG: json.dumps(config).encode(), "net/data/weights/weight_0": content}
    yield f"raw weights, {name}", replaced(pickled)


def broken_tensors() -> Iterator[Case]:
    """The configuration of the weights, with one thing wrong about one of them."""

    def weight(**fields: object) -> bytes:
        config = json.loads(entries(network(), WEIGHTS, CONSTANTS)[CONFIG])
        described = config["config"]["conv.weight"]
        (described if set(fields) <= set(described) else described["tensor_meta"]).update(fields)
        return replaced({CONFIG: json.dumps(config).encode()})

    sizes = [length(size) for size in (4, 3, 3, 3)]
    strides = [length(stride) for stride in (27, 9, 3, 1)]
    for name, fields in {
        "path above": {"path_name": "../weights/weight_1"},
        "path outside": {"path_name": "/etc/passwd"},
        "path empty": {"path_name": ""},
        "path unknown": {"path_name": "weight_99"},
        "path of another type": {"path_name": 0},
        "path of a folder": {"path_name": "."},
        "path of the configuration": {"path_name": "model_weights_config.json"},
        "no description": {"tensor_meta": None},
        "description a list": {"tensor_meta": []},
        "pickled": {"use_pickle": True},
        "pickled, perhaps": {"use_pickle": "no"},
        "type unknown": {"dtype": 99},
        "type complex32": {"dtype": 9},
        "type float8": {"dtype": 29},
        "type too wide": {"dtype": 8},
        "type as text": {"dtype": "float32"},
        "another type": {"dtype": 4},
        "sparse": {"layout": 1},
        "offset outside": {"storage_offset": length(1)},
        "offset far outside": {"storage_offset": length(1 << 60)},
        "offset negative": {"storage_offset": length(-1)},
        "offset symbolic": {"storage_offset": length("s0")},
        "sizes too large": {"sizes": [length(size) for size in (5, 3, 3, 3)]},
        "sizes huge": {"sizes": [length(1 << 40), *sizes[1:]]},
        "sizes that overflow": {"sizes": [length(1 << 62)] * 4},
        "sizes negative": {"sizes": [length(-4), *sizes[1:]]},
        "sizes symbolic": {"sizes": [length("s0"), *sizes[1:]]},
        "sizes too few": {"sizes": sizes[1:]},
        "sizes too many": {"sizes": [length(1)] * 100, "strides": [length(1)] * 100},
        "sizes empty": {"sizes": [length(0), *sizes[1:]]},
        "sizes of numbers": {"sizes": [4, 3, 3, 3]},
        "strides too large": {"strides": [length(28), *strides[1:]]},
        "strides negative": {"strides": [length(-27), *strides[1:]]},
        "strides huge": {"strides": [length(1 << 62), *strides[1:]]},
        "smaller than the graph says": {"sizes": [length(3), *sizes[1:]]},
    }.items():
        yield name, weight(**fields)
    for name, size in (("nothing", 0), ("half an element", 430), ("one element less", 428)):
        yield f"raw file of {name}", replaced({"net/data/weights/weight_0": WEIGHTS["conv.weight"].tobytes()[:size]})
    yield (
        "no such key",
        edited(
            lambda d: d["graph_module"]["signature"]["input_specs"][0]["parameter"].update(parameter_name="conv.other")
        ),
    )


def broken_graphs() -> Iterator[Case]:
    """Nodes, names and declared types that contradict each other."""

    def nodes(change: Callable[[list[Json]], object]) -> bytes:
        return edited(lambda d: change(graph_of(d)["nodes"]))

    def types(name: str, declared: Json) -> bytes:
        return edited(lambda d: graph_of(d)["tensor_values"].update({name: declared}))

    yield "nodes reversed", nodes(lambda n: n.reverse())
    yield "a cycle", nodes(lambda n: n[0]["inputs"][0].update(arg=ref("y")))
    yield "a node that reads itself", nodes(lambda n: n[3]["inputs"][0].update(arg=ref("mean")))
    yield "an undefined name", nodes(lambda n: n[0]["inputs"][0].update(arg=ref("nothing")))
    yield "a value made twice", nodes(lambda n: n.append(copy.deepcopy(n[0])))
    yield "a node that makes its input", nodes(lambda n: n[0]["outputs"][0].update(ref("x")))
    yield "a node that makes a weight", nodes(lambda n: n[0]["outputs"][0].update(ref("p_w")))
    yield "an argument twice", nodes(lambda n: n[0]["inputs"].append(n[0]["inputs"][0]))
    yield "no weight", nodes(lambda n: n[0]["inputs"].pop(1))
    yield "a weight that is a number", nodes(lambda n: n[0]["inputs"][1].update(arg={"as_int": 1}))
    yield "strides of zero", nodes(lambda n: n[0]["inputs"][3].update(arg={"as_ints": [0, 0]}))
    yield "strides below zero", nodes(lambda n: n[0]["inputs"][3].update(arg={"as_ints": [-1, -1]}))
    yield "three strides", nodes(lambda n: n[0]["inputs"][3].update(arg={"as_ints": [1, 1, 1]}))
    yield "strides as text", nodes(lambda n: n[0]["inputs"][3].update(arg={"as_string": "1"}))
    yield "padding below zero", nodes(lambda n: n[0]["inputs"][4].update(arg={"as_ints": [-1, -1]}))
    yield "padding that is no word", nodes(lambda n: n[0]["inputs"][4].update(arg={"as_string": "some"}))
    yield "padding beyond everything", nodes(lambda n: n[0]["inputs"][4].update(arg={"as_ints": [1 << 62] * 2}))
    yield "an epsilon that is no number", nodes(lambda n: n[1]["inputs"][7].update(arg={"as_float": "NaN"}))
    yield "an axis too many", nodes(lambda n: n[3]["inputs"][1].update(arg={"as_ints": [2, 4]}))
    yield "an axis twice", nodes(lambda n: n[3]["inputs"][1].update(arg={"as_ints": [2, -2]}))
    yield "an output too few", nodes(lambda n: n[0]["outputs"].clear())
    yield "an argument of two kinds", nodes(lambda n: n[0]["inputs"][0].update(arg={"as_int": 1, "as_float": 2.0}))
    yield "an argument of no kind", nodes(lambda n: n[0]["inputs"][0].update(arg={}))
    yield "another shape than declared", types("conv2d", meta(("s0", 4, 8, 9)))
    yield "another type than declared", types("conv2d", meta(("s0", 4, 8, 8), "float64"))
    yield "another rank than declared", types("x", meta(("s0", 3, 64)))
    yield "no lengths", types("x", meta((0, 3, 8, 8)))
    yield "lengths below zero", types("x", meta((-2, 3, 8, 8)))
    yield "a weight of another shape", types("p_fc", meta((4, 2)))
    yield "a hundred axes", types("x", meta((1,) * 100))
    yield "an unknown type", types("x", {**meta(("s0", 3, 8, 8)), "dtype": 77})
    yield "an undeclared input", edited(lambda d: graph_of(d)["tensor_values"].pop("x"))
    yield "an undeclared output", edited(lambda d: graph_of(d)["tensor_values"].pop("y"))
    signature = ("graph_module", "signature")
    yield (
        "an output that nothing makes",
        edited(lambda d: d[signature[0]][signature[1]]["output_specs"][0]["user_output"].update(arg=ref("z"))),
    )
    yield "no outputs", edited(lambda d: d[signature[0]][signature[1]]["output_specs"].clear())
    yield "no inputs", edited(lambda d: d[signature[0]][signature[1]]["input_specs"].pop())
    yield (
        "an input twice",
        edited(lambda d: d[signature[0]][signature[1]]["input_specs"].append({"user_input": {"arg": ref("x")}})),
    )
    yield (
        "an input of no known kind",
        edited(lambda d: d[signature[0]][signature[1]]["input_specs"].append({"custom_obj": {"arg": {"name": "o"}}})),
    )


def deep_graphs() -> Iterator[Case]:
    """Graphs in arguments of nodes, one in another."""
    inner = graph_of(program([], {"x": meta((2, 4))}, outputs=("x",)))
    for _ in range(40):
        flag, body = {"as_bool": True}, {"as_graph": {"name": "sub", "graph": inner}}
        call = node("higher_order.wrap_with_set_grad_enabled", ["y"], a=flag, b=body, c=ref("x"))
        inner = graph_of(program([call], {"x": meta((2, 4)), "y": meta((2, 4))}))
    described = program([], {"x": meta((2, 4))})
    described["graph_module"]["graph"] = inner
    yield "graphs forty deep", archive(entries(described))


def exhausting() -> Iterator[Case]:
    """Little files that ask for much: some are sound, and only to be read in little memory."""
    huge = 1 << 40
    x = ref("x")
    ints = [1] * 100_000
    yield "full", single("aten.full.default", meta((huge,)), size={"as_ints": [huge]}, fill_value={"as_float": 0.0})
    yield "zeros of another shape", single("aten.zeros.default", meta((huge, huge)), size={"as_ints": [huge]})
    yield "arange", single("aten.arange.default", meta((huge,), "int64"), end={"as_int": huge})
    yield "repeat", single("aten.repeat.default", meta((huge, 4)), self=x, repeats={"as_ints": [huge // 2, 1]})
    yield "repeat many axes", single("aten.repeat.default", meta((2, 4)), self=x, repeats={"as_ints": ints})
    yield "expand", single("aten.expand.default", meta((huge, 2, 4)), self=x, size={"as_ints": [huge, 2, 4]})
    yield "pad", single("aten.constant_pad_nd.default", meta((2, huge)), self=x, pad={"as_ints": [0, huge - 4]})
    yield "split", single("aten.split.Tensor", meta((2, 4)), self=x, split_size={"as_int": 1}, dim={"as_int": 1})
    yield "chunk", single("aten.chunk.default", meta((2, 4)), self=x, chunks={"as_int": huge})
    yield "unbind", single("aten.unbind.int", meta((2,)), self=x, dim={"as_int": 1})
    yield "axes", single("aten.permute.default", meta((2, 4)), self=x, dims={"as_ints": ints})
    yield "reshape", single("aten.reshape.default", meta((2, 4)), self=x, shape={"as_ints": [huge, huge, -1]})
    yield "roll", single("aten.roll.default", meta((2, 4)), self=x, shifts={"as_ints": [huge]}, dims={"as_ints": [1]})
    yield (
        "upsample",
        single(
            "aten.upsample_nearest2d.default", meta((2, 4, huge, huge)), self=x, output_size={"as_ints": [huge, huge]}
        ),
    )
    yield (
        "a length of its own accord",
        edited(lambda d: graph_of(d)["tensor_values"]["x"]["sizes"].__setitem__(0, length("s0", huge))),
    )
    many = [node("aten.relu.default", [f"v{i}"], self=ref("x")) for i in range(5_000)]
    types = {"x": meta((2, 4)), **{f"v{i}": meta((2, 4)) for i in range(5_000)}}
    yield "five thousand nodes", archive(entries(program(many, types, outputs=("v0",))))
    doubled = [
        node("aten.cat.default", [f"v{i + 1}"], tensors={"as_tensors": [{"name": f"v{i}"}] * 2}) for i in range(60)
    ]
    types = {f"v{i}": meta((2 << i, 4)) for i in range(61)}
    yield "doubled sixty times", archive(entries(program(doubled, types, inputs=("v0",), outputs=("v60",))))
    word = "n" * (1 << 20)
    yield "a name of a megabyte", edited(lambda d: graph_of(d)["nodes"][0].update(name=word))
    yield "a target of a megabyte", edited(lambda d: graph_of(d)["nodes"][0].update(target=word))
    yield "a trace of a megabyte", edited(lambda d: graph_of(d)["nodes"][0]["metadata"].update(stack_trace=word))
    expression = {"as_expr": {"expr_str": "Add(" * 1000, "hint": None}}
    yield (
        "an expression without end",
        edited(lambda d: graph_of(d)["tensor_values"]["x"]["sizes"].__setitem__(0, expression)),
    )


def truncations() -> Iterator[Case]:
    """Files cut where an entry, its content, the directory or the end record begins or ends, and one byte beside."""
    for layout in ("raw", "flat"):
        sound = network_file(layout)
        cuts = {0, 1, len(sound) - 1, len(sound) - 22}
        position = 0
        for magic in (b"PK\3\4", b"PK\1\2"):
            position = sound.find(magic)
            while position >= 0:
                cuts |= {position, position + 1, position + 30, position + 46}
                position = sound.find(magic, position + 1)
        for cut in sorted(cuts):
            yield f"{layout} cut at {cut}", sound[:cut]


REFUSED: tuple[Callable[[], Iterator[Case]], ...] = (
    broken_json,
    broken_versions,
    broken_archives,
    executing,
    broken_tensors,
    broken_graphs,
    deep_graphs,
    truncations,
)
"""Groups of which every case must be refused."""

VALUES: tuple[Any, ...] = (None, True, -1, 1 << 70, 0.5, "x", "", [], {}, [[]], {"as_int": 1}, {"as_name": "x"})


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def wrong_values(count: int, seed: int = 0) -> Iterator[Case]:
    """The sound network with one value of a JSON entry replaced: a few of them stay readable."""
    rng = random.Random(seed)
    sound = entries(network(), WEIGHTS, CONSTANTS)
    for number in range(count):
        name = GRAPH if number % 4 else CONFIG
        described = json.loads(sound[name])
        container, key = rng.choice(list(_places(described)))
        container[key] = rng.choice(VALUES)
        yield f"{number}: {key}", archive(sound | {name: json.dumps(described).encode()})


def bit_flips(count: int, seed: int = 0) -> Iterator[Case]:
    """Sound files with one to three bits flipped: some of them stay readable."""
    rng = random.Random(seed)
    for layout in ("raw", "flat", "saved"):
        sound = network_file(layout)
        for number in range(count):
            changed = bytearray(sound)
            for _ in range(rng.randint(1, 3)):
                position = rng.randrange(len(changed))
                changed[position] ^= 1 << rng.randrange(8)
            yield f"{layout} {number}", bytes(changed)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for group in (*REFUSED, exhausting):
        for number, (_, content) in enumerate(group()):
            (folder / f"{group.__name__}-{number:03d}.pt2").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
