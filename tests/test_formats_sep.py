"""A .sep file holds a network bit for bit, opens without the passes, and is refused when any bit of it is wrong."""

from __future__ import annotations

import json
import mmap
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hostile_sep
import numpy as np
import pytest
from networks import DIGITS
from quick import within

import sepcore
from sepcore import api, opening
from sepcore.cli import main
from sepcore.errors import FormatError, GraphError, OptionError, SepcoreError
from sepcore.formats.sep import read_sep, write_sep
from sepcore.formats.sep_head import VERSION
from sepcore.formats.sep_manifest import SepNetwork
from sepcore.image.preprocess import Preprocess
from sepcore.ir.graph import GraphBuilder

ROOT = Path(__file__).parents[1]
SECONDS = 1.0


def outcome(path: Path, content: bytes) -> str:
    """Read ``content`` from a file and say "read" or "refused"; any other exception fails the test."""
    path.write_bytes(content)
    try:
        read_sep(path)
    except FormatError as caught:
        error = caught
    else:
        return "read"
    assert error.path == str(path)
    assert error.where and error.expected and error.found
    assert len(str(error)) < 2000
    return "refused"


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    path = tmp_path / "by_hand.sep"
    path.write_bytes(hostile_sep.sound())
    return path


def network(build: Callable[[GraphBuilder, str], str], **changes: Any) -> SepNetwork:
    """A network of one input x and what ``build`` makes of it."""
    graph = GraphBuilder("small")
    x = graph.input("x", ("n", 3, 8, 8))
    found = SepNetwork(graph.build([build(graph, x)]), Preprocess((8, 8)), "tests", "small", 0, None, "tests 1")
    return replace(found, **changes)


def test_a_file_put_together_by_the_description_is_read(by_hand: Path) -> None:
    found = read_sep(by_hand)
    assert (found.family, found.arch, found.num_classes, found.writer) == ("by hand", "three_steps", 2, "a text editor")
    assert found.labels == ["cat", "Käuzchen"]
    assert found.preprocess == Preprocess((8, 6), None, "center", "bicubic", (0.5, 0.25, 0.0), (1.0, 0.5, 2.0))
    graph = found.graph
    assert (graph.name, graph.outputs) == ("by_hand", ("y",))
    assert [(v.name, v.shape, v.dtype) for v in graph.inputs] == [("x", ("n", 3, "h", 6), np.dtype("float32"))]
    assert graph.bounds == {"h": (2, 99)}
    assert [(n.op, n.name, n.inputs, n.outputs, n.source) for n in graph.nodes] == [
        ("conv2d", "conv", ("x", "w", "b"), ("c",), "line of conv"),
        ("pad", "pad", ("c",), ("p",), "line of pad"),
        ("cast", "cast", ("p",), ("d",), "line of cast"),
        ("cast", "back", ("d",), ("y",), "line of back"),
    ]
    assert [dict(n.attrs) for n in graph.nodes] == [
        {"strides": (2, 1), "padding": (1, 1, 1, 1), "groups": 1, "activation": ("clamp", 0.0, float("inf"))},
        {"pads": ((0, 0), (0, 0), (1, 0), (0, 2)), "mode": "constant", "value": float("-inf")},
        {"dtype": np.dtype("float64")},
        {"dtype": np.dtype("float32")},
    ]
    assert list(graph.constants) == list(hostile_sep.ARRAYS)
    for name, array in hostile_sep.ARRAYS.items():
        assert graph.constants[name].dtype == array.dtype
        np.testing.assert_array_equal(graph.constants[name], array, strict=True)


def test_packed_weights_are_read_only_views_of_the_file(by_hand: Path) -> None:
    packed = read_sep(by_hand).packed
    assert list(packed) == ["avx2", "another_cpu"]
    assert packed["avx2"].shapes == ((1, 3, 8, 6),)
    assert list(packed["avx2"].blocks.items()) == [
        (f"{0:032x}", (0, 100)),
        (f"{1:032x}", (128, 64)),
        (f"{2:032x}", (192, 1)),
    ]
    for weights in packed.values():
        assert weights.content.ctypes.data % 4096 == 0 and not weights.content.flags.writeable
        for offset, size in weights.blocks.values():
            assert bytes(weights.content[offset : offset + size]) == bytes(range(1, size + 1))
        assert not weights.content[-4096:].any()


