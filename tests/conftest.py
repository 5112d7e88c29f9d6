"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sepcore.plan import select

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real weights, images and references; its tests are skipped where none is named."""
    name = os.environ.get("SEPCORE_TEST_DATA")
    if not name:
        pytest.skip("SEPCORE_TEST_DATA is not set: no real weights and images to test with")
    path = Path(name).resolve()
    if not (path / "reference" / "models.json").is_file():
        pytest.fail(f"SEPCORE_TEST_DATA={name}: expected reference/models.json in it, found none")
    return path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def open_package() -> Iterator[Path]:
    """A folder with the package that every user may read, wherever the checkout is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        shutil.copytree(ROOT / "sepcore", Path(name) / "sepcore", ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(name)


@pytest.fixture
def plain_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No layer is planned by crossed products."""
    monkeypatch.setattr(select, "_WORTH_CROSSING", 0.0)
    select.crossed_tiles.cache_clear()
    yield
    select.crossed_tiles.cache_clear()
