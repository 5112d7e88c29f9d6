"""``sepcore verify``: planted errors are found in the layer where they are, and sound networks pass."""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import DIGITS
from safetensors.numpy import save_file
from tiny_state_dicts import torchvision_mobilenet_v2

from sepcore import api, opening, verification
from sepcore.cli import main
from sepcore.errors import FormatError, OptionError
from sepcore.formats.checkpoint import read_checkpoint
from sepcore.ir.reference import run_reference
from sepcore.models import recognise
from sepcore.runtime.session import Session
from sepcore.verification import difference, read_arrays, verify_file

SIZE = 32
CHANGED = "features.3.conv.1.0"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_file(torchvision_mobilenet_v2(), path)
    return path


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The same network, with the taps of one depthwise convolution in another order."""
    state = torchvision_mobilenet_v2()
    state[f"{CHANGED}.weight"] = np.ascontiguousarray(state[f"{CHANGED}.weight"][..., ::-1])
    path = tmp_path / "changed.safetensors"
    save_file(state, path)
    return path


def digits_arrays() -> dict[str, Any]:
    """An input and what the network that comes along makes of it, by the interpreter."""
    x = np.random.default_rng(3).standard_normal((2, 3, 32, 32)).astype(np.float32)
    graph = recognise(read_checkpoint(DIGITS)).graph
    return {"input": x, "logits": run_reference(graph, {graph.inputs[0].name: x})[0]}


def test_a_sound_network_passes_its_own_check(weights: Path) -> None:
    verdict = verify_file(weights, input_size=SIZE)
    assert verdict.equal and verdict.first is None and verdict.unmatched == ()
    assert {"features.0.0", CHANGED, "classifier.1"} <= {layer.name for layer in verdict.layers}
    assert max(layer.maximum for layer in verdict.layers) > 0


def test_the_first_layer_that_differs_is_the_one_that_was_changed(weights: Path, changed: Path) -> None:
    verdict = verify_file(weights, changed, input_size=SIZE)
    assert not verdict.equal
    assert verdict.first is not None and verdict.first.name == CHANGED
    names = [layer.name for layer in verdict.layers]
    assert all(layer.relative <= verdict.tolerance for layer in verdict.layers[: names.index(CHANGED)])


def test_another_network_differs_where_it_has_no_counterpart(weights: Path, tmp_path: Path) -> None:
    wider = tmp_path / "wider.safetensors"
    save_file(torchvision_mobilenet_v2(classes=7), wider)
    verdict = verify_file(weights, wider, input_size=SIZE)
    assert not verdict.equal and verdict.outputs[0].maximum == np.inf
    assert verdict.unmatched == ("classifier.1",)


def test_another_format_of_the_same_network_is_equal(weights: Path, tmp_path: Path) -> None:
    packed = tmp_path / "net.sep"
    api.convert(weights, packed)
    assert verify_file(weights, packed, input_size=SIZE).equal
    assert verify_file(packed, weights, input_size=SIZE).equal


def test_a_wrong_result_of_the_kernels_is_found(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Session):
        def _run(self, arrays: Any) -> Any:
            return [array * np.float32(1.001) for array in super()._run(arrays)]

    monkeypatch.setattr(verification, "Session", Wrong)
    verdict = verify_file(weights, input_size=SIZE)
    assert not verdict.equal
    assert verdict.first is not None and verdict.first.name == "features.0.0"


def test_a_wrong_pass_is_found(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs are measured by the graph before the passes, so a pass that breaks both sides alike shows."""

    def without_first_bias(graph: Any) -> Any:
        from sepcore.passes import run_passes

        done = run_passes(graph)
        stem = done.nodes[0]
        zeros = np.zeros_like(done.constants[stem.inputs[2]])
        return done.with_(constants={**done.constants, stem.inputs[2]: zeros})

    monkeypatch.setattr(opening, "run_passes", without_first_bias)
    verdict = verify_file(weights, input_size=SIZE)
    assert not verdict.equal and verdict.first is None


@pytest.mark.parametrize("keys", [("input", "logits"), ("x", "output")])
def test_arrays_of_a_file(keys: tuple[str, str], tmp_path: Path) -> None:
    arrays = dict(zip(keys, digits_arrays().values()))
    path = tmp_path / "logits.npz"
    np.savez(path, **arrays)
    assert verify_file("digits", path).equal
    arrays[keys[1]][1, 3] += 0.01 * arrays[keys[1]].std()
    np.savez(path, **arrays)
    (output,) = verify_file("digits", path).outputs
    assert output.relative == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(
    ("found", "expected", "op", "maximum", "relative"),
    [
        ([1.0, 3.0], [1.0, 3.0], "", 0.0, 0.0),
        ([1.0, 3.5], [1.0, 3.0], "", 0.5, 0.5),
        ([1.0, 3.5], [1.0, 4.0], "relu", 0.5, 0.125),
        ([2.5], [2.0], "", 0.5, 0.25),
        ([0.0], [0.0], "", 0.0, 0.0),
        ([0.1], [0.0], "", 0.1, np.inf),
        ([np.nan, np.inf], [np.nan, np.inf], "", 0.0, 0.0),
        ([np.nan, 1.0], [0.0, 1.0], "", np.inf, np.inf),
        ([1.0], [1.0, 2.0], "", np.inf, np.inf),
    ],
)
def test_differences(found: list[float], expected: list[float], op: str, maximum: float, relative: float) -> None:
    result = difference("a", "b", op, np.array(found), np.array(expected))
    assert (result.maximum, result.relative) == pytest.approx((maximum, relative))


