"""sepcore.labels: the best classes of logits, and class names from files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sepcore.errors import FormatError, InputError, OptionError
from sepcore.labels import Prediction, check_labels, predictions, read_labels, top_k


def test_probabilities_are_the_softmax() -> None:
    logits = [1.5, -2.0, 0.25, 3.0]
    total = math.fsum(math.exp(v) for v in logits)
    indices, probabilities = top_k(np.array([logits], np.float32), 3)
    assert indices.tolist() == [[3, 0, 2]]
    np.testing.assert_allclose(probabilities, [[math.exp(logits[i]) / total for i in (3, 0, 2)]], rtol=1e-14)


def test_of_equal_logits_the_lower_index_comes_first() -> None:
    logits = np.zeros((2, 40), np.float32)
    logits[1, [7, 30, 31]] = 2.0
    indices, _ = top_k(logits, 5)
    assert indices.tolist() == [[0, 1, 2, 3, 4], [7, 30, 31, 0, 1]]


def test_large_logits_do_not_overflow() -> None:
    indices, probabilities = top_k([3e38, 3e38, -3e38], 3)
    assert indices.tolist() == [0, 1, 2]
    assert probabilities.tolist() == [0.5, 0.5, 0.0]


def test_more_classes_than_there_are_means_all_of_them() -> None:
    indices, probabilities = top_k([[0.0, 1.0]], 5)
    assert indices.tolist() == [[1, 0]]
    assert probabilities.sum() == pytest.approx(1.0)
    assert top_k(np.empty((0, 4), np.float32), 2)[0].shape == (0, 2)


@pytest.mark.parametrize(
    "logits", [[[1.0, float("nan")]], [float("inf"), 0.0], np.zeros((2, 3, 4)), np.zeros((3, 0)), 1.0]
)
def test_logits_that_say_nothing_are_refused(logits: object) -> None:
    with pytest.raises(InputError, match=r"^logits: expected"):
        top_k(logits, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [0, -1, 2.0, True])
def test_k_must_be_a_positive_integer(k: int) -> None:
    with pytest.raises(OptionError, match=r"^k: expected"):
        top_k([1.0, 2.0], k)


def test_predictions_carry_names_where_there_are_any() -> None:
    logits = np.array([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]], np.float32)
    named = predictions(logits, 2, ["ant", "bee", "cat"])
    assert [[p.label for p in row] for row in named] == [["bee", "cat"], ["ant", "bee"]]
    assert [[p.index for p in row] for row in named] == [[1, 2], [0, 1]]
    assert type(named[0][0].index) is int and type(named[0][0].prob) is float
    assert predictions(logits, 1, None)[1] == [Prediction(0, None, named[1][0].prob)]


def test_the_number_of_names_must_fit() -> None:
    with pytest.raises(OptionError, match="expected 3 names, one per class of the model, found 2"):
        predictions(np.zeros((1, 3), np.float32), 1, ["ant", "bee"])
    check_labels(["ant", "bee"], 2)
    check_labels(None, 2)


def test_imagenet_names_stand_in_the_order_of_the_classes(data_dir: Path) -> None:
    labels = read_labels("imagenet1k")
    assert len(labels) == len(set(labels)) == 1000
    with (data_dir / "images" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # The two lists name a few classes by different synonyms; a shift by one would leave almost none in place.
    same = sum(row["name"].replace("_", " ").lower() == labels[int(row["class_index"])].lower() for row in rows)
    assert same > 0.9 * len(rows)


def test_names_in_the_package() -> None:
    labels = read_labels("imagenet1k")
    assert [labels[i] for i in (0, 134, 281, 517, 999)] == ["tench", "crane bird", "tabby", "crane", "toilet tissue"]
    assert read_labels("digits") == [str(d) for d in range(10)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "ant\nbee\ncat\n"),
        ("b.names", "\ufeffant\r\nbee\r\ncat"),
        ("c.json", json.dumps(["ant", "bee", "cat"])),
        ("d.json", json.dumps({"2": "cat", "0": "ant", "1": "bee"})),
        ("e.json", json.dumps({str(i): [f"n{i:08}", n] for i, n in enumerate(("ant", "bee", "cat"))})),
        ("f.csv", "index,name\n0,ant\n2,cat\n1,bee\n"),
        ("g.CSV", '0,ant\n1,"bee"\n\n2,cat\n'),
    ],
)
def test_label_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_labels(tmp_path / name) == ["ant", "bee", "cat"]
    assert read_labels(str(tmp_path / name)) == ["ant", "bee", "cat"]


def test_names_may_hold_commas_quotes_and_other_alphabets(tmp_path: Path) -> None:
    names = ["crane, bird", 'the "big" cat', "Äpfel", "猫"]
    (tmp_path / "a.txt").write_text("\n".join(names), "utf-8")
    assert read_labels(tmp_path / "a.txt") == names


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "at least one class name"),
        ("a.txt", b"ant\n\nbee\n", "line 2: expected a class name"),
        ("a.txt", b"ant\nb\xffe\n", "byte 5: expected UTF-8 text, found 0xff"),
        ("a.json", b"{", "expected JSON"),
        ("a.json", b"[" * 100000, "expected JSON"),
        ("a.json", b"3", "expected a list or an object, found int"),
        ("a.json", b"[]", "at least one class name"),
        ("a.json", b'["ant", 3]', "item 1: expected a name, found int"),
        ("a.json", b'{"0": "ant", "two": "bee"}', "expected a class index, found 'two'"),
        ("a.json", b'{"0": "ant", "2": "bee"}', "indices: expected 0 to 1, found none for 1"),
        ("a.json", b'{"0": "ant", "0": "bee"}', "twice"),
        ("a.json", b'{"0": "ant", "00": "bee"}', "every index once"),
        ("a.csv", b"0,ant\n0,bee\n", "row 2: expected every index once"),
        ("a.csv", b"0,ant\n1,bee,c\n", r"row 2: expected two fields \(index, name\), found 3"),
        ("a.csv", b"index,name\nx,ant\n", "row 2: expected a class index, found 'x'"),
    ],
)
def test_broken_label_files_say_what_is_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        read_labels(tmp_path / name)
    assert caught.value.path == str(tmp_path / name)


def test_missing_label_files_name_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"expected imagenet1k, digits or a readable file, found 'imagenet22k'"):
        read_labels("imagenet22k")
    with pytest.raises(OptionError, match="directory"):
        read_labels(tmp_path)
