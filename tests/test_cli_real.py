"""``sepcore infer`` on real networks and real pictures, held against PyTorch's own answers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from sepcore.cli import main

EXAMPLES = Path(__file__).parent.parent / "examples"

# A margin, best minus second logit, that rounding could turn.
TINY = 1e-4


def test_the_embedded_network_reads_the_example_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "--model", "digits", "-k", "1", "--results-format", "csv", str(EXAMPLES / "digits")]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["filename"]).stem for row in rows] == [f"digit_{d}" for d in range(10)]
    assert [row["label"] for row in rows] == [str(d) for d in range(10)]


@pytest.mark.data
@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("mobilenet_v2", ["mobilenet_v2.pth"]),
        ("mobilenetv1_x0.25_leaky", ["mobilenetv1_x0.25_leaky.legacy.pth.tar", "--leaky-slope", "0.1"]),
    ],
)
def test_accuracy_and_labels_are_those_of_pytorch(
    network: str, arguments: list[str], data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, *options = arguments
    images = str(data_dir / "images")
    arguments = ["--model", str(data_dir / "weights" / model), *options, "--results-format", "csv", "--topk", "5"]
    assert main(["infer", *arguments, images]) == 0
    found: dict[str, list[int]] = {}
    for row in csv.DictReader(io.StringIO(capsys.readouterr().out)):
        found.setdefault(Path(row["filename"]).name, []).append(int(row["index"]))

    with (data_dir / "images" / "labels.csv").open(newline="") as file:
        truth = {row["file"]: int(row["class_index"]) for row in csv.DictReader(file)}
    assert found.keys() == truth.keys()
    accuracy = [
        100 * np.mean([found[name][0] == index for name, index in truth.items()]),
        100 * np.mean([index in found[name] for name, index in truth.items()]),
    ]
    described = json.loads((data_dir / "reference" / "models.json").read_text())[network]
    assert accuracy == pytest.approx(described["top1_top5_even"])

    with np.load(data_dir / "reference" / f"{network}.npz") as reference:
        expected, margins = reference["top5"], reference["margin"]
    for name, top5, margin in zip(truth, expected, margins):
        assert found[name][0] == top5[0] or margin < TINY, name
        assert set(found[name]) == set(top5.tolist()) or margin < TINY, name