@pytest.mark.data
def test_different_inputs_cannot_be_compared(data_dir: Path) -> None:
    fixed = data_dir / "weights" / "mobilenetv1_x0.25_leaky.pt2"
    with pytest.raises(OptionError, match=r"inputs: expected .*32"):
        verify_file("digits", fixed)


@pytest.mark.parametrize("missing", ["input", "logits"])
def test_an_array_that_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    arrays = digits_arrays()
    del arrays[missing]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(FormatError, match=missing):
        read_arrays(tmp_path / "a.npz")


def npy(shape: str) -> bytes:
    """An array's header that promises ``shape``, and 64 bytes of content."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(64)


@pytest.mark.parametrize("member", [b"no array", npy("(4000000000000,)"), npy("(17,)"), npy("(-1,)"), npy("((")])
def test_broken_arrays_are_refused(member: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input.npy", member)
        archive.writestr("logits.npy", npy("(16,)"))
    with pytest.raises(FormatError, match=re.escape(str(path))):
        read_arrays(path)


def test_a_truncated_or_flipped_file_is_refused_or_read_the_same(tmp_path: Path) -> None:
    path, broken = tmp_path / "a.npz", tmp_path / "broken.npz"
    np.savez_compressed(path, input=np.ones((2, 3), np.float32), logits=np.arange(4.0))
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        broken.write_bytes(content[:end])
        with pytest.raises(FormatError):
            read_arrays(broken)
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 0x55
        broken.write_bytes(flipped)
        with contextlib.suppress(FormatError):
            given, expected = read_arrays(broken)
            assert given.tolist() == [[1.0] * 3] * 2 and expected.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**digits_arrays(), "logits": np.array([{}], object)})
    with pytest.raises(FormatError, match="pickle"):
        read_arrays(tmp_path / "a.npz")


def test_the_verdict_is_the_exit_code(weights: Path, changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--input-size", str(SIZE)]
    assert main(["verify", str(weights), *size]) == 0
    assert re.search(r"^equal: outputs differ by \d\.\d\de-\d\d", capsys.readouterr().out, re.MULTILINE)
    assert main(["verify", str(weights), "--against", str(changed), *size]) == 1
    out = capsys.readouterr().out
    assert f"DIFFERENT: first layer that differs: {CHANGED}; " in out
    assert re.search(rf"^{re.escape(CHANGED)} .* conv2d .* differs$", out, re.MULTILINE)
    assert main(["verify", str(weights), "--against", str(changed), *size, "--tolerance", "1e9"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["digits", "--tolerance", "-1"], 2),
        (["digits", "--arch", "resnet50"], 2),
        (["no-such-file.onnx"], 3),
        (["digits", "--against", "no-such-file.onnx"], 3),
        (["digits", "--against", __file__], 3),
    ],
)
def test_wrong_usage_and_bad_models(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err and not captured.out


@pytest.mark.data
def test_the_routes_of_one_network_are_equal(data_dir: Path) -> None:
    stem = data_dir / "weights" / "mobilenetv1_x0.25_leaky"
    exported = verify_file(f"{stem}.pt2", f"{stem}.onnx")
    assert exported.equal and exported.first is None and len(exported.layers) > 27
    assert not verify_file(f"{stem}.legacy.pth.tar", f"{stem}.onnx", leaky_slope=0.2).equal


@pytest.mark.data
def test_pytorchs_logits(data_dir: Path, tmp_path: Path) -> None:
    known = json.loads((data_dir / "reference" / "models.json").read_text())["mobilenet_v2"]
    pixels = np.load(data_dir / "reference" / "crops224.npy")[:2].astype(np.float32) / 255
    x = ((pixels - known["mean"]) / known["std"]).transpose(0, 3, 1, 2).astype(np.float32)
    logits = np.load(data_dir / "reference" / "mobilenet_v2.npz")["logits"][:2]
    np.savez(tmp_path / "logits.npz", x=x, logits=logits)
    assert verify_file(data_dir / "weights" / "mobilenet_v2.pth", tmp_path / "logits.npz").equal
