"""``sepcore inspect``: what it says of a file, held against counts made by hand and by the test's own arithmetic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_state_dicts import MOBILENET_V2, torchvision_mobilenet_v2

from sepcore.cli import main
from sepcore.inspection import separable_blocks
from sepcore.ir.graph import Graph, GraphBuilder


def inspected(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["inspect", *arguments]) == 0
    return capsys.readouterr().out


def inspected_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(inspected(capsys, *arguments, "--format", "json"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_file(torchvision_mobilenet_v2(), path)
    return path


def separable(gate: bool = False, stride: int = 1) -> Graph:
    """A depthwise 5x5 on 6 channels, an activation, perhaps a squeeze-and-excite gate, a pointwise to 10 channels."""
    b = GraphBuilder("block")
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> str:
        return b.constant("w", rng.standard_normal(shape).astype(np.float32))

    x = b.input("x", (1, 6, 8, 8))
    y = b.add("conv2d", [x, weight(6, 1, 5, 5)], "dw", padding=(2, 2, 2, 2), groups=6, strides=(stride, stride))
    y = b.add("relu", [y])
    if gate:
        s = b.add("reduce_mean", [y], axes=(2, 3), keepdims=True)
        s = b.add("sigmoid", [b.add("conv2d", [s, weight(6, 6, 1, 1)], "squeeze")])
        y = b.add("mul", [y, s])
    return b.build([b.add("conv2d", [y, weight(10, 6, 1, 1)], "pw")])


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize(("stride", "pixels"), [(1, 64), (2, 16)])
def test_a_block_is_held_against_the_dense_convolution(gate: bool, stride: int, pixels: int) -> None:
    (block,) = separable_blocks(separable(gate, stride), {})
    assert (block.depthwise, block.pointwise, block.kernel, block.ic, block.oc) == ("dw", "pw", (5, 5), 6, 10)
    assert (block.parameters, block.macs) == (6 * 25 + 6 * 10, (6 * 25 + 6 * 10) * pixels)
    assert (block.dense_parameters, block.dense_macs) == (25 * 6 * 10, 25 * 6 * 10 * pixels)
    assert block.saving == pytest.approx(1500 / 210)


def test_a_dense_convolution_is_no_separable_block() -> None:
    b = GraphBuilder("dense")
    weights = [b.constant("w", np.ones(shape, np.float32)) for shape in ((4, 4, 3, 3), (2, 4, 1, 1))]
    y = b.add("conv2d", [b.input("x", (1, 4, 8, 8)), weights[0]])
    assert separable_blocks(b.build([b.add("conv2d", [y, weights[1]])]), {}) == []


def test_the_file_stage_lists_every_tensor(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torchvision_mobilenet_v2()
    found = inspected_json(capsys, str(weights), "--stage", "file")
    assert found["format"] == "safetensors"
    listed = {e["name"]: (e["dtype"], tuple(e["shape"]), e["bytes"]) for e in found["entries"]}
    assert listed == {name: (str(a.dtype), a.shape, a.nbytes) for name, a in state.items()}
    table = inspected(capsys, str(weights), "--stage", "file")
    assert re.search(r"features\.0\.0\.weight +float32 +\[8, 3, 3, 3\] +864\n", table)


def test_layers_and_blocks_of_a_state_dict(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected_json(capsys, str(weights), "--input-size", "64")
    assert (found["family"], found["arch"]) == ("torchvision MobileNetV2", "mobilenet_v2")
    assert found["inputs"][0]["shape"] == [1, 3, 64, 64]
    assert found["outputs"][0]["shape"] == [1, 5]
    stem = found["graph"]["nodes"][0]
    # Batch normalisation is folded: a weight and a bias remain.
    assert (stem["op"], stem["parameters"], stem["macs"]) == ("conv2d", 8 * 27 + 8, 8 * 27 * 32 * 32)
    blocks = found["separable_blocks"]
    assert len(blocks) == sum(count for _, count, _ in MOBILENET_V2)
    assert (blocks[0]["parameters"], blocks[0]["dense_parameters"]) == (8 * 9 + 8 * 8, 9 * 8 * 8)
    assert blocks[0]["dense_macs"] == 9 * 8 * 8 * 32 * 32


def test_passes_are_seen_between_the_stages(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = inspected_json(capsys, str(weights), "--stage", "graph")
    after = inspected_json(capsys, str(weights), "--stage", "fused")
    ops = [{node["op"] for node in found["graph"]["nodes"]} for found in (before, after)]
    assert "batch_norm" in ops[0] and "batch_norm" not in ops[1]
    assert len(after["graph"]["nodes"]) < len(before["graph"]["nodes"])
    # The same blocks, whatever lies between their convolutions.
    assert before["separable_blocks"] == after["separable_blocks"]
    assert "plan" not in before and "plan" not in after


def test_the_plan_stage_counts_what_the_graph_counts(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fused = inspected_json(capsys, str(weights), "--stage", "fused")
    plan = inspected_json(capsys, str(weights), "--stage", "plan")["plan"]
    steps = plan["image_steps"] + plan["batch_steps"]
    assert sum(step["macs"] for step in steps) == sum(node["macs"] for node in fused["graph"]["nodes"])
    assert {step["kernel"] for step in steps} <= set(plan["kernels"])
    assert plan["weight_bytes"] >= 4 * sum(node["parameters"] for node in fused["graph"]["nodes"])
    assert "depthwise" in inspected(capsys, str(weights), "--stage", "plan")


def test_the_table_has_layers_savings_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    table = inspected(capsys, "digits")
    assert "family:  torchvision MobileNetV2" in table
    assert re.search(r"features\.0\.0 +conv2d +input +\[1, 8, 16, 16\] +224 +55,296 ", table)
    # 8 channels, 3 x 3, 16 x 16 pixels: 9 * 8 + 8 * 8 weights against 9 * 8 * 8.
    assert re.search(r"3x3 +8->8 +136 +34,816 +576 +147,456 +4\.2x\n", table)
    assert re.search(r"weights +[0-9,]+  packed", table)


def test_dot_draws_one_box_per_node(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = inspected_json(capsys, str(weights), "--stage", "fused")["graph"]["nodes"]
    drawing = inspected(capsys, str(weights), "--stage", "fused", "--format", "dot")
    assert drawing.startswith("digraph ") and drawing.rstrip().endswith("}")
    assert len(re.findall(r"^  n\d+ \[label=", drawing, re.MULTILINE)) == len(nodes)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["digits", "--stage", "plan", "--format", "dot"], 2, "dot draws a graph"),
        (["digits", "--stage", "file", "--arch", "mobilenet_v2"], 2, "--arch"),
        (["digits", "--stage", "kernels"], 2, "kernels"),
        (["no-such-file.pth"], 3, "no-such-file.pth"),
        (["digits", "--arch", "resnet50"], 2, "resnet50"),
    ],
)
def test_wrong_usage_and_missing_files(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *arguments]) == code
    captured = capsys.readouterr()
    assert says in captured.err and not captured.out


def test_a_broken_file_is_a_bad_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(b"PK\3\4 and nothing more")
    for stage in ("file", "graph"):
        assert main(["inspect", str(path), "--stage", stage]) == 3
        assert "broken.pth" in capsys.readouterr().err


@pytest.mark.data
def test_every_stage_of_a_graph_file(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(data_dir / "weights" / "mobilenetv1_x0.25_leaky.pt2")
    assert any(e["name"].endswith(".json") for e in inspected_json(capsys, path, "--stage", "file")["entries"])
    found = inspected_json(capsys, path)
    assert found["format"] == "torch-export"
    # MobileNetV1 has thirteen depthwise-separable blocks.
    assert len(found["separable_blocks"]) == 13
    assert found["plan"]["image_steps"]
    # The file fixes its input at 224 x 224.
    assert main(["inspect", path, "--input-size", "100"]) == 2
    assert "224" in capsys.readouterr().err
