"""ONNX files: PyTorch's numbers from real ones, what may vary between exporters, and what is refused and how."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hostile_onnx as hostile
import numpy as np
import pytest
from hostile_onnx import model, node, tensor
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, TensorProto, helper
from quick import within

from sepcore.errors import FormatError, GraphError, SepcoreError, UnsupportedModelError
from sepcore.formats.onnx import read_onnx
from sepcore.formats.onnx.decode import shortest
from sepcore.formats.onnx.origin import origin
from sepcore.ir.graph import Graph
from sepcore.ir.infer import infer_shapes
from sepcore.ir.reference import run_reference
from sepcore.ir.verify import verify

SECONDS = 1.0
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[ModelProto], Graph]:
    """Read a model by way of a file, and verify the graph."""

    def read_model(proto: ModelProto) -> Graph:
        graph = read_onnx(hostile.content(proto)(tmp_path))
        verify(graph)
        return graph

    return read_model


Read = Callable[[ModelProto], Graph]


def run(graph: Graph, x: NDArray[Any] = X) -> NDArray[Any]:
    (y,) = run_reference(graph, {"x": x})
    return y


# Real files


@pytest.mark.parametrize("name", ["mobilenetv1_x0.25_leaky", "mcunet_320kb", "mobilenet_v3_small_samepad"])
def test_real_files_give_pytorchs_logits(name: str, data_dir: Path) -> None:
    graph = read_onnx(data_dir / "weights" / f"{name}.onnx")
    verify(graph)
    assert [value.name for value in graph.inputs] == ["input"] and graph.outputs == ("logits",)
    settings = json.loads((data_dir / "reference" / "models.json").read_text())[name]
    reference = np.load(data_dir / "reference" / f"{name}.npz")
    pixels = np.load(data_dir / "reference" / str(reference["crops"])).astype(np.float32) / 255
    x = (pixels - np.array(settings["mean"], np.float32)) / np.array(settings["std"], np.float32)
    (logits,) = run_reference(graph, {"input": np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32)})
    expected = reference["logits"]
    assert np.abs(logits - expected).max() <= 1e-4 * expected.std()


def test_real_external_data_is_looked_for_beside_the_model_only(data_dir: Path, tmp_path: Path) -> None:
    alone = tmp_path / "mcunet_320kb.onnx"
    alone.write_bytes((data_dir / "weights" / alone.name).read_bytes())
    with pytest.raises(FormatError, match="a file beside the model"):
        read_onnx(alone)


def test_nodes_keep_their_names_and_say_where_they_come_from(data_dir: Path) -> None:
    by_export = read_onnx(data_dir / "weights" / "mcunet_320kb.onnx").nodes[2]
    assert by_export.source == "blocks.0.mobile_inverted_conv.depth_conv.bn"
    by_script = read_onnx(data_dir / "weights" / "mobilenetv1_x0.25_leaky.onnx").nodes[0]
    assert by_script.name == "/stage1/stage1.0/stage1.0.0/Conv"
    assert by_script.source == "stage1/stage1.0/stage1.0.0"


# What may vary between files


@pytest.mark.parametrize(("given", "name"), [("net", "net"), ("main_graph", "model"), ("torch_jit", "model")])
def test_a_graph_that_exporters_gave_no_name_of_its_own_has_the_files(read: Read, given: str, name: str) -> None:
    proto = model([node("Relu", ["x"], ["y"])])
    proto.graph.name = given
    assert read(proto).name == name


def test_nodes_in_any_order(read: Read) -> None:
    proto = hostile.sound()
    nodes = list(proto.graph.node)
    proto.graph.ClearField("node")
    proto.graph.node.extend(reversed(nodes))
    np.testing.assert_array_equal(run(read(proto)), run(read(hostile.sound())))


def test_initializers_listed_as_inputs(read: Read) -> None:
    proto = hostile.sound()
    for initializer in proto.graph.initializer:
        proto.graph.input.append(
            helper.make_tensor_value_info(initializer.name, initializer.data_type, list(initializer.dims))
        )
    graph = read(proto)
    assert [value.name for value in graph.inputs] == ["x"]
    np.testing.assert_array_equal(run(graph), run(read(hostile.sound())))


@pytest.mark.parametrize("entries", [{}, {"offset": "0"}, {"offset": "64"}, {"offset": "64", "length": "216"}])
@pytest.mark.parametrize("folder", ["", "weights/"])
def test_external_data(read: Read, tmp_path: Path, entries: dict[str, str], folder: str) -> None:
    proto = hostile.sound()
    hostile.outside(proto.graph.initializer[0], [("location", f"{folder}w.bin"), *entries.items()])
    (tmp_path / folder).mkdir(exist_ok=True)
    padding = b"\xff" * int(entries.get("offset", 0))
    (tmp_path / folder / "w.bin").write_bytes(padding + hostile.WEIGHT.tobytes())
    np.testing.assert_array_equal(run(read(proto)), run(read(hostile.sound())))


def test_tensors_may_share_external_data_where_they_share_all_of_it(read: Read, tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Conv", ["x", "v"], ["b"]), node("Sub", ["a", "b"], ["y"])]
    proto = model(nodes, [tensor("w", hostile.WEIGHT), tensor("v", hostile.WEIGHT)])
    for initializer in proto.graph.initializer:
        hostile.outside(initializer, [("location", "w.bin")])
    (tmp_path / "w.bin").write_bytes(hostile.WEIGHT.tobytes())
    np.testing.assert_array_equal(run(read(proto)), 0)


def constant(**attribute: Any) -> ModelProto:
    return model([node("Constant", [], ["c"], **attribute), node("Mul", ["x", "c"], ["y"])])


@pytest.mark.parametrize(
    ("attribute", "factor"),
    [
        ({"value_float": 2.5}, 2.5),
        ({"value_floats": [1.0, 2.0] * 4}, np.tile(np.array([1, 2], np.float32), 4)),
        ({"value": tensor("t", np.array([[3]], np.float32))}, 3),
        ({"value": helper.make_tensor("t", TensorProto.FLOAT, [1], [4.0])}, 4),
    ],
    ids=["value_float", "value_floats", "value (raw)", "value (typed)"],
)
def test_constant_nodes(read: Read, attribute: dict[str, Any], factor: Any) -> None:
    np.testing.assert_array_equal(run(read(constant(**attribute))), X * factor)


@pytest.mark.parametrize("attribute", [{"value_int": 2}, {"value_ints": [2]}])
def test_constant_nodes_of_integers(read: Read, attribute: dict[str, Any]) -> None:
    nodes = [node("Constant", [], ["c"], **attribute), node("Cast", ["c"], ["f"], to=1), node("Mul", ["x", "f"], ["y"])]
    graph = read(model(nodes))
    assert [made.op for made in graph.nodes] == ["mul"]
    np.testing.assert_array_equal(run(graph), X * 2)


@pytest.mark.parametrize("code", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("raw", [True, False])
def test_half_precision_is_widened(read: Read, code: int, raw: bool) -> None:
    halves = np.array([1.5, -2.25, 0.0078125], np.float32)
    values: Any = halves
    if raw:
        values = (
            (halves.astype("<f2") if code == TensorProto.FLOAT16 else halves.view("<u4") >> 16)
            .astype("<f2" if code == TensorProto.FLOAT16 else "<u2")
            .tobytes()
        )
    half = helper.make_tensor("h", code, [3, 1, 1], values, raw=raw)
    proto = model([node("Cast", ["x"], ["c"], to=code), node("Mul", ["c", "h"], ["y"])], [half])
    proto.graph.input[0].type.tensor_type.elem_type = code
    graph = read(proto)
    assert graph.inputs[0].dtype == np.float32
    np.testing.assert_array_equal(run(graph), X * halves[:, None, None])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool", "float64"])
@pytest.mark.parametrize("raw", [True, False])
def test_element_types(read: Read, dtype: str, raw: bool) -> None:
    array = np.array([1, 0, 1], dtype)
    code = helper.np_dtype_to_tensor_dtype(array.dtype)
    found = tensor("c", array) if raw else helper.make_tensor("c", code, [3], array.tolist())
    proto = model([node("Cast", ["c"], ["f"], to=1), node("Add", ["x", "f"], ["y"])], [found], shape=("n", 3))
    np.testing.assert_array_equal(run(read(proto), X[:, :, 0, 0]), X[:, :, 0, 0] + np.array([1, 0, 1], np.float32))


def test_open_axes(read: Read) -> None:
    proto = model([node("Relu", ["x"], ["y"])], shape=("batch", 3, 0, -1))
    proto.graph.input[0].type.tensor_type.shape.dim.add()
    (value,) = read(proto).inputs
    assert value.shape == ("batch", 3, "x.2", "x.3", "x.4")


def test_outputs_keep_their_names_where_nothing_makes_them_anew(read: Read) -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Identity", ["r"], ["y"]), node("Dropout", ["r"], ["z"])]
    graph = read(model([*nodes, node("Constant", [], ["c"], value_float=1.0)], outputs=("y", "r", "z", "c")))
    found = run_reference(graph, {"x": X})
    for array, expected in zip(found, (*[np.maximum(X, 0)] * 3, np.float32(1))):
        np.testing.assert_array_equal(array, expected)


def test_names_that_a_taken_apart_node_makes_up_are_free(read: Read) -> None:
    nodes = [
        node("Relu", ["x"], ["n/abs:out"], name="n/abs"),
        node("Softsign", ["n/abs:out"], ["y"], name="n"),
    ]
    r = np.maximum(X, 0)
    np.testing.assert_allclose(run(read(model(nodes))), r / (1 + r), rtol=1e-6)


def test_functions_of_the_file_are_expanded(read: Read) -> None:
    leaky = node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(AttributeProto(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT))
    imports = [helper.make_opsetid("", hostile.OPSET), helper.make_opsetid("local", 1)]
    inner = helper.make_function("local", "inner", ["a", "unused"], ["b"], [leaky], imports, ["slope"])
    nodes = [
        helper.make_node("inner", ["a"], ["t"], domain="local", slope=0.5),
        helper.make_node("inner", ["t"], ["b"], domain="local", slope=0.25),
    ]
    outer = helper.make_function("local", "outer", ["a"], ["b", "a"], nodes, imports)
    calls = [
        helper.make_node("outer", ["x"], ["v", "w"], domain="local"),
        helper.make_node("outer", ["v"], ["u"], domain="local"),
        node("Add", ["u", "w"], ["y"]),
    ]
    graph = read(model(calls, functions=[outer, inner]))
    assert [made.op for made in graph.nodes] == ["leaky_relu"] * 4 + ["add"]
    np.testing.assert_allclose(run(graph), np.where(X < 0, X / 64, X) + X, rtol=1e-6)


def test_numbers_are_those_that_the_exporter_was_given() -> None:
    for number in (0.1, 1e-5, 0.001, 1.0, 0.0, 6.0, 1e30):
        assert shortest(float(np.float32(number))) == number


def test_hardsigmoid_is_pytorchs_where_the_file_means_a_sixth(read: Read) -> None:
    (made,) = read(model([node("HardSigmoid", ["x"], ["y"], alpha=1 / 6)])).nodes
    assert made.attrs == {"alpha": 1 / 6, "beta": 0.5}


def test_softmax_before_opset_13_runs_over_all_axes_from_its_own_on(read: Read) -> None:
    e = np.exp(X.astype(np.float64))
    for opset, axes in ((11, (1, 2, 3)), (12, (1, 2, 3)), (13, (1,))):
        y = run(read(model([node("Softmax", ["x"], ["y"], axis=1)], opset=opset)))
        np.testing.assert_allclose(y, e / e.sum(axes, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("opset", range(11, 24))
def test_every_opset_is_read(read: Read, opset: int) -> None:
    """Axes move from attributes to inputs in between."""
    axes = opset >= 13
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Clip", ["c", "lo", "hi"], ["k"]),
        node("ReduceSum", ["k", "axes"], ["s"]) if axes else node("ReduceSum", ["k"], ["s"], axes=[2]),
        node("Squeeze", ["s", "axes"], ["q"]) if axes else node("Squeeze", ["s"], ["q"], axes=[2]),
        node("Unsqueeze", ["q", "axes"], ["y"]) if axes else node("Unsqueeze", ["q"], ["y"], axes=[2]),
    ]
    constants = [("w", hostile.WEIGHT), ("lo", np.float32(-9)), ("hi", np.float32(9))]
    graph = read(
        model(nodes, [tensor(name, array) for name, array in [*constants, ("axes", np.array([2]))]], opset=opset)
    )
    windows = np.lib.stride_tricks.sliding_window_view(X, (3, 3), (2, 3)).astype(np.float64)
    expected = np.einsum("ncyxij,ocij->noyx", windows, hostile.WEIGHT).clip(-9, 9).sum(2, keepdims=True)
    np.testing.assert_allclose(run(graph), expected, rtol=1e-5)


@pytest.mark.parametrize("opset", [10, 24])
def test_other_opsets_are_refused(read: Read, opset: int) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"opset {opset} of ai.onnx: sepcore reads 11 to 23"):
        read(model([node("Relu", ["x"], ["y"])], opset=opset))


def test_weights_that_are_computed_from_constants(read: Read) -> None:
    """As an exporter leaves them that does not fold constants; the bias is shared by Identity, as in torchvision's."""
    nodes = [
        node("Mul", ["w", "two"], ["w2"]),
        node("Transpose", ["w2"], ["w3"], perm=[0, 1, 3, 2]),
        node("Identity", ["b"], ["b2"]),
        node("Conv", ["x", "w3", "b2"], ["y"]),
    ]
    constants = [tensor("w", hostile.WEIGHT), tensor("two", np.float32(2)), tensor("b", np.array([1, 2], np.float32))]
    graph = read(model(nodes, constants))
    assert [made.op for made in graph.nodes] == ["conv2d"]
    np.testing.assert_array_equal(graph.constants[graph.nodes[0].inputs[1]], 2 * hostile.WEIGHT.transpose(0, 1, 3, 2))


