"""onnx's own node tests for the operators that sepcore reads; what is left out is listed here with the reason."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import onnx.defs
import pytest
from onnx import AttributeProto, TensorProto
from onnx.backend.test.runner import Runner
from onnx_backend import InterpreterBackend, SepcoreBackend, parameters

from sepcore.errors import SepcoreError
from sepcore.formats.onnx.ops import OPERATORS

with warnings.catch_warnings():
    # The cases themselves overflow and divide by zero on purpose while they are made.
    warnings.simplefilter("ignore", RuntimeWarning)
    from onnx.backend.test.loader import load_model_tests

    CASES = {case.name: case for case in load_model_tests(kind="node")}
    INTERPRETER, KERNELS = Runner(InterpreterBackend, __name__), Runner(SepcoreBackend, __name__)

TYPES = {TensorProto.DataType.Value(name) for name in ("FLOAT", "DOUBLE", "INT8", "UINT8", "INT32", "INT64", "BOOL")}
"""Element types of the graph. Half precision is read, but widened, so that a result never has the type a test wants;
the other integers and the narrow floats appear in no network of the kind that sepcore runs."""

EXCLUDED = (
    ("_3d_(default|dilations)|^test_convtranspose_3d$", "three spatial axes: sepcore runs networks on images"),
    ("^test_training_dropout|^test_batchnorm_.*_training_mode", "training"),
    ("^test_dropout_default_mask", "a mask is of use in training only"),
    ("^test_maxpool_with_argmax", "indices of maxima, which only unpooling reads"),
    ("^test_maxpool_2d_uint8$", "pooling of integers belongs to quantised networks"),
    ("^test_identity_(sequence|opt)$", "sequences and optional values: the graph holds tensors"),
    ("^test_wrap_pad$", "padding by wrapping around has no operator in the graph"),
    ("^test_reduce_(max|min|prod)_empty_set|zero_size_splits|^test_reshape_allowzero", "arrays without elements"),
    (
        "^test_rotary_embedding_((3d_input|interleaved|no_position_ids|no_position_ids_interleaved)_)?expanded",
        "the same",
    ),
    ("^test_reduce_prod_default_axes", "products of whole arrays: only those along one short axis, as of a shape"),
    ("^test_resize_.*cubic", "cubic interpolation has no operator in the graph"),
    ("^test_resize_.*antialias", "nor has antialiasing"),
    ("^test_resize_tf_crop", "nor has cropping while resizing"),
    ("^test_resize_.*(not_larger|not_smaller)", "nor have sizes that follow from another aspect ratio"),
    ("^test_resize_.*half_pixel_symmetric", "nor have coordinates centred on a fraction of a pixel"),
    (
        "^test_resize_downsample_scales_linear_align_corners$",
        "the coordinates belong to a size of 2.4; PyTorch, whose exporter writes such nodes, takes 2, and so do we",
    ),
    ("^test_gathernd_example_int32_batch_dim1$", "indices that differ from image to image"),
    ("^test_einsum_batch_diagonal", "diagonals have no operator in the graph"),
    ("^test_spacetodepth_(dcr|crd)_mode_example$", "the attribute mode is of opset 28"),
)
"""Pattern of test names and the reason why they are not run."""

NOT_COMPUTED = (
    (
        "^test_attention_(?!4d_causal_with_past).*"
        "(attn_mask|past_and_present|qk_matmul_(bias|softcap|softmax)|neginf_mask).*expanded$",
        "masks that are computed, by where, which has kernels for constant ones only",
    ),
    ("^test_clip_(?!default_inbounds).*expanded$|^test_clip_expanded$", "written out with less and where"),
    (
        "^test_(elu|selu|leakyrelu|prelu|thresholdedrelu|shrink)_.*expanded",
        "written out with less and where",
    ),
    ("^test_causal_conv_with_state_kernel_size_one_expanded$", "a state without elements"),
    (r"^test_(cos|sin)(_example)?$|^test_mod_|^test_onehot_", "folded where constant, as in positions; no kernels"),
    ("^test_range_", "a shape that depends on values"),
    ("_empty_set", "arrays without elements"),
)
"""Pattern of the tests that the reader passes but no kernel runs, and why. A call takes and gives float32 besides."""


def types_of(model: Any) -> set[int]:
    """Element types of a model's inputs, outputs, constants and casts."""
    infos = (*model.graph.input, *model.graph.output)
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    return {
        *(info.type.tensor_type.elem_type for info in infos if info.type.HasField("tensor_type")),
        *(attribute.t.data_type for attribute in attributes if attribute.type == AttributeProto.TENSOR),
        *(attribute.i for attribute in attributes if attribute.name == "to"),
    }


def excluded(name: str) -> bool:
    """Whether a test of an operator that sepcore reads is left out."""
    return bool(types_of(CASES[name].model) - TYPES) or any(re.search(pattern, name) for pattern, _ in EXCLUDED)


def operators(name: str) -> set[str]:
    """The operators of a test, with the domain of those that are not ONNX's own."""
    nodes = CASES[name].model.graph.node
    return {node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}" for node in nodes}


def is_float32(name: str) -> bool:
    """Whether all that a call is given and gives is float32."""
    graph, constant = CASES[name].model.graph, parameters(CASES[name].model)
    infos = [info for info in (*graph.input, *graph.output) if info.name not in constant]
    return all(info.type.tensor_type.elem_type == TensorProto.FLOAT for info in infos)


OURS = [name for name in CASES if operators(name) <= OPERATORS.keys()]
READ = [name for name in OURS if not excluded(name)]
RUN = [name for name in READ if is_float32(name) and not any(re.search(pattern, name) for pattern, _ in NOT_COMPUTED)]


def only(runner: Runner, names: list[str]) -> Any:
    """The runner's class of node tests with these tests alone."""
    found = runner.test_cases["OnnxBackendNodeModelTest"]
    for test in [test for test in vars(found) if test.startswith("test_")]:
        if test.removesuffix("_cpu") not in names:
            delattr(found, test)
    return found


TestNodesByInterpreter = only(INTERPRETER, READ)
TestNodesByKernels = only(KERNELS, RUN)


def test_every_operator_has_a_node_test_that_is_run() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    tested = {operator for name in READ for operator in operators(name)}
    assert OPERATORS.keys() & known == tested
    assert len(READ) > 700
    assert len(RUN) > 520


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in EXCLUDED])
def test_exclusion_is_needed(pattern: str) -> None:
    """A pattern that matches a test which would pass hides more than it says."""
    matched = [name for name in OURS if re.search(pattern, name) and not types_of(CASES[name].model) - TYPES]
    if not matched:
        pytest.skip(f"onnx {onnx.__version__} has no such test")
    assert not list(passing(matched))


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in NOT_COMPUTED])
def test_what_is_not_computed_is_refused(pattern: str) -> None:
    matched = [name for name in READ if re.search(pattern, name) and is_float32(name)]
    if not matched:
        pytest.skip(f"onnx {onnx.__version__} has no such test")
    everything = Runner(SepcoreBackend, __name__).test_cases["OnnxBackendNodeModelTest"]
    for name in matched:
        with pytest.raises(SepcoreError):
            getattr(everything(), f"{name}_cpu")()


def passing(names: list[str]) -> Iterator[str]:
    """Which of these tests pass when they are run all the same."""
    everything = Runner(InterpreterBackend, __name__).test_cases["OnnxBackendNodeModelTest"]
    for name in names:
        try:
            getattr(everything(), f"{name}_cpu")()
        except Exception:
            continue
        yield name
