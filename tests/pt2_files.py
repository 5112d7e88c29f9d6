"""Write torch.export's .pt2 files, in all three layouts, from plain values: no torch, and nothing of sepcore.

Nothing here checks anything: tests write broken and hostile files with it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch_layouts import Stored, ZipEntry, tensor, zip_archive, zip_file

Json = dict[str, Any]
Array = np.ndarray[Any, Any]

LAYOUTS = ("flat", "saved", "raw")
"""What PyTorch 2.5 to 2.7, 2.8, and 2.9 and later write."""

SCALAR_TYPES = {"uint8": 1, "int16": 3, "int32": 4, "int64": 5, "float16": 6, "float32": 7, "float64": 8, "bool": 12}
FLOAT32 = SCALAR_TYPES["float32"]


def length(size: int | str, hint: int | None = 2) -> Json:
    """A length; a word is a symbolic one."""
    if isinstance(size, int):
        return {"as_int": size}
    expression = f"Symbol('{size}', positive=True, integer=True)"
    return {"as_expr": {"expr_str": expression, "hint": None if hint is None else {"as_int": hint}}}


def meta(shape: Sequence[int | str], dtype: str = "float32", strides: Sequence[int] | None = None) -> Json:
    """The declared type of a tensor; strides default to row-major ones."""
    sizes = [2 if isinstance(size, str) else size for size in shape]
    if strides is None:
        strides = [int(np.prod(sizes[axis + 1 :], dtype=np.int64)) for axis in range(len(sizes))]
    return {
        "dtype": SCALAR_TYPES[dtype],
        "sizes": [length(size) for size in shape],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [length(stride) for stride in strides],
        "storage_offset": length(0),
        "layout": 7,
    }


def ref(name: str) -> Json:
    return {"as_tensor": {"name": name}}


def node(target: str, outputs: Sequence[str] = (), source: str = "", **arguments: Json) -> Json:
    """A node; arguments are given as in the file, such as ``ref("x")`` or ``{"as_int": 1}``."""
    return {
        "target": f"torch.ops.{target}",
        "inputs": [{"name": name, "arg": arg, "kind": 1} for name, arg in arguments.items()],
        "outputs": [ref(name) for name in outputs],
        "metadata": {"nn_module_stack": f"L__self__,,M;L__self__{source},{source},M"} if source else {},
        "is_hop_single_tensor_return": None,
        "name": outputs[0] if outputs else None,
    }


def program(
    nodes: Sequence[Json],
    types: Mapping[str, Json],
    *,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    major: int = 8,
) -> Json:
    """An exported program: ``weights`` and ``constants`` give the keys of graph inputs that are not the user's."""
    weights, constants = weights or {}, constants or {}
    specs = [
        *({"parameter": {"arg": {"name": name}, "parameter_name": key}} for name, key in weights.items()),
        *({"tensor_constant": {"arg": {"name": name}, "tensor_constant_name": key}} for name, key in constants.items()),
        *({"user_input": {"arg": ref(name)}} for name in inputs),
    ]
    graph = {
        "inputs": [ref(name) for name in (*weights, *constants, *inputs)],
        "outputs": [ref(name) for name in outputs],
        "nodes": list(nodes),
        "tensor_values": dict(types),
        "sym_int_values": {},
        "sym_bool_values": {},
        "is_single_tensor_return": False,
        "custom_obj_values": {},
        "sym_float_values": {},
    }
    signature = {"input_specs": specs, "output_specs": [{"user_output": {"arg": ref(name)}} for name in outputs]}
    return {
        "graph_module": {"graph": graph, "signature": signature, "module_call_graph": [], "metadata": {}},
        "opset_version": {"aten": 10},
        "range_constraints": {},
        "schema_version": {"major": major, "minor": 3},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0",
        "guards_code": [],
    }


def saved(arrays: Mapping[str, Array]) -> bytes:
    """A dict of tensors as torch.save writes it."""
    storages = [Stored.of(np.ascontiguousarray(array), str(index)) for index, array in enumerate(arrays.values())]
    tensors = {key: tensor(stored, array.shape) for (key, array), stored in zip(arrays.items(), storages)}
    return zip_file(tensors, storages)


def raw_config(arrays: Mapping[str, Array], prefix: str) -> Json:
    """The configuration that says which raw file holds which tensor."""
    return {
        "config": {
            key: {
                "path_name": f"{prefix}{index}",
                "is_param": True,
                "use_pickle": False,
                "tensor_meta": meta(array.shape, array.dtype.name),
            }
            for index, (key, array) in enumerate(arrays.items())
        }
    }