def test_maps_of_one_spatial_axis(read: Read) -> None:
    weight = RNG.standard_normal((4, 3, 3)).astype(np.float32)
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1, 0], strides=[2]), node("MaxPool", ["c"], ["y"], kernel_shape=[2])]
    graph = read(model(nodes, [tensor("w", weight)], shape=("n", 3, 8)))
    padded = np.pad(X[:, :, 0], ((0, 0), (0, 0), (1, 0))).astype(np.float64)
    conv = np.stack([np.einsum("nck,ock->no", padded[:, :, i : i + 3], weight) for i in (0, 2, 4, 6)], axis=2)
    np.testing.assert_allclose(run(graph, X[:, :, 0]), np.maximum(conv[:, :, :-1], conv[:, :, 1:]), rtol=1e-5)


def test_shape_arithmetic_with_open_sizes(read: Read) -> None:
    """Resize to another map's size, pad by what a stride leaves, and flatten: all follows from the input's shape."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "two", "four", "zero"], ["hw"]),
        node("Mod", ["hw", "three"], ["pad"]),
        node("Concat", ["zeros", "pad"], ["pads"], axis=0),
        node("Pad", ["x", "pads"], ["p"]),
        node("MaxPool", ["p"], ["m"], kernel_shape=[3, 3], strides=[3, 3]),
        node("Shape", ["m"], ["ms"]),
        node("Slice", ["ms", "zero", "two", "zero"], ["nc"]),
        node("Concat", ["nc", "hw"], ["size"], axis=0),
        node("Resize", ["m", "", "", "size"], ["r"], mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor"),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Concat", ["n", "rest"], ["flat"], axis=0),
        node("Reshape", ["r", "flat"], ["y"]),
    ]  # fmt: skip
    named = {"zero": [0], "two": [2], "three": [3], "four": [4], "zeros": [0] * 6, "rest": [-1]}
    constants = [tensor(name, np.array(array)) for name, array in named.items()]
    graph = read(model(nodes, constants, shape=("n", 3, "h", "w")))
    for h, w in ((8, 8), (6, 7)):
        x = X[:, :, :h, :w]
        padded = np.pad(x, ((0, 0), (0, 0), (0, h % 3), (0, w % 3)))[
            :, :, : (h + h % 3) // 3 * 3, : (w + w % 3) // 3 * 3
        ]
        pooled = padded.reshape(2, 3, padded.shape[2] // 3, 3, padded.shape[3] // 3, 3).max((3, 5))
        rows, columns = (np.arange(n) * m // n for n, m in ((h, pooled.shape[2]), (w, pooled.shape[3])))
        expected = pooled[:, :, rows][:, :, :, columns].reshape(2, -1)
        np.testing.assert_array_equal(run(graph, x), expected)
        assert infer_shapes(graph, {"x": x.shape})["y"].shape == expected.shape


def test_axes_of_length_one_are_found_behind_windows(read: Read) -> None:
    """As in ``x.squeeze()`` after a pooling of the whole map."""
    pool = node("AveragePool", ["x"], ["p"], kernel_shape=[8, 8])
    graph = read(model([pool, node("Squeeze", ["p"], ["y"])], shape=(2, 3, 8, 8)))
    np.testing.assert_allclose(run(graph), X.mean((2, 3)), rtol=1e-5, atol=1e-6)


def test_channels_are_known_behind_a_shape_that_is_computed(read: Read) -> None:
    """As in a channel shuffle with open sizes, and the halves that are taken of its result."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "0"], ["n"], axis=0),
        node("Gather", ["s", "1"], ["c"], axis=0),
        node("Div", ["c", "2"], ["half"]),
        node("Slice", ["s", "[2]", "[4]", "[0]"], ["hw"]),
        node("Unsqueeze", ["n", "[0]"], ["n1"]),
        node("Unsqueeze", ["half", "[0]"], ["half1"]),
        node("Concat", ["n1", "[2]", "half1", "hw"], ["grouped"], axis=0),
        node("Reshape", ["x", "grouped"], ["g"]),
        node("Transpose", ["g"], ["t"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["t", "s"], ["shuffled"]),
        node("Split", ["shuffled"], ["a", "b"], axis=1, num_outputs=2),
        node("Sub", ["a", "b"], ["y"]),
    ]
    constants = [tensor(text, np.array(json.loads(text))) for text in ("0", "1", "2", "[0]", "[2]", "[4]")]
    graph = read(model(nodes, constants, shape=("n", 4, "h", "w")))
    x = np.concatenate([X, X[:, :1]], axis=1)
    np.testing.assert_array_equal(run(graph, x), x[:, [0, 2]] - x[:, [1, 3]])


