"""Opening models and classifying pictures, as users do."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import DIGITS
from PIL import Image

import sepcore
from sepcore.errors import ImageError, InputError, OptionError, UnsupportedModelError

ROOT = Path(__file__).parents[1]
HELD_OUT = Path(__file__).parent / "data" / "digits_held_out.npz"


def test_digits_as_accurate_as_its_script_says() -> None:
    """examples/train_digits.py measured 354 of 360 with PyTorch; the logits are PyTorch's."""
    net = sepcore.load("digits")
    with np.load(HELD_OUT) as held_out:
        pictures = [Image.fromarray(image) for image in held_out["images"]]
        found = net.classify(pictures, k=1, batch_size=60)
        right = sum(top.label == str(label) for (top,), label in zip(found, held_out["labels"]))
        from sepcore.image.normalize import prepare

        logits = net(prepare(pictures, net.preprocess))
        np.testing.assert_allclose(logits, held_out["logits"], atol=1e-4 * held_out["logits"].std())
    assert right == 354


def test_examples_are_what_their_names_say() -> None:
    net = sepcore.load("digits")
    for path in sorted((ROOT / "examples" / "digits").glob("*.png")):
        assert net.classify(path, k=1)[0].label == path.stem[-1]


def test_classify_takes_one_or_many() -> None:
    net = sepcore.load("digits")
    paths = sorted((ROOT / "examples" / "digits").glob("*.png"))
    one = net.classify(str(paths[0]), k=3)
    assert [p.index for p in one] == [p.index for p in net.classify(paths[:2], k=3)[0]]
    assert net.classify(paths[0].read_bytes(), k=3) == one
    with pytest.raises(ImageError):
        net.classify(b"no picture")


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="mobilenet_v2"):
        sepcore.load("mobilenet_v22")
    with pytest.raises(FileNotFoundError, match="missing"):
        sepcore.load(tmp_path / "missing.pth")
    with pytest.raises(OptionError, match="precision"):
        sepcore.load(DIGITS, precision="int4")
    with pytest.raises(OptionError, match="num_threads"):
        sepcore.load(DIGITS, num_threads=0)
    with pytest.raises(OptionError, match="labels"):
        sepcore.load(DIGITS, labels=["only one"])


def test_input_size_scales_the_resize() -> None:
    net = sepcore.load("digits", input_size=64)
    assert net.preprocess.input_size == (64, 64)
    assert net.preprocess.resize == 64


def test_no_numba_on_a_warm_cache(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, sepcore\n"
        f"net = sepcore.load({str(DIGITS)!r}, cache_dir={str(tmp_path)!r}, num_threads=2)\n"
        "net(np.zeros((1, 3, 32, 32), np.float32))\n"
        "print([m for m in ('numba', 'llvmlite') if m in sys.modules])"
    )
    for _ in range(2):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.strip() == "[]"


REAL = [
    ("mobilenet_v2.pth", "mobilenet_v2", {}),
    ("mobilenetv1_x0.25_leaky.legacy.pth.tar", "mobilenetv1_x0.25_leaky", {"leaky_slope": 0.1}),
]


@pytest.mark.data
@pytest.mark.parametrize(("file", "reference", "overrides"), REAL, ids=[r[1] for r in REAL])
def test_real_weights_give_pytorchs_logits(
    data_dir: Path, file: str, reference: str, overrides: dict[str, float]
) -> None:
    net = sepcore.load(data_dir / "weights" / file, **overrides)
    stored = np.load(data_dir / "reference" / f"{reference}.npz")
    crops = np.load(data_dir / "reference" / f"crops{net.preprocess.input_size[0]}.npy")
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (net.preprocess.mean, net.preprocess.std))
    x = (crops.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) - mean) / std
    assert np.abs(net(x) - stored["logits"]).max() <= 1e-4 * stored["logits"].std()


@pytest.mark.data
@pytest.mark.parametrize(("file", "reference", "overrides"), REAL, ids=[r[1] for r in REAL])
def test_real_pictures_are_labelled_as_pytorch_labels_them(
    data_dir: Path, file: str, reference: str, overrides: dict[str, float], tmp_path: Path
) -> None:
    """`sepcore infer` over all pictures: reference/models.json's accuracy, and the same five labels."""
    results = tmp_path / "results.csv"
    command = [sys.executable, "-m", "sepcore.cli", "infer", "--model", str(data_dir / "weights" / file)]
    command += ["--results-format", "csv", "--topk", "5", "--results-file", str(results), str(data_dir / "images")]
    command += [word for key, value in overrides.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    subprocess.run(command, check=True, cwd=ROOT)
    found: dict[str, list[int]] = {}
    with results.open() as stream:
        for row in csv.DictReader(stream):
            found.setdefault(Path(row["filename"]).name, []).append(int(row["index"]))
    with (data_dir / "images" / "labels.csv").open() as stream:
        labels = [(row["file"], int(row["class_index"])) for row in csv.DictReader(stream)]
    top1 = 100 * np.mean([found[name][0] == index for name, index in labels])
    top5 = 100 * np.mean([index in found[name] for name, index in labels])
    expected = json.loads((data_dir / "reference" / "models.json").read_text())[reference]["top1_top5_even"]
    assert (top1, top5) == pytest.approx(tuple(expected), abs=0.05)
    stored = np.load(data_dir / "reference" / f"{reference}.npz")
    for (name, _), top, margin in zip(labels, stored["top5"], stored["margin"]):
        if margin > 1e-3:
            assert found[name][0] == top[0], name


def test_input_errors_reach_the_user() -> None:
    with pytest.raises(InputError):
        sepcore.load("digits")(np.zeros((1, 1, 32, 32), np.float32))
