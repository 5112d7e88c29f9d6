"""What cannot be planned is said at once, with the node's name and source, when a session is made or first called."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sepcore.errors import UnsupportedModelError
from sepcore.ir.graph import GraphBuilder
from sepcore.ir.reference import run_reference
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.plan.drafts import Buffer
from sepcore.plan.tensors import View, contiguous
from sepcore.runtime.session import Session


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("array", [np.array([3]), np.zeros((2, 0), np.float32)])
def test_a_constant_output_that_cannot_be_given_is_refused(array: np.ndarray) -> None:
    b = GraphBuilder("constant")
    graph = b.build([b.add("relu", [b.input("x", ("n", 4))]), b.constant("c", array)])
    with pytest.raises(UnsupportedModelError, match=r"output c: .*: only float32 is given, and at least one number"):
        Session(graph, SessionOptions(num_threads=1))


def test_every_reason_is_listed_at_once() -> None:
    b = GraphBuilder("bad")
    x, ids = b.input("x", ("n", 3, 8, 8)), b.input("ids", ("n", 4), np.int64)
    b.scope = "model.py:7"
    y = b.add("conv2d", [x, b.add("reshape", [b.add("reduce_mean", [x], axes=(0, 2, 3))], shape=(1, 3, 1, 1))], "taps")
    z = b.add("where", [b.add("greater", [x, b.constant("zero", np.float32(0))], "over"), x, y], "chosen")
    v = b.add("pad", [x], "around", pads=((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
    v = b.add("max_pool2d", [b.add("reshape", [v], shape=(80, 1, 2, 2))], "maps", kernel=(2, 1))
    graph = run_passes(b.build([z, v, b.add("neg", [ids], "negated")]), verify=True)
    with pytest.raises(UnsupportedModelError) as caught:
        Session(graph, SessionOptions(num_threads=1))
    listed = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 7
    for words in ("input ids", "'taps' (model.py:7)", "'over'", "'chosen'", "'around'", "'maps'", "'negated'"):
        assert words in listed


MIXING: dict[str, Callable[[GraphBuilder, str], str]] = {
    "softmax over images": lambda b, x: b.add("softmax", [x], axis=0),
    "images backwards": lambda b, x: b.add("slice", [x], axes=(0,), starts=(-1,), ends=(-99,), steps=(-1,)),
    "images along another axis": lambda b, x: b.add("transpose", [x], perm=(1, 0, 2)),
    "images joined": lambda b, x: b.add("concat", [x, x], axis=0),
    "mean of images": lambda b, x: b.add("sub", [x, b.add("reduce_mean", [x], axes=(0,), keepdims=True)]),
    "images by images": lambda b, x: b.add(
        "matmul", [b.add("flatten", [x]), b.add("transpose", [b.add("flatten", [x])], perm=(1, 0))]
    ),
    "images folded into rows that move": lambda b, x: b.add(
        "reshape", [b.add("transpose", [b.add("reshape", [x], shape=(-1, 6))], perm=(1, 0))], shape=(-1, 12)
    ),
    "images summed over": lambda b, x: b.add("matmul", [b.constant("c", weights(3, 1)), b.add("flatten", [x])]),
    "images aligned with channels": lambda b, x: b.add("add", [x, b.add("reduce_mean", [x], axes=(1,))]),
}


@pytest.mark.parametrize("name", MIXING)
def test_images_that_mix_run_alone_only(name: str) -> None:
    b = GraphBuilder("mixing")
    x = b.input("x", ("n", 2, 6))
    graph = run_passes(b.build([MIXING[name](b, x)]), verify=True)
    session = Session(graph, SessionOptions(num_threads=2))
    one = weights(1, 2, 6)
    np.testing.assert_allclose(session(one), run_reference(graph, {"x": one})[0], rtol=1e-5, atol=1e-6)
    with pytest.raises(UnsupportedModelError, match="2 images in one call"):
        session(weights(2, 2, 6))


def test_images_may_leave_the_first_axis_and_come_back() -> None:
    """Self-attention as it is usually written: queries, keys and values by one layer, taken apart along axis 0."""
    b = GraphBuilder("attention")
    x = b.add("linear", [b.input("x", ("n", 5, 8)), b.constant("w", weights(24, 8))])
    x = b.add("transpose", [b.add("reshape", [x], shape=(-1, 5, 3, 2, 4))], perm=(2, 0, 3, 1, 4))
    parts = b.add_multi("split", [x], 3, axis=0, sizes=(1, 1, 1))
    q, k, v = (b.add("squeeze", [part], axes=(0,)) for part in parts)
    scores = b.add("softmax", [b.add("matmul", [q, b.add("transpose", [k], perm=(0, 1, 3, 2))])], axis=-1)
    y = b.add("transpose", [b.add("matmul", [scores, v])], perm=(0, 2, 1, 3))
    graph = run_passes(b.build([b.add("reshape", [y], shape=(-1, 5, 8))]), verify=True)
    x = weights(3, 5, 8)
    np.testing.assert_allclose(Session(graph)(x), run_reference(graph, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_parts_of_images_may_share_the_first_axis() -> None:
    b = GraphBuilder("rows")
    x = b.add("reshape", [b.input("x", ("n", 4, 6))], shape=(-1, 6))
    x = b.add("linear", [x, b.constant("w", weights(5, 6))], activation=("relu",))
    graph = run_passes(b.build([b.add("softmax", [x], axis=1)]), verify=True)
    x = weights(3, 4, 6)
    np.testing.assert_allclose(Session(graph)(x), run_reference(graph, {"x": x})[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(24,), (4, 6), (2, 3, 4), (2, 1, 2, 6), (3, 2, 2, 2), (12, 2), (1, 24)])
def test_views_reshape_as_numpy_does_without_a_copy(shape: tuple[int, ...]) -> None:
    """Against numpy's own strides: where numpy would copy, there is no view."""
    base = np.zeros((4, 6, 5), np.float32)
    for array in (base[:, :, 0].copy(), base[:, :, 0], base[:, ::2, :4][:, :, 0:2], base.transpose(1, 0, 2)[:, :, 0]):
        view = View(Buffer(0, "private", base.nbytes), array.shape, array.strides)
        reshaped = array.view()
        try:
            reshaped.shape = shape
        except AttributeError:
            assert view.reshaped(shape) is None
            continue
        found = view.reshaped(shape)
        assert found is not None and found.shape == shape
        long = [axis for axis, length in enumerate(shape) if length > 1]
        assert [found.strides[a] for a in long] == [reshaped.strides[a] for a in long]


def test_views_say_what_numpy_says() -> None:
    array = np.zeros((4, 6, 5), np.float32)
    view = contiguous(Buffer(0, "private", array.nbytes), array.shape)
    assert view.strides == array.strides
    assert view.permuted((2, 0, 1)).strides == array.transpose(2, 0, 1).strides
    part, wanted = view.part(1, 4, 2, -3), array[:, 4::-3]
    assert (part.shape, part.strides) == (wanted.shape, wanted.strides)
    assert part.offset == wanted.ctypes.data - array.ctypes.data
    assert view.part(2, 0, 1).broadcast((7, 4, 6, 5)).strides == np.broadcast_to(array[:, :, :1], (7, 4, 6, 5)).strides
