"""Predictions as text: a table, CSV, JSON or JSON lines; writes each picture at once and computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from sepcore.cli import printable

if TYPE_CHECKING:
    from sepcore.labels import Prediction

COLUMNS = ("filename", "index", "label", "prob")


class Writer(Protocol):
    """Writes the predictions of one picture, best first."""

    def __call__(self, filename: str, predictions: Sequence[Prediction], /) -> None: ...


@contextmanager
def results_writer(results_format: str, stream: TextIO) -> Iterator[Writer]:
    """A writer for one of FORMATS; what a format needs before and after the results is written on entry and exit."""
    with FORMATS[results_format](stream) as write:
        yield write


@contextmanager
def _table(stream: TextIO) -> Iterator[Writer]:
    def write(filename: str, predictions: Sequence[Prediction]) -> None:
        lines = [printable(filename)]
        width = max((len(str(p.index)) for p in predictions), default=0)
        lines += [f"  {p.prob:8.2%}  {p.index:{width}d}  {printable(p.label or '')}".rstrip() for p in predictions]
        stream.write("\n".join(lines) + "\n")

    yield write


@contextmanager
def _csv(stream: TextIO) -> Iterator[Writer]:
    import csv

    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(COLUMNS)

    def write(filename: str, predictions: Sequence[Prediction]) -> None:
        rows.writerows((filename, p.index, p.label or "", _rounded(p.prob)) for p in predictions)

    yield write


@contextmanager
def _jsonl(stream: TextIO) -> Iterator[Writer]:
    def write(filename: str, predictions: Sequence[Prediction]) -> None:
        stream.write(_json_object(filename, predictions) + "\n")

    yield write


@contextmanager
def _json(stream: TextIO) -> Iterator[Writer]:
    separator = "\n"
    stream.write("[")

    def write(filename: str, predictions: Sequence[Prediction]) -> None:
        nonlocal separator
        stream.write(separator + _json_object(filename, predictions))
        separator = ",\n"

    try:
        yield write
    finally:
        # Also after an interruption: what is there stays valid JSON.
        stream.write("\n]\n")


def _json_object(filename: str, predictions: Sequence[Prediction]) -> str:
    import json

    rows = [{"index": p.index, "label": p.label, "prob": _rounded(p.prob)} for p in predictions]
    return json.dumps({"filename": filename, "predictions": rows})


def _rounded(prob: float) -> float:
    return float(f"{prob:.6g}")


FORMATS = {"table": _table, "json": _json, "jsonl": _jsonl, "csv": _csv}
