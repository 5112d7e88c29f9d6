"""Sessions: right results, the same bits however they are asked for, and plain errors."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import golden_graph, small_graph

from sepcore.errors import InputError, OptionError, UnsupportedModelError
from sepcore.ir.graph import GraphBuilder
from sepcore.ir.reference import run_reference
from sepcore.kernels import isa as isas
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.runtime.session import Session

GOLDEN = (
    "tv__mobilenet_v2", "tv__mobilenet_v3_small", "tv__mobilenet_v3_large", "timm__mobilenetv1_100",
    "timm__mobilenetv2_050", "timm__mobilenetv3_small_100",
)  # fmt: skip


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(small_graph(), SessionOptions(num_threads=1))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (9, 8), (5, 64), (1, 1), (2, 3)])
def test_matches_the_reference_at_any_size(session: Session, size: tuple[int, int]) -> None:
    x = random(2, 3, *size)
    (expected,) = run_reference(small_graph(), {"input": x})
    np.testing.assert_allclose(session(x), expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize("isa", [i.name for i in isas.available()])
def test_every_instruction_set(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPCORE_CPU_ISA", isa)
    session = Session(small_graph(), SessionOptions(num_threads=2))
    assert session.isa == isa
    x = random(3, 3, 30, 26)
    (expected,) = run_reference(small_graph(), {"input": x})
    np.testing.assert_allclose(session(x), expected, atol=1e-4 * expected.std())


@pytest.mark.data
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_networks(data_dir: Path, name: str) -> None:
    graph, inputs, logits = golden_graph(data_dir, name)
    session = Session(graph, SessionOptions(num_threads=2))
    alone = Session(graph, SessionOptions(num_threads=1))
    for x, expected in zip(inputs, logits):
        y = session(x)
        assert np.abs(y - expected).max() <= 1e-4 * expected.std()
        np.testing.assert_array_equal(y, alone(x))
        np.testing.assert_array_equal(y, np.concatenate([alone(image[None]) for image in x]))


def test_same_bits_for_any_batch_and_threads() -> None:
    x = random(5, 3, 40, 36)
    sessions = [Session(small_graph(), SessionOptions(num_threads=t)) for t in (1, 2, 3)]
    expected = sessions[0](x)
    for session in sessions:
        for _ in range(20):
            np.testing.assert_array_equal(session(x), expected)
        np.testing.assert_array_equal(np.concatenate([session(x[i : i + 1]) for i in range(5)]), expected)
        np.testing.assert_array_equal(session(x[1:4]), expected[1:4])


def test_many_threads_on_one_session() -> None:
    session = Session(small_graph(), SessionOptions(num_threads=2))
    images = [random(1, 3, 24, 24, seed=i) for i in range(8)]
    expected = [session(x) for x in images]
    failures: list[int] = []

    def work(i: int) -> None:
        for _ in range(100):
            if not np.array_equal(session(images[i]), expected[i]):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def _in_child(session: Session, x: Any, expected: Any, queue: Any) -> None:
    queue.put(bool(np.array_equal(session(x), expected)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_children_run_on() -> None:
    session = Session(small_graph(), SessionOptions(num_threads=2))
    x = random(1, 3, 24, 24)
    expected = session(x)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_in_child, args=(session, x, expected, queue)) for _ in range(4)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [True] * 4
    for child in children:
        child.join(60)
    np.testing.assert_array_equal(session(x), expected)


def _run_often(session: Session, x: Any, expected: Any, ready: Any) -> None:
    ready.wait(60)
    for _ in range(200):
        np.testing.assert_array_equal(session(x), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_children_and_their_parent_run_at_once() -> None:
    """A child inherits the memory that its parent's calls use: neither may see what the other writes there."""
    session = Session(small_graph(), SessionOptions(num_threads=1))
    images = [random(1, 3, 48, 48, seed=i) for i in range(4)]
    expected = [session(x) for x in images]
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(len(images))
    children = [
        context.Process(target=_run_often, args=(session, x, y, ready)) for x, y in zip(images[1:], expected[1:])
    ]
    for child in children:
        child.start()
    _run_often(session, images[0], expected[0], ready)
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * len(children)


