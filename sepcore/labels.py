"""Logits to predictions, and class names from the package or a file; knows nothing about networks or pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sepcore.errors import FormatError, InputError, OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

BUILT_IN = ("imagenet1k", "digits")


@dataclass(frozen=True)
class Prediction:
    """One class of one picture: its index, its name (None where no names are known) and its probability in 0..1."""

    index: int
    label: str | None
    prob: float


def top_k(logits: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k most probable classes of every row, best first; of equal logits the lower index comes first.

    Parameters
    ----------
    logits : real, (n, classes) or (classes,).
    k : how many; at most the number of classes are returned.

    Returns
    -------
    indices int64 and probabilities float64, each (n, min(k, classes)) or (min(k, classes),). The probabilities are
    the softmax over all classes, computed in float64.

    Raises
    ------
    InputError
        The logits have another rank, no classes, or a value that is not finite.
    OptionError
        ``k`` is less than 1.
    """
    import numpy as np

    if type(k) is not int or k < 1:
        raise OptionError(f"k: expected an integer of at least 1, found {k!r}")
    values = np.asarray(logits, np.float64)
    if values.ndim not in (1, 2) or values.shape[-1] == 0:
        raise InputError(f"logits: expected (n, classes) or (classes,), found {values.shape}")
    if not np.isfinite(values).all():
        raise InputError("logits: expected finite numbers, found NaN or infinity")
    indices = np.argsort(-values, axis=-1, kind="stable")[..., :k].astype(np.int64)
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return indices, np.take_along_axis(probabilities, indices, axis=-1)


def predictions(logits: NDArray[np.floating[Any]], k: int, labels: Sequence[str] | None) -> list[list[Prediction]]:
    """`top_k` of logits (n, classes), with names: for each row its k best classes, best first.

    Raises
    ------
    OptionError
        ``labels`` has another length than the logits have classes.
    """
    check_labels(labels, logits.shape[-1])
    indices, probabilities = top_k(logits, k)
    return [
        [Prediction(i, None if labels is None else labels[i], p) for i, p in zip(row, probs)]
        for row, probs in zip(indices.tolist(), probabilities.tolist())
    ]


def read_labels(source: str | os.PathLike[str]) -> list[str]:
    """Class names, in the order of the network's outputs.

    Parameters
    ----------
    source : one of BUILT_IN ("imagenet1k": the 1000 names as torchvision lists them; "digits": 0 to 9), or a file:
        ``.json`` (a list of names, or an object from index to name or to ``[wnid, name]``), ``.csv`` (rows
        ``index,name``, with or without a header), anything else one name per line, UTF-8.

    Raises
    ------
    OptionError
        No such name or file.
    FormatError
        The file is not what its extension says, or an index is missing, doubled or out of range.
    """
    name = os.fspath(source)
    if name in BUILT_IN:
        return _text(os.path.join(os.path.dirname(__file__), "data", f"{name}.txt")).splitlines()
    try:
        text = _text(name)
    except UnicodeDecodeError as error:
        raise FormatError(name, f"byte {error.start}", "UTF-8 text", f"0x{error.object[error.start]:02x}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            f"labels: expected {', '.join(BUILT_IN)} or a readable file, found {name!r}: {reason}"
        ) from error
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".json":
        labels = _from_json(name, text)
    elif suffix == ".csv":
        labels = _from_csv(name, text)
    else:
        labels = _from_lines(name, text)
    if not labels:
        raise FormatError(name, "file", "at least one class name", "none")
    return labels


def _text(path: str) -> str:
    with open(path, encoding="utf-8-sig") as file:
        return file.read()


def check_labels(labels: Sequence[str] | None, num_classes: int) -> None:
    """Raise OptionError unless there is one name per class, or there are no names at all."""
    if labels is not None and len(labels) != num_classes:
        raise OptionError(f"labels: expected {num_classes} names, one per class of the model, found {len(labels)}")


def _from_lines(path: str, text: str) -> list[str]:
    names = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    for number, name in enumerate(names, 1):
        if not name:
            raise FormatError(path, f"line {number}", "a class name", "an empty line")
    return names


def _from_json(path: str, text: str) -> list[str]:
    import json

    try:
        content = json.loads(text, object_pairs_hook=_with_unique_keys)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, "file", "JSON", str(error)) from error
    if isinstance(content, list):
        return [_json_name(path, f"item {i}", item) for i, item in enumerate(content)]
    if isinstance(content, dict):
        return _in_order(
            path, ((f"key {key!r}", key, _json_name(path, f"key {key!r}", v)) for key, v in content.items())
        )
    raise FormatError(path, "file", "a list or an object", type(content).__name__)


def _with_unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands there twice")
    return content


def _json_name(path: str, where: str, item: object) -> str:
    # Keras' imagenet_class_index.json maps an index to [wnid, name].
    name = item[-1] if isinstance(item, list) and item else item
    if not isinstance(name, str):
        raise FormatError(path, where, "a name", type(name).__name__)
    return name


def _from_csv(path: str, text: str) -> list[str]:
    import csv

    rows = []
    try:
        for number, row in enumerate(csv.reader(text.splitlines()), 1):
            if not row or (number == 1 and not _is_index(row[0])):
                continue
            if len(row) != 2:
                raise FormatError(path, f"row {number}", "two fields (index, name)", str(len(row)))
            rows.append((f"row {number}", row[0], row[1]))
    except csv.Error as error:
        raise FormatError(path, "file", "CSV", str(error)) from error
    return _in_order(path, rows)


def _in_order(path: str, entries: Iterable[tuple[str, str, str]]) -> list[str]:
    """Names sorted by index, from (where it stands, index, name); the indices must be exactly 0 to n - 1."""
    by_index: dict[int, str] = {}
    for where, index, name in entries:
        if not _is_index(index):
            raise FormatError(path, where, "a class index", repr(index))
        if int(index) in by_index:
            raise FormatError(path, where, "every index once", f"{index} again")
        by_index[int(index)] = name
    for expected, found in enumerate(sorted(by_index)):
        if found != expected:
            raise FormatError(path, "indices", f"0 to {len(by_index) - 1}", f"none for {expected}")
    return [by_index[i] for i in range(len(by_index))]


def _is_index(text: str) -> bool:
    # int() refuses text of thousands of digits with another error; no index is that long.
    return text.isascii() and text.isdigit() and len(text) < 10
