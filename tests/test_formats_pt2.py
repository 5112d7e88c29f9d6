"""The .pt2 reader: real files against PyTorch's logits, the three layouts, and what each error says."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hostile_pt2
import numpy as np
import pt2_files as pt2
import pytest
from quick import within

from sepcore.errors import FormatError, InputError, UnsupportedModelError
from sepcore.formats.torch_export import fields, read_pt2
from sepcore.formats.torch_export.expression import length_name
from sepcore.ir.graph import Graph
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify
from sepcore.runtime.session import Session

SECONDS = 1.0
MEGABYTES = 150

Json = dict[str, Any]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(tmp_path: Path, content: bytes) -> Graph:
    return read_pt2(written(tmp_path / "net.pt2", content))


def read_program(tmp_path: Path, described: Json, **arrays: Any) -> Graph:
    return read(tmp_path, pt2.archive(pt2.entries(described, **arrays)))


# Real networks


@pytest.mark.parametrize("name", ["mobilenetv1_x0.25_leaky", "mcunet_320kb", "mobilenetv1_0.75_samepad"])
def test_real_files_give_pytorchs_logits(name: str, data_dir: Path) -> None:
    graph = read_pt2(data_dir / "weights" / f"{name}.pt2")
    verify(graph)
    reference = np.load(data_dir / "reference" / f"{name}.npz")
    settings = json.loads((data_dir / "reference" / "models.json").read_text())[name]
    row = np.load(data_dir / "reference" / str(reference["crops"]))[:1].astype(np.float32) / 255
    pixels = (row - np.float32(settings["mean"])) / np.float32(settings["std"])
    (logits,) = run_reference(graph, {"x": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)})
    expected = reference["logits"][:1]
    assert np.abs(logits - expected).max() < 1e-4 * expected.std()


def test_real_files_are_read_within_a_second(data_dir: Path) -> None:
    path = data_dir / "weights" / "mobilenetv1_0.75_samepad.pt2"
    graph = within(SECONDS, partial(read_pt2, path))
    assert graph.name == "mobilenetv1_0.75_samepad"
    (x,) = graph.inputs
    assert isinstance(x.shape[0], str) and x.shape[1:] == (3, 224, 224)
    assert {"model.0.0.weight", "model.0.1.running_var"} <= set(graph.constants)
    first = next(node for node in graph.nodes if node.op == "conv2d")
    assert first.source == "model.0.0"


# Layouts


def network_by_hand(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The network of ``pt2_files``, computed in float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    maps = np.einsum("ncyxhw,ochw->noyx", windows, pt2.WEIGHT) + pt2.BIAS[:, None, None]
    maps = (maps - pt2.MEAN[:, None, None]) / np.sqrt(pt2.VAR + 1e-3)[:, None, None]
    return np.clip(maps, 0, 6).mean((2, 3)) @ pt2.FC.T * pt2.SCALE


@pytest.mark.parametrize("layout", pt2.LAYOUTS)
def test_layouts(layout: str, tmp_path: Path) -> None:
    graph = read(tmp_path, pt2.network_file(layout))
    assert [str(value) for value in graph.inputs] == ["x: float32[s0, 3, 8, 8]"]
    assert graph.outputs == ("y",)
    assert [node.op for node in graph.nodes if node.op in ("conv2d", "batch_norm", "clamp", "linear")] == [
        *("conv2d", "batch_norm", "clamp", "linear"),
    ]
    assert set(pt2.WEIGHTS) | {"scale"} <= set(graph.constants)
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run_reference(graph, {"x": x})[0], network_by_hand(x), rtol=1e-5, atol=1e-5)


def test_schema_of_pytorch_2_5(tmp_path: Path) -> None:
    """Its absent arguments are empty lists, its lengths plain expressions, its nodes without names."""
    text = json.dumps(pt2.network())
    text = text.replace('{"as_none": true}', '{"as_none": []}')
    text = text.replace("Symbol('s0', positive=True, integer=True)", "s0").replace('"major": 8', '"major": 7')
    described = json.loads(text)
    for node in described["graph_module"]["graph"]["nodes"]:
        del node["name"], node["is_hop_single_tensor_return"]
    graph = read(tmp_path, pt2.network_file("flat", described))
    assert [str(value) for value in graph.inputs] == ["x: float32[s0, 3, 8, 8]"]
    assert [node.op for node in graph.nodes] == [node.op for node in read(tmp_path, pt2.network_file()).nodes]


def test_sample_inputs_are_never_opened(tmp_path: Path) -> None:
    parts = pt2.entries(pt2.network(), pt2.WEIGHTS, pt2.CONSTANTS)
    parts["net/data/sample_inputs/model.pt"] = b"cos\nsystem\n(S'true'\ntR."
    assert read(tmp_path, pt2.archive(parts)).outputs == ("y",)


def test_weights_that_share_a_raw_file(tmp_path: Path) -> None:
    """A transposed view and a slice of one storage, as tied weights are written."""
    x, whole = ("s0", 2), np.arange(6, dtype=np.float32).reshape(2, 3)
    types = {"x": pt2.meta(x), "a": pt2.meta((3, 2), strides=(1, 3)), "b": pt2.meta((2,)), "y": pt2.meta(("s0", 3))}
    nodes = [pt2.node("aten.linear.default", ["y"], input=pt2.ref("x"), weight=pt2.ref("a"))]
    types["z"] = pt2.meta(x)
    nodes.append(pt2.node("aten.add.Tensor", ["z"], self=pt2.ref("x"), other=pt2.ref("b")))
    described = pt2.program(nodes, types, outputs=("y", "z"), weights={"a": "w.t", "b": "w.part"})
    parts = pt2.entries(described, {"w.t": whole, "w.part": whole})
    config = json.loads(parts["net/data/weights/model_weights_config.json"])
    for key, declared, offset in (("w.t", types["a"], 0), ("w.part", types["b"], 4)):
        config["config"][key]["path_name"] = "weight_0"
        config["config"][key]["tensor_meta"] = declared | {"storage_offset": pt2.length(offset)}
    parts["net/data/weights/model_weights_config.json"] = json.dumps(config).encode()
    graph = read(tmp_path, pt2.archive(parts))
    np.testing.assert_array_equal(graph.constants["w.t"], whole.T)
    np.testing.assert_array_equal(graph.constants["w.part"], [4, 5])
    assert not graph.constants["w.t"].flags.writeable


def test_half_precision_is_widened(tmp_path: Path) -> None:
    types = {"x": pt2.meta((2, 4), "float16"), "w": pt2.meta((4,), "float16"), "y": pt2.meta((2, 4), "float16")}
    nodes = [pt2.node("aten.mul.Tensor", ["y"], self=pt2.ref("x"), other=pt2.ref("w"))]
    weight = np.float16([1, 0.5, 0.1, 65504])
    graph = read_program(tmp_path, pt2.program(nodes, types, weights={"w": "w"}), weights={"w": weight})
    assert graph.inputs[0].dtype == graph.constants["w"].dtype == np.float32
    x = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(run_reference(graph, {"x": x})[0], x * weight.astype(np.float32))


def test_lengths_for_which_a_network_was_not_exported_are_refused(tmp_path: Path) -> None:
    """The exporter follows one way through a module whose ways differ by size, and notes for which sizes that is."""
    shape = ("s0", 3, "s1", "s2")
    types = {"x": pt2.meta(shape), "y": pt2.meta(shape)}
    for declared in types.values():
        declared["sizes"][3]["as_expr"]["hint"] = {"as_int": 96}
    described = pt2.program([pt2.node("aten.relu.default", ["y"], self=pt2.ref("x"))], types)
    described["range_constraints"] = {
        "s0": {"min_val": 2, "max_val": 8},
        "s1": {"min_val": 2, "max_val": None},
        "s2": {"min_val": 65, "max_val": 128},
    }
    graph = read_program(tmp_path, described)
    assert graph.bounds == {"s2": (65, 128)}
    session = Session(graph)
    assert session.outputs[0].shape == ("n", 3, "d2", "d3")
    for given in ((1, 3, 1, 65), (9, 3, 2, 128)):
        assert session(np.ones(given, np.float32)).shape == given
    for length in (64, 129):
        with pytest.raises(InputError, match=f"s2 of 65 to 128, for which the file was exported, found {length}"):
            session(np.ones((1, 3, 8, length), np.float32))
    described["range_constraints"]["s2"]["max_val"] = "many"
    with pytest.raises(FormatError, match="max_val"):
        read_program(tmp_path, described)


def test_outputs_that_are_inputs_constants_numbers_and_nothing(tmp_path: Path) -> None:
    types = {"x": pt2.meta((2, 4)), "w": pt2.meta((3,))}
    described = pt2.program([], types, outputs=("x", "w", "x"), weights={"w": "w"})
    described["graph_module"]["signature"]["output_specs"] += [
        {"user_output": {"arg": {"as_none": True}}},
        {"user_output": {"arg": {"as_int": 7}}},
        {"user_output": {"arg": {"as_float": 0.5}}},
    ]
    graph = read_program(tmp_path, described, weights={"w": np.float32([1, 2, 3])})
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = run_reference(graph, {"x": x})
    assert len(found) == 5
    for array, expected in zip(found, (x, [1, 2, 3], x, 7, 0.5)):
        np.testing.assert_array_equal(array, expected)


def test_unused_tensors_are_not_read(tmp_path: Path) -> None:
    """A counter of another type, whose elements are not even there, is no business of a graph that ignores it."""
    types = {"x": pt2.meta((2, 4)), "b": pt2.meta((), "int16"), "y": pt2.meta((2, 4))}
    nodes = [pt2.node("aten.relu.default", ["y"], self=pt2.ref("x"))]
    graph = read_program(tmp_path, pt2.program(nodes, types, weights={"b": "bn.counter"}))
    assert not graph.constants


# Lengths


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("s0", "s0"),
        ("2*s2", "2*s2"),
        ("Symbol('s77', positive=True, integer=True)", "s77"),
        ("Mul(Integer(2), Symbol('s44', positive=True, integer=True))", "2*s44"),
        ("Mul(Integer(2), Add(Symbol('s0'), Integer(-1)))", "2*(s0 + -1)"),
        ("FloorDiv(Symbol('s0', integer=True), Integer(2))", "FloorDiv(s0, 2)"),
        ("Pow(Symbol('s0'), Integer(2))", "s0**2"),
        ("Symbol('s0'", "Symbol('s0'"),
        ("Symbol('s0'))", "Symbol('s0'))"),
        ("Mul(Integer(2) Symbol('s0'))", "Mul(Integer(2) Symbol('s0'))"),
        ("__import__('os').system('true')", "__import__('os').system('true')"),
        ("Add(" * 40 + "s0" + ")" * 40, "Add(" * 40 + "s0" + ")" * 40),
    ],
)
def test_names_of_symbolic_lengths(expression: str, name: str) -> None:
    assert length_name(expression) == name


def test_equal_lengths_have_equal_names(tmp_path: Path) -> None:
    types = {"a": pt2.meta(("s0", 4)), "b": pt2.meta(("s0", 4)), "y": pt2.meta(("s0", 4))}
    nodes = [pt2.node("aten.add.Tensor", ["y"], self=pt2.ref("a"), other=pt2.ref("b"))]
    graph = read_program(tmp_path, pt2.program(nodes, types, inputs=("a", "b")))
    assert [value.shape for value in graph.inputs] == [("s0", 4), ("s0", 4)]


# In-place operations


def chain(*steps: tuple[str, str, str, Json]) -> tuple[list[Json], Json]:
    """Nodes (target, output, self, further arguments) on tensors of (2, 4), and their declared types."""
    nodes = [pt2.node(target, [output], self=pt2.ref(base), **more) for target, output, base, more in steps]
    return nodes, {"x": pt2.meta((2, 4)), **{output: pt2.meta((2, 4)) for _, output, _, _ in steps}}


ONE: Json = {"other": {"as_int": 1}}
ROWS: Json = {"dim": {"as_int": 1}, "start": {"as_int": 0}, "end": {"as_int": 2}}


def test_reads_after_a_write_see_it(tmp_path: Path) -> None:
    nodes, types = chain(
        ("aten.relu.default", "a", "x", {}),
        ("aten.detach.default", "b", "a", {}),
        ("aten.clone.default", "c", "a", {}),
        ("aten.add_.Tensor", "d", "b", ONE),
    )
    graph = read_program(tmp_path, pt2.program(nodes, types, outputs=("a", "b", "c", "d", "x")))
    x = np.float32([[-1, 0, 1, 2], [3, -4, 5, -6]])
    relu = np.maximum(x, 0)
    for array, expected in zip(run_reference(graph, {"x": x}), (relu + 1, relu + 1, relu, relu + 1, x)):
        np.testing.assert_array_equal(array, expected)


def test_a_write_to_a_slice_changes_the_whole(tmp_path: Path) -> None:
    nodes, types = chain(
        ("aten.relu.default", "a", "x", {}),
        ("aten.slice.Tensor", "b", "a", ROWS),
        ("aten.add_.Tensor", "c", "b", ONE),
    )
    types |= {"b": pt2.meta((2, 2)), "c": pt2.meta((2, 2))}
    graph = read_program(tmp_path, pt2.program(nodes, types, outputs=("a", "c")))
    x = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])
    whole, part = run_reference(graph, {"x": x})
    np.testing.assert_array_equal(whole, x + [1, 1, 0, 0])
    np.testing.assert_array_equal(part, x[:, :2] + 1)


def test_a_write_whose_reach_is_not_known_is_refused_where_it_matters(tmp_path: Path) -> None:
    nodes, types = chain(
        ("aten.relu.default", "a", "x", {}),
        ("aten.expand.default", "b", "a", {"size": {"as_ints": [2, 4]}}),
        ("aten.add_.Tensor", "c", "b", ONE),
    )
    assert read_program(tmp_path, pt2.program(nodes, types, outputs=("c",))).outputs == ("c",)
    with pytest.raises(UnsupportedModelError, match=r"value 'a': an in-place operation .* run_decompositions"):
        read_program(tmp_path, pt2.program(nodes, types, outputs=("a",)))


def test_state_is_refused_but_for_the_counter_of_batch_norm(tmp_path: Path) -> None:
    nodes, types = chain(("aten.add_.Tensor", "a", "b", ONE), ("aten.relu.default", "y", "x", {}))
    types["b"] = pt2.meta((2, 4))
    for key, refused in (("bn.num_batches_tracked", False), ("memory", True)):
        described = pt2.program(nodes, types, weights={"b": key})
        mutated = pt2.program(nodes[1:], types, weights={"b": key})
        mutated["graph_module"]["signature"]["output_specs"].insert(
            0, {"buffer_mutation": {"arg": {"name": "b"}, "buffer_name": key}}
        )
        for program in (described, mutated):
            if refused:
                with pytest.raises(UnsupportedModelError, match="buffer 'memory': every run changes it"):
                    read_program(tmp_path, program)
            else:
                assert [node.op for node in read_program(tmp_path, program).nodes] == ["relu"]


# What is refused


def test_all_unsupported_nodes_are_listed_at_once(tmp_path: Path) -> None:
    own = '  File "/home/me/net.py", line 12, in forward\n    return torch.tan(x)\n'
    trace = own + '  File "/l/torch/a.py", line 3, in f\n    g()'
    nodes = [
        pt2.node("aten.tan.default", ["a"], "head.act", self=pt2.ref("x")),
        pt2.node("aten.relu.default", ["b"], self=pt2.ref("a")),
        pt2.node("mylib.fused.default", ["c"], "head.last", self=pt2.ref("b")),
        pt2.node("aten.acos.default", ["unused"], self=pt2.ref("x")),
        pt2.node("aten.elu.default", ["y"], self=pt2.ref("c"), input_scale={"as_float": 2.0}),
    ]
    nodes[0]["metadata"]["stack_trace"] = trace
    types = {name: pt2.meta((2, 4)) for name in ("x", "a", "b", "c", "unused", "y")}
    with pytest.raises(UnsupportedModelError) as caught:
        read_program(tmp_path, pt2.program(nodes, types))
    assert caught.value.problems == (
        "aten.tan.default 'a': no operator of sepcore's graph expresses it "
        "(head.act, /home/me/net.py:12 in forward: return torch.tan(x))",
        "mylib.fused.default 'c': an operator of 'mylib', which is none of PyTorch's own; "
        '@sepcore.op("mylib::fused.default") registers a function for it (head.last)',
        "aten.elu.default 'y': an input_scale other than 1",
    )
    assert caught.value.name.endswith("net.pt2")


@pytest.mark.parametrize(
    ("target", "arguments", "reason"),
    [
        ("aten.dropout.default", {"input": pt2.ref("x"), "p": {"as_float": 0.5}, "train": {"as_bool": True}}, "eval"),
        ("aten.rand_like.default", {"self": pt2.ref("x")}, "random numbers"),
        ("quantized_decomposed.quantize_per_tensor.default", {"input": pt2.ref("x")}, "int8 arrives"),
        ("higher_order.cond", {"a": pt2.ref("x")}, "control flow"),
        (
            "aten.pad.default",
            {"self": pt2.ref("x"), "pad": {"as_ints": [1, 1]}, "mode": {"as_string": "circular"}},
            "mode",
        ),
        ("aten.max_pool2d.default", {"self": pt2.ref("x"), "kernel_size": {"as_ints": [2, 2]}}, "2 axes"),
        (
            "aten.split_with_sizes.default",
            {"self": pt2.ref("x"), "split_sizes": {"as_ints": [2, 0]}},
            "without elements",
        ),
    ],
)
def test_reasons(target: str, arguments: Json, reason: str, tmp_path: Path) -> None:
    types = {"x": pt2.meta((2, 4)), "y": pt2.meta((2, 4))}
    with pytest.raises(UnsupportedModelError, match=reason):
        read_program(tmp_path, pt2.program([pt2.node(target, ["y"], **arguments)], types))


def test_element_types_that_no_graph_has(tmp_path: Path) -> None:
    types = {"x": pt2.meta((2, 4), "int16"), "w": pt2.meta((4,), "int16"), "y": pt2.meta((2, 4), "int16")}
    nodes = [pt2.node("aten.mul.Tensor", ["y"], self=pt2.ref("x"), other=pt2.ref("w"))]
    with pytest.raises(UnsupportedModelError) as caught:
        read_program(tmp_path, pt2.program(nodes, types, weights={"w": "scale"}))
    assert caught.value.problems == (
        "input 'x': elements of type int16",
        "tensor 'scale': elements of type int16",
        "aten.mul.Tensor 'y': elements of type int16",
    )


def test_assertions_and_what_only_they_need_are_left_out(tmp_path: Path) -> None:
    types = {"x": pt2.meta((2, 4)), "y": pt2.meta((2, 4))}
    compare = pt2.node("_operator.ge", [], a={"as_int": 1}, b={"as_int": 0}) | {"target": "_operator.ge", "name": "ge"}
    compare["outputs"] = [{"as_sym_bool": {"as_name": "ge"}}]
    nodes = [
        compare,
        pt2.node(
            "aten._assert_scalar.default", self={"as_sym_bool": {"as_name": "ge"}}, assert_msg={"as_string": "no"}
        ),
        pt2.node("aten._assert_tensor_metadata.default", a=pt2.ref("x")),
        pt2.node("aten.relu.default", ["y"], self=pt2.ref("x")),
    ]
    described = pt2.program(nodes, types)
    described["graph_module"]["graph"]["sym_bool_values"] = {"ge": {"as_bool": True}}
    assert [node.op for node in read_program(tmp_path, described).nodes] == ["relu"]


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FormatError, match=r"expected a torch.export archive \(.pt2\), found a file of the kind 'torch-zip'"
    ):
        read(tmp_path, pt2.saved({"w": np.float32([1])}))
    with pytest.raises(FileNotFoundError):
        read_pt2(tmp_path / "none.pt2")


def test_errors_say_where(tmp_path: Path) -> None:
    described = pt2.network()
    described["graph_module"]["graph"]["nodes"][0]["inputs"][3]["arg"] = {"as_ints": [1, "2"]}
    with pytest.raises(FormatError) as caught:
        read(tmp_path, pt2.network_file("raw", described))
    error = caught.value
    node = "entry 'net/models/model.json', graph_module, graph, nodes, element 0"
    assert error.where == f"{node}, inputs, element 3, arg, as_ints, element 1"
    assert (error.expected, error.found) == ("an integer of 64 bits", "'2'")


# Hostile files


def outcome(path: Path, content: bytes) -> str:
    """Read ``content`` from a file and say "read" or "refused"; any other exception fails the test."""
    try:
        read_pt2(written(path, content))
    except FormatError as caught:
        error = caught
    except UnsupportedModelError as caught:
        return "refused" if caught.name == str(path) else "an error without the file's name"
    else:
        return "read"
    assert error.path == str(path)
    assert error.where and error.expected and error.found
    assert len(str(error)) < 2000
    return "refused"


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file name in a folder of its own; the test fails if reading leaves anything else there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "victim.pt2"
    assert [path.name for path in tmp_path.iterdir()] == ["victim.pt2"]


@pytest.mark.parametrize("group", hostile_pt2.REFUSED, ids=lambda group: group.__name__)
def test_hostile_files_are_refused_within_a_second(
    group: Callable[[], Iterator[tuple[str, bytes]]], victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.system", lambda command: pytest.fail(f"a file ran {command!r}"))
    names: list[str] = []
    for name, content in group():
        assert within(SECONDS, partial(outcome, victim, content), name) == "refused", name
        names.append(name)
    assert len(names) == len(set(names)) > 0


def test_little_files_that_ask_for_much(victim: Path) -> None:
    outcomes = {}
    for name, content in hostile_pt2.exhausting():
        outcomes[name] = within(2 * SECONDS, partial(outcome, victim, content), name)
        tracemalloc.start()
        outcome(victim, content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEGABYTES * 1_000_000, name
    assert {name for name, found in outcomes.items() if found == "read"} <= {
        *("full", "arange", "expand", "pad", "five thousand nodes", "doubled sixty times", "a trace of a megabyte"),
        *("a length of its own accord", "roll", "an expression without end"),
    }


def test_wrong_values_in_every_place(victim: Path) -> None:
    outcomes = [outcome(victim, content) for _, content in hostile_pt2.wrong_values(600)]
    assert outcomes.count("refused") > len(outcomes) // 2


def test_flipped_bits(victim: Path) -> None:
    outcomes = [outcome(victim, content) for _, content in hostile_pt2.bit_flips(150)]
    assert outcomes.count("refused") > len(outcomes) // 4


def test_json_has_a_limit(victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "MAX_JSON_BYTES", 1000)
    with pytest.raises(FormatError, match="expected at most 1000 bytes of JSON"):
        read_pt2(written(victim, pt2.network_file()))


@pytest.mark.parametrize("layout", pt2.LAYOUTS)
def test_the_files_that_cases_are_made_from_are_sound(layout: str, victim: Path) -> None:
    assert outcome(victim, pt2.network_file(layout)) == "read"
