"""Hostile and broken .pt2 files: a typed error for each, within a second."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile_pt2
import pytest

from sepcore.errors import SepcoreError
from sepcore.formats.torch_export import read_pt2

Cases = Callable[[], Iterator[tuple[str, bytes]]]


@pytest.mark.parametrize("group", hostile_pt2.REFUSED, ids=lambda group: group.__name__)
def test_refused_within_a_second(group: Cases, tmp_path: Path) -> None:
    path = tmp_path / "hostile.pt2"
    names = []
    for name, content in group():
        path.write_bytes(content)
        start = time.process_time()
        with pytest.raises(SepcoreError):
            read_pt2(path)
        assert time.process_time() - start < 1, name
        names.append(name)
    assert names


def test_little_files_that_ask_for_much_get_little(tmp_path: Path) -> None:
    """Some are sound: those are read, in as little time and memory."""
    path = tmp_path / "exhausting.pt2"
    for name, content in hostile_pt2.exhausting():
        path.write_bytes(content)
        tracemalloc.start()
        start = time.process_time()
        with contextlib.suppress(SepcoreError):
            read_pt2(path)
        spent, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # Tracing takes several times as long as reading.
        assert spent < 5, name
        assert peak < (64 << 20) + 2 * len(content), name


@pytest.mark.parametrize("cases", [hostile_pt2.wrong_values, hostile_pt2.bit_flips], ids=lambda cases: cases.__name__)
def test_changed_values_raise_nothing_else(cases: Callable[[int], Iterator[tuple[str, bytes]]], tmp_path: Path) -> None:
    path = tmp_path / "changed.pt2"
    refused = 0
    for _, content in cases(300):
        path.write_bytes(content)
        try:
            read_pt2(path)
        except SepcoreError:
            refused += 1
    assert refused