def entries(
    described: Json | bytes,
    weights: Mapping[str, Array] | None = None,
    constants: Mapping[str, Array] | None = None,
    layout: str = "raw",
) -> dict[str, bytes]:
    """The content of an archive by entry."""
    weights, constants = weights or {}, constants or {}
    graph = described if isinstance(described, bytes) else json.dumps(described).encode()
    if layout == "flat":
        return {
            "serialized_exported_program.json": graph,
            "serialized_state_dict.pt": saved(weights),
            "serialized_constants.pt": saved(constants),
            "serialized_example_inputs.pt": b"never read",
            "version": b"8.3",
        }
    parts = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little", "models/model.json": graph}
    if layout == "saved":
        parts |= {"data/weights/model.pt": saved(weights), "data/constants/model.pt": saved(constants)}
    else:
        for folder, kind, prefix, arrays in (
            ("weights", "weights", "weight_", weights),
            ("constants", "constants", "tensor_", constants),
        ):
            parts[f"data/{folder}/model_{kind}_config.json"] = json.dumps(raw_config(arrays, prefix)).encode()
            for index, array in enumerate(arrays.values()):
                parts[f"data/{folder}/{prefix}{index}"] = np.ascontiguousarray(array).tobytes()
    parts["data/sample_inputs/model.pt"] = b"never read"
    return {f"net/{name}": content for name, content in parts.items()}


def archive(parts: Mapping[str, bytes]) -> bytes:
    """The archive of some entries."""
    return zip_archive([ZipEntry(name, content) for name, content in parts.items()])


# A network that most tests start from

WEIGHT = np.arange(4 * 3 * 3 * 3, dtype=np.float32).reshape(4, 3, 3, 3) / 50 - 1
BIAS = np.arange(4, dtype=np.float32)
MEAN, VAR = np.float32([0.5, -0.5, 0.25, 0.0]), np.float32([1.0, 2.0, 0.5, 4.0])
FC = np.arange(8, dtype=np.float32).reshape(2, 4) / 4
SCALE = np.float32(0.5).reshape(())

WEIGHTS = {"conv.weight": WEIGHT, "conv.bias": BIAS, "bn.mean": MEAN, "bn.var": VAR, "fc.weight": FC}
CONSTANTS = {"scale": SCALE}
LIFTED = {"p_w": "conv.weight", "p_b": "conv.bias", "b_mean": "bn.mean", "b_var": "bn.var", "p_fc": "fc.weight"}


def network() -> Json:
    """conv2d, batch_norm, hardtanh in place, mean, linear, times a constant."""
    maps: tuple[int | str, ...] = ("s0", 4, 8, 8)
    types = {
        "x": meta(("s0", 3, 8, 8)),
        "p_w": meta(WEIGHT.shape),
        "p_b": meta(BIAS.shape),
        "b_mean": meta(MEAN.shape),
        "b_var": meta(VAR.shape),
        "p_fc": meta(FC.shape),
        "c_scale": meta(()),
        **{name: meta(maps) for name in ("conv2d", "batch_norm", "hardtanh_")},
        "mean": meta(("s0", 4)),
        "linear": meta(("s0", 2)),
        "y": meta(("s0", 2)),
    }
    nodes = [
        node(
            "aten.conv2d.default",
            ["conv2d"],
            "conv",
            input=ref("x"),
            weight=ref("p_w"),
            bias=ref("p_b"),
            stride={"as_ints": [1, 1]},
            padding={"as_ints": [1, 1]},
        ),
        node(
            "aten.batch_norm.default",
            ["batch_norm"],
            "bn",
            input=ref("conv2d"),
            weight={"as_none": True},
            bias={"as_none": True},
            running_mean=ref("b_mean"),
            running_var=ref("b_var"),
            training={"as_bool": False},
            momentum={"as_float": 0.1},
            eps={"as_float": 1e-3},
            cudnn_enabled={"as_bool": True},
        ),
        node(
            "aten.hardtanh_.default",
            ["hardtanh_"],
            "act",
            self=ref("batch_norm"),
            min_val={"as_float": 0.0},
            max_val={"as_float": 6.0},
        ),
        node("aten.mean.dim", ["mean"], "", self=ref("batch_norm"), dim={"as_ints": [2, 3]}),
        node("aten.linear.default", ["linear"], "fc", input=ref("mean"), weight=ref("p_fc")),
        node("aten.mul.Tensor", ["y"], "", self=ref("linear"), other=ref("c_scale")),
    ]
    return program(nodes, types, weights=LIFTED, constants={"c_scale": "scale"})


def network_file(layout: str = "raw", described: Json | bytes | None = None) -> bytes:
    """The network as a file."""
    return archive(entries(network() if described is None else described, WEIGHTS, CONSTANTS, layout))
