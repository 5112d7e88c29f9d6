"""``python -m sepcore.cli``: the same command where no script is installed; adds nothing of its own."""

from __future__ import annotations

import sys

from sepcore.cli import run

if __name__ == "__main__":
    sys.exit(run())
