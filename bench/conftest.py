"""What the suites share; run them with ``pytest bench --benchmark-enable``, for testpaths leaves them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real weights; suites that need it are skipped where none is named."""
    name = os.environ.get("SEPCORE_TEST_DATA")
    if not name:
        pytest.skip("SEPCORE_TEST_DATA is not set: no real weights to measure with")
    return Path(name)
