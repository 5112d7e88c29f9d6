"""Hostile and broken .pt2 files: little memory, and no error but a typed one."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile_pt2
import pytest

from sepcore.errors import SepcoreError
from sepcore.formats.torch_export import read_pt2


def test_little_files_that_ask_for_much_get_little(tmp_path: Path) -> None:
    """Some are sound: those are read, in as little memory."""
    path = tmp_path / "exhausting.pt2"
    for name, content in hostile_pt2.exhausting():
        path.write_bytes(content)
        tracemalloc.start()
        with contextlib.suppress(SepcoreError):
            read_pt2(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
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