# What is refused, and how


def test_every_unsupported_node_is_named_at_once(read: Read) -> None:
    branch = helper.make_graph([node("Relu", ["x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, None)])
    nodes = [
        node("Resize", ["x", "", "scales"], ["a"], name="/head/up/Resize", mode="cubic"),
        node("QuantizeLinear", ["a", "scale", "zero"], ["q"], name="quantize"),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantize"),
        node("Relu", ["d"], ["r"], name="fine"),
        node("If", ["flag"], ["i"], name="branch", then_branch=branch, else_branch=branch),
        helper.make_node("FusedConv", ["r", "i"], ["f"], name="fused", domain="com.microsoft"),
        node("MaxPool", ["f"], ["m", "places"], name="pool", kernel_shape=[2, 2]),
        node("Relu", ["m"], ["s"], name="strange", alpha=1.0),
        node("MaxUnpool", ["s", "places"], ["u"], name="unpool", kernel_shape=[2, 2]),
        node("Pad", ["u", "pads"], ["y"], name="pad", mode="wrap"),
    ]
    constants = [
        tensor("scales", np.array([1, 1, 2, 2], np.float32)),
        tensor("scale", np.float32(0.1)),
        tensor("zero", np.int8(0)),
        tensor("flag", np.bool_(True)),
        tensor("pads", np.zeros(8, np.int64)),
    ]
    nodes[8].metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "net.py", line 12, in forward\n  x')
    with pytest.raises(UnsupportedModelError) as caught:
        read(model(nodes, constants))
    problems = dict(problem.split(": ", 1) for problem in caught.value.problems)
    assert set(problems) == {
        "Resize '/head/up/Resize'",
        "QuantizeLinear 'quantize'",
        "DequantizeLinear 'dequantize'",
        "If 'branch'",
        "com.microsoft.FusedConv 'fused'",
        "MaxUnpool 'unpool'",
        "Pad 'pad'",
    }
    assert problems["Resize '/head/up/Resize'"] == "mode 'cubic'; sepcore has nearest, linear (head/up)"
    assert "int8 arrives with quantisation" in problems["QuantizeLinear 'quantize'"]
    assert "int8 arrives with quantisation" in problems["DequantizeLinear 'dequantize'"]
    assert "control flow" in problems["If 'branch'"]
    assert "com.microsoft" in problems["com.microsoft.FusedConv 'fused'"]
    assert problems["MaxUnpool 'unpool'"].endswith("(net.py:12 in forward)")


@pytest.mark.parametrize(
    ("proto", "problem"),
    [
        (model([node("Relu", ["x"], ["y"], alpha=1.0)]), "Relu 'Relu_0': attribute 'alpha' is not known"),
        (
            model([node("MaxPool", ["x"], ["y", "z"], kernel_shape=[2, 2])], outputs=("z",)),
            "MaxPool 'MaxPool_0': output 1 ('z') is used, which is not computed",
        ),
        (
            model([node("Conv", ["x", "x"], ["y"])]),
            "Conv 'Conv_0': the weight (input 1, 'x') is not a constant",
        ),
        (
            model(
                [node("GatherND", ["x", "i"], ["y"])],
                [tensor("i", np.array([[0, 1, 2], [1, 0, 2]]))],
                shape=(1 << 30,) * 3,
            ),
            "GatherND 'GatherND_0': axes of [1073741824, 1073741824, 1073741824], too many elements to count",
        ),
        (
            model([node("GatherND", ["x", "i"], ["y"])], [tensor("i", np.array([[0, 1], [1, 0]]))]),
            "GatherND 'GatherND_0': indices of several axes that form no grid, some of an open length",
        ),
        (
            model([node("Squeeze", ["x"], ["y"])]),
            "Squeeze 'Squeeze_0': no axes are given, and the input has open ones",
        ),
        (
            model([node("AveragePool", ["x"], ["y"], kernel_shape=[1, 1, 1])], shape=(1, 1, 4, 4, 4)),
            "AveragePool 'AveragePool_0': 3 spatial axes; sepcore has one and two",
        ),
        (
            model([node("Mul", ["x", "c"], ["y"])], [helper.make_tensor("c", TensorProto.STRING, [1], [b"a"])]),
            "initializer 'c': elements of type string cannot be read",
        ),
    ],
)
def test_reasons(read: Read, proto: ModelProto, problem: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read(proto)
    assert caught.value.problems == (problem,)


def test_what_nobody_uses_may_be_anything(read: Read) -> None:
    proto = model([node("Relu", ["x"], ["y"])], [helper.make_tensor("c", TensorProto.STRING, [1], [b"a"])])
    proto.graph.input.append(helper.make_tensor_sequence_value_info("s", 1, None))
    assert [value.name for value in read(proto).inputs] == ["x"]


def test_without_the_package_onnx_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hostile.content(hostile.sound())(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SepcoreError, match=r'pip install "sepcore\[onnx\]"'):
        read_onnx(path)


def test_files_that_are_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_onnx(tmp_path / "missing.onnx")
    with pytest.raises(FormatError, match="a folder"):
        read_onnx(tmp_path)


def test_where_a_node_comes_from() -> None:
    relu = node("Relu", ["x"], ["y"], name="/features/0/Relu")
    assert origin(relu) == "features/0"
    relu.doc_string = (
        "/site/torch/nn/functional.py(1701): relu\n/home/net.py(7): forward\n/site/torch/jit/_trace.py(1): wrapper\n"
    )
    assert origin(relu) == "features/0, /home/net.py:7 in forward"
    relu.ClearField("doc_string")
    for key, value in (
        ("pkg.torch.onnx.name_scopes", "['', 'block', 'block.act', 'relu']"),
        (
            "pkg.torch.onnx.stack_trace",
            'File "/home/net.py", line 3, in forward\n    y = self.block(x)\n'
            '  File "/home/net.py", line 9, in forward\n    return self.act(x)\n'
            '  File "/site/torch/nn/modules/activation.py", line 133, in forward\n    return F.relu(x)',
        ),
    ):
        relu.metadata_props.add(key=key, value=value)
    assert origin(relu) == "block.act, /home/net.py:9 in forward"
    relu.metadata_props[0].value = "__import__('os').system('false')"
    relu.name = "a\x1b[31m" + "b" * 1000 + "/Relu"
    assert len(origin(relu)) <= 200 and origin(relu).isprintable()


# Hostile files


def outcome(path: Path) -> str:
    """Read a file and say how that went; any exception but these fails the test."""
    try:
        verify(read_onnx(path))
    except (FormatError, UnsupportedModelError) as caught:
        error = caught
    else:
        return "read"
    assert str(path) in str(error)
    assert len(str(error)) < 2000
    return type(error).__name__


@pytest.mark.parametrize("group", hostile.GROUPS, ids=lambda group: group.__name__)
def test_hostile_files_are_refused_within_a_second(
    group: Callable[[], Iterator[hostile.Case]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(hostile.WEIGHT.tobytes())
    count = 0
    for position, (name, write) in enumerate(group()):
        folder = tmp_path / str(position)
        folder.mkdir()
        path = write(folder)
        assert within(SECONDS, partial(outcome, path), name) == "FormatError", name
        count += 1
    assert count > 0


def test_the_model_that_cases_are_made_from_is_sound(tmp_path: Path) -> None:
    assert outcome(hostile.content(hostile.sound())(tmp_path)) == "read"
    data = hostile.WEIGHT.tobytes()
    assert outcome(hostile.external({"location": hostile.DATA}, data)(tmp_path)) == "read"


def test_flipped_bits(tmp_path: Path) -> None:
    outcomes = [outcome(hostile.content(flipped)(tmp_path)) for flipped in hostile.bit_flips(1000)]
    assert outcomes.count("FormatError") > len(outcomes) // 4


@pytest.mark.parametrize(
    ("name", "proto"), list(hostile.swellings()), ids=lambda found: found if type(found) is str else ""
)
def test_small_files_stay_small_and_quick(name: str, proto: ModelProto, tmp_path: Path) -> None:
    path = hostile.content(proto)(tmp_path)
    assert within(SECONDS, lambda: outcome(path)) == "read"
    tracemalloc.start()
    try:
        read_onnx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * path.stat().st_size + (64 << 20)


PEAK = """
import resource, sys
import numpy, onnx
from sepcore.errors import FormatError
from sepcore.formats.onnx import read_onnx
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_onnx(sys.argv[1])
except FormatError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024))
"""


def test_empty_messages_take_no_memory(tmp_path: Path) -> None:
    cases = dict(hostile.wire())
    path = cases["five million empty nodes"](tmp_path)
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * path.stat().st_size + (64 << 20)


def test_what_does_not_fit_together_is_a_typed_error(read: Read) -> None:
    proto = model([node("Conv", ["x", "w"], ["y"])], [tensor("w", np.zeros((2, 4, 3, 3), np.float32))])
    with pytest.raises(FormatError, match="expected 4 channels"):
        read(proto)
    for axis, dim in enumerate(proto.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = f"d{axis}"
    with pytest.raises(GraphError, match="expected 4 channels"):
        infer_shapes(read(proto), {"x": (1, 3, 8, 8)})