def test_input_is_untouched_and_output_is_the_callers(session: Session) -> None:
    x = random(1, 3, 32, 32)
    x.flags.writeable = False
    before = x.copy()
    first = session(x)
    kept = first.copy()
    session(-x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(first, kept)
    assert first.flags.owndata and first.flags.writeable


def test_any_memory_layout(session: Session) -> None:
    x = random(2, 3, 32, 32)
    expected = session(x)
    np.testing.assert_array_equal(session(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(session(np.repeat(x, 2, axis=3)[..., ::2]), expected)


def test_nan_stays_in_its_image(session: Session) -> None:
    x = random(2, 3, 32, 32)
    expected = session(x)
    x[0, 1, 5, 5] = np.nan
    y = session(x)
    assert np.isnan(y[0]).all()
    np.testing.assert_array_equal(y[1], expected[1])
    np.testing.assert_array_equal(session(random(2, 3, 32, 32)), expected)


def test_empty_batch(session: Session) -> None:
    assert session(np.empty((0, 3, 32, 32), np.float32)).shape == (0, 7)


def test_programs_are_bounded(session: Session) -> None:
    own = Session(small_graph(), SessionOptions(num_threads=1))
    for side in range(8, 48):
        own(random(1, 3, side, side))
    assert len(own._prepared) <= 16


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((1, 3, 32, 32)), ("float32", "float64")),
        (np.zeros((3, 32, 32), np.float32), ("4 axes", "(3, 32, 32)")),
        (np.zeros((1, 4, 32, 32), np.float32), ("(n, 3, h, w)", "(1, 4, 32, 32)")),
        (np.zeros((1, 3, 0, 32), np.float32), ("(n, 3, h, w)", "(1, 3, 0, 32)")),
        ([[1.0]], ("numpy array", "list")),
    ],
)
def test_wrong_inputs(session: Session, x: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        session(x)
    for word in ("input", *words):
        assert word in str(caught.value)


def test_wrong_count(session: Session) -> None:
    with pytest.raises(InputError, match="expected 1, found 2"):
        session(random(1, 3, 8, 8), random(1, 3, 8, 8))


def test_onnxruntime_spelling(session: Session) -> None:
    x = random(1, 3, 32, 32)
    (name,) = [v.name for v in session.get_outputs()]
    np.testing.assert_array_equal(session.run(None, {"input": x})[0], session(x))
    np.testing.assert_array_equal(session.run([name], {"input": x})[0], session(x))
    with pytest.raises(InputError, match="found 'nothing'"):
        session.run(["nothing"], {"input": x})
    with pytest.raises(InputError, match="expected input"):
        session.run(None, {"image": x})


def test_inputs_and_outputs_are_described(session: Session) -> None:
    assert [v.shape for v in session.inputs] == [("n", 3, "h", "w")]
    assert [v.shape for v in session.outputs] == [("n", 7)]


@pytest.mark.parametrize("name", ["sse9", "neon"])
def test_wrong_instruction_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPCORE_CPU_ISA", name)
    with pytest.raises(OptionError, match=f"SEPCORE_CPU_ISA.*{name}|instruction set.*{name}"):
        Session(small_graph())


def test_inputs_of_fixed_length_are_computed_as_a_whole() -> None:
    b = GraphBuilder("whole")
    x, scale, one = b.input("x", (3, 4, 5)), b.input("scale", (5,)), b.input("one", ())
    y = b.add("add", [b.add("mul", [b.add("transpose", [x], perm=(1, 0, 2)), scale]), one])
    graph = b.build([y, b.add("reduce_mean", [x], axes=(0,), keepdims=False)])
    session = Session(run_passes(graph, verify=True), SessionOptions(num_threads=1))
    arrays = [random(3, 4, 5), random(5), np.asarray(random(1)[0])]
    for found, expected in zip(session(*arrays), run_reference(graph, dict(zip(("x", "scale", "one"), arrays)))):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match="expected a batch of 3, found 2"):
        session(arrays[0][:2], *arrays[1:])


def test_what_counts_images_is_for_one_at_a_time() -> None:
    b = GraphBuilder("counting")
    x = b.input("x", ("n", 4))
    count = b.add("slice", [b.add("shape", [x])], axes=(0,), starts=(0,), ends=(1,))
    graph = b.build([b.add("mul", [x, b.add("cast", [count], dtype="float32")])])
    session = Session(graph, SessionOptions(num_threads=1))
    np.testing.assert_array_equal(session(random(1, 4)), random(1, 4))
    with pytest.raises(UnsupportedModelError, match=r"mul 'mul': it counts the images of a batch"):
        session(random(2, 4))


def strided(step: int) -> Session:
    """Numbers of each image by indices into all of them in one row, which go on by ``step`` from image to image."""
    b = GraphBuilder("strided")
    x = b.input("x", ("n", 8, "h", "w"))
    mean = b.add("reduce_mean", [x], axes=(2, 3), keepdims=False)
    row = b.add("reshape", [mean], shape=(-1,))
    count = b.add("gather", [b.add("shape", [x]), b.constant("axis", np.int64(0))], axis=0)
    images = b.add("range", [b.constant("first", np.int64(0)), count, b.constant("one", np.int64(1))])
    firsts = b.add("unsqueeze", [b.add("mul", [images, b.constant("step", np.int64(step))])], axes=(1,))
    indices = b.add("add", [firsts, b.constant("taken", np.array([[5, 2, 1, 3, 3, 7]]))])
    return Session(run_passes(b.build([b.add("gather", [row, indices], axis=0)])), SessionOptions(1))


@pytest.mark.parametrize("images", [1, 2, 3, 3000])
def test_indices_that_go_on_from_image_to_image_mix_none(images: int) -> None:
    x = random(images, 8, 2, 3)
    found = strided(8)(x)
    np.testing.assert_allclose(found, x.mean((2, 3))[:, [5, 2, 1, 3, 3, 7]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [0, 4, 7])
def test_indices_into_other_images_are_refused(step: int) -> None:
    session = strided(step)
    assert session(random(1, 8, 2, 3)).shape == (1, 6)
    with pytest.raises(UnsupportedModelError, match="it mixes the images of a batch"):
        session(random(2, 8, 2, 3))
