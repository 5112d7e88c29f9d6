"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