def test_constants_are_aligned_read_only_views_of_one_mapping(by_hand: Path) -> None:
    bases = set()
    for array in read_sep(by_hand).graph.constants.values():
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0
        with pytest.raises(ValueError):
            array.flags.writeable = True
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
        bases.add(id(base.obj if isinstance(base, memoryview) else base))
    assert len(bases) == 1


def test_writing_gives_the_described_bytes(by_hand: Path, tmp_path: Path) -> None:
    """What the writer makes of a network is, byte for byte, the description applied to the manifest in its spelling."""
    again = tmp_path / "again.sep"
    write_sep(again, read_sep(by_hand))
    content = again.read_bytes()
    text = content[hostile_sep.HEAD_BYTES :][: int.from_bytes(content[12:16], "little")]
    assert json.loads(text) == hostile_sep.manifest()
    assert content == hostile_sep.signed(text)


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("clamp", {"lo": -0.0, "hi": float("inf")}),
        ("clamp", {"lo": 5e-324, "hi": 0.1}),
        ("clamp", {"lo": -1, "hi": 1e300}),
        ("leaky_relu", {"slope": np.float64(1 / 3)}),
        ("gelu", {"approximate": "tanh"}),
        ("slice", {"axes": (2,), "starts": (-(1 << 63),), "ends": ((1 << 63) - 1,), "steps": (1,)}),
        ("reduce_mean", {"axes": (), "keepdims": True}),
        ("pad", {"pads": ((0, 0), (0, 0), (1, 2), (3, 4)), "mode": "reflect"}),
        ("cast", {"dtype": np.float32}),
        ("cast", {"dtype": "float32"}),
        ("cast", {"dtype": np.dtype(bool)}),
    ],
)
def test_attributes_come_back_as_they_were(op: str, attrs: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "one.sep"
    write_sep(path, network(lambda graph, x: graph.add(op, [x], **attrs)))
    found = read_sep(path).graph.nodes[0].attrs
    assert {k: np.dtype(v) if k == "dtype" else v for k, v in found.items()} == {
        k: np.dtype(v) if k == "dtype" else v for k, v in attrs.items()
    }
    assert list(found) == list(attrs)
    for name, value in attrs.items():
        if isinstance(value, float):
            assert type(found[name]) is float
            assert found[name].hex() == float(value).hex()


@pytest.mark.parametrize(
    "content",
    [
        network(lambda graph, x: graph.add("clamp", [x], lo=float("nan"))),
        network(lambda graph, x: graph.add("cast", [x], dtype=np.float16)),
        network(lambda graph, x: graph.add("cast", [x], dtype=">f4")),
        network(lambda graph, x: graph.add("slice", [x], axes=(1,), starts=(0,), ends=(1 << 63,))),
        network(lambda graph, x: graph.add("no_operator", [x])),
    ],
    ids=["nan", "half", "big-endian", "too large", "unknown operator"],
)
def test_what_the_format_cannot_hold_is_refused_and_leaves_no_file(content: SepNetwork, tmp_path: Path) -> None:
    with pytest.raises(GraphError):
        write_sep(tmp_path / "never.sep", content)
    assert list(tmp_path.iterdir()) == []


def same_network(source: Path | str, tmp_path: Path, shape: tuple[int, ...], **options: Any) -> None:
    path = tmp_path / "net.sep"
    api.convert(source, path, **options)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    one, two = sepcore.load(source, num_threads=2, **options), sepcore.load(path, num_threads=2)
    assert np.array_equal(one(x).view(np.uint32), two(x).view(np.uint32))
    for name in ("inputs", "outputs", "preprocess", "family", "arch", "num_classes"):
        assert getattr(one, name) == getattr(two, name), name
    assert one.labels is two.labels is None or list(one.labels or ()) == list(two.labels or ())


def test_digits_give_the_same_bits(tmp_path: Path) -> None:
    same_network("digits", tmp_path, (3, 3, 32, 32))
    net = sepcore.load(tmp_path / "net.sep")
    for picture in sorted((ROOT / "examples" / "digits").glob("*.png")):
        (found,) = net.classify(picture, k=1)
        assert found.label == picture.stem[-1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("file", "size"),
    [
        ("mobilenet_v2.pth", 224),
        ("mobilenet_v2.fp16.safetensors", 224),
        ("mobilenet_v3_small_samepad.onnx", 224),
        ("mobilenetv1_0.75_samepad.pt2", 224),
        ("mcunet_320kb.pt2", 176),
    ],
)
def test_real_networks_give_the_same_bits(file: str, size: int, data_dir: Path, tmp_path: Path) -> None:
    same_network(data_dir / "weights" / file, tmp_path, (1, 3, size, size))


def test_what_was_asked_for_at_conversion_is_kept(tmp_path: Path) -> None:
    names = [f"number {i}" for i in range(10)]
    path = tmp_path / "net.sep"
    api.convert(DIGITS, path, labels=names, input_size=64)
    net = sepcore.load(path)
    assert net.labels == names
    assert net.preprocess.input_size == (64, 64)
    with pytest.raises(OptionError, match="arch says what a state dict cannot"):
        sepcore.load(path, arch="mobilenet_v2")
    api.convert(path, path, overwrite=True, labels="digits")
    assert sepcore.load(path).labels == list("0123456789")


def test_the_passes_do_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.sep"
    written = api.convert("digits", path).graph
    monkeypatch.setattr(opening, "run_passes", lambda graph: pytest.fail("the passes ran over a .sep file"))
    found = read_sep(path).graph
    assert (found.nodes, found.inputs, found.outputs) == (written.nodes, written.inputs, written.outputs)
    assert "batch_norm" not in {node.op for node in found.nodes}
    sepcore.load(path)


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    path = tmp_path / "newer.sep"
    path.write_bytes(hostile_sep.signed(b"whatever it will be", version=VERSION + 1))
    with pytest.raises(FormatError, match=f"version {VERSION}, found {VERSION + 1}.*update sepcore"):
        sepcore.load(path)


def test_an_open_network_outlives_the_replacement_of_its_file(by_hand: Path) -> None:
    before = read_sep(by_hand)
    write_sep(by_hand, network(lambda graph, x: graph.add("relu", [x])))
    np.testing.assert_array_equal(before.graph.constants["w"], hostile_sep.ARRAYS["w"])
    assert read_sep(by_hand).graph.name == "small"


def test_a_failed_write_leaves_the_old_file_alone(by_hand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_sep(by_hand, network(lambda graph, x: graph.add("relu", [x])))
    assert by_hand.read_bytes() == hostile_sep.sound()
    assert [path.name for path in by_hand.parent.iterdir()] == [by_hand.name]


@pytest.mark.parametrize("group", hostile_sep.GROUPS, ids=lambda group: group.__name__)
def test_hostile_files_are_refused_within_a_second(
    group: Callable[[], Iterator[tuple[str, bytes]]], tmp_path: Path
) -> None:
    names: list[str] = []
    for name, content in group():
        assert within(SECONDS, partial(outcome, tmp_path / "victim.sep", content), name) == "refused", name
        names.append(name)
    assert len(names) == len(set(names)) > 0


@pytest.mark.parametrize(
    ("group", "name", "reason"),
    [
        (hostile_sep.heads, "manifest of 8388609 bytes", "a manifest of at most"),
        (hostile_sep.heads, "no checksum", "SHA-256"),
        (hostile_sep.texts, "an attribute 5 deep", r"manifest\.graph\.nodes\[0\]\.attrs\.strides\[0\].*arrays nested"),
        (hostile_sep.texts, "an attribute 100000 deep", "values|depth"),
        (hostile_sep.texts, "millions of arrays", "at most .* values"),
        (hostile_sep.texts, "a key twice", "JSON"),
        (hostile_sep.additions, "64 zeros more, announced", "the file's end"),
        (hostile_sep.layouts, "offset 64", "offset 256"),
        (hostile_sep.layouts, "offset -64", "an integer from 0"),
        (hostile_sep.layouts, "shape [1099511627776]", "offset|bytes"),
        (hostile_sep.layouts, "a hollow giant", "elements"),
        (hostile_sep.layouts, "CRC-32 0", "CRC-32"),
        (hostile_sep.layouts, "a name twice", "a name of its own"),
        (hostile_sep.layouts, "a name of an input", "graph that keeps the rules"),
        (hostile_sep.layouts, "something between the tensors", "zeros up to"),
        (hostile_sep.layouts, "something behind the manifest", "zeros up to"),
        (hostile_sep.layouts, "a bool of 2", "0 or 1"),
        (hostile_sep.heads, "version 1", "version 2.*convert the model again"),
        (hostile_sep.packings, "offset 192", "packed weights for avx2.*offset 128"),
        (hostile_sep.packings, "128 bytes", "CRC-32|offset"),
        (hostile_sep.packings, "CRC-32 0", "packed weights for avx2.*CRC-32"),
        (hostile_sep.packings, "a key twice", "a key of its own"),
        (hostile_sep.packings, "an instruction set twice", "one level for each"),
        (hostile_sep.packings, "something at -1", "zeros up to"),
        (hostile_sep.packings, "something at 4095", "zeros up to"),
        (hostile_sep.graphs, "a cycle", "graph that keeps the rules"),
        (hostile_sep.graphs, "the dtype ','", "a word"),
        (hostile_sep.beside_the_graph, "a label too few", "2 names"),
    ],
)
def test_files_are_refused_for_their_own_reason(
    group: Callable[[], Iterator[tuple[str, bytes]]], name: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "victim.sep"
    path.write_bytes(dict(group())[name])
    with pytest.raises(FormatError) as caught:
        read_sep(path)
    assert re.search(reason, str(caught.value))


def test_every_flipped_bit_is_found(by_hand: Path, tmp_path: Path) -> None:
    api.convert("digits", tmp_path / "digits.sep")
    for path in (by_hand, tmp_path / "digits.sep"):
        content = path.read_bytes()
        with open(path, "r+b", buffering=0) as file:
            for byte, bit in hostile_sep.flipped(content, 1000):
                file.seek(byte)
                file.write(bytes([content[byte] ^ bit]))
                with pytest.raises(FormatError):
                    read_sep(path)
                file.seek(byte)
                file.write(content[byte : byte + 1])
        read_sep(path)


def test_a_real_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "digits.sep"
    api.convert("digits", path)
    content = path.read_bytes()
    for length in random.Random(0).sample(range(len(content)), 200):
        assert outcome(path, content[:length]) == "refused", length


def test_sound_checksums_over_anything_raise_no_other_error(tmp_path: Path) -> None:
    """Files whose checksums are right and whose values are shuffled: they are refused, or open as another network."""
    rng = random.Random(0)
    path = tmp_path / "victim.sep"
    ways = [way for way, _ in hostile_sep.places(hostile_sep.manifest())]
    values = [value for _, value in hostile_sep.places(hostile_sep.manifest())] + [0, -1, 2**40, 1e308, "z", [], None]
    opened = 0
    for _ in range(1000):
        path.write_bytes(hostile_sep.signed(hostile_sep.changed(rng.choice(ways), rng.choice(values))))
        try:
            sepcore.load(path)
            opened += 1
        except SepcoreError:
            pass
    assert 0 < opened < 1000


def test_opening_imports_no_reader_of_other_formats(by_hand: Path) -> None:
    code = (
        "import sys; from sepcore.formats.sep import read_sep\n"
        f"read_sep({str(by_hand)!r})\n"
        "print([m for m in ('numba', 'onnx', 'safetensors', 'PIL', 'sepcore.passes') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def test_convert_writes_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.sep"
    assert main(["convert", "digits", str(path), "--labels", "digits"]) == 0
    said = capsys.readouterr().out
    for part in (str(path), "mobilenet_v2", "10 labels", f"{path.stat().st_size / 1e6:.1f} MB"):
        assert part in said
    assert main(["infer", "--model", str(path), str(ROOT / "examples" / "digits" / "digit_3.png")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-1] == "3"


def test_convert_replaces_only_when_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.sep"
    path.write_text("precious")
    assert main(["convert", str(DIGITS), str(path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert main(["convert", str(DIGITS), str(path), "--force"]) == 0
    assert read_sep(path).arch == "mobilenet_v2"


def test_convert_complains(tmp_path: Path, capsys: pytest.CaptureFixture[str], by_hand: Path) -> None:
    path = tmp_path / "net.sep"
    assert main(["convert", str(tmp_path / "missing.pth"), str(path)]) == 3
    assert main(["convert", str(DIGITS), str(tmp_path / "no" / "net.sep")]) == 2
    assert "expected a folder" in capsys.readouterr().err
    assert main(["convert", str(DIGITS), str(path), "--arch", "no_such_net"]) in (2, 3)
    assert "no_such_net" in capsys.readouterr().err
    assert main(["convert", str(by_hand), str(path), "--padding", "same"]) == 2
    assert [found.name for found in tmp_path.iterdir()] == [by_hand.name]
