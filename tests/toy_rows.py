"""A kernel registry of quickly compiled rows, for the tests of compiling, keeping and loading.

TOY_BUILD_LOG names a file that gets a line for every function that is made to be compiled.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ToyRow:
    """``kernel(at, tile, thread, image)`` sets the word at ``at`` to ``parameters`` * tile + image."""

    name: str
    parameters: Any
    arity: int = 4

    def build(self) -> Callable[..., Any]:
        from sepcore.kernels.words import store_word

        log = os.environ.get("TOY_BUILD_LOG")
        if log:
            with open(log, "a", encoding="ascii") as file:
                file.write(f"{self.name}\n")
        factor = self.parameters
        if factor == "unbuildable":
            return lambda at, tile, thread, image: "text"
        if factor == "fatal":
            os.kill(os.getpid(), signal.SIGKILL)

        def kernel(at: int, tile: int, thread: int, image: int) -> None:
            store_word(at, factor * tile + image)

        return kernel


ROWS = {f"toy_{i}": ToyRow(f"toy_{i}", i) for i in range(8)}
ROWS |= {f"toy_{kind}": ToyRow(f"toy_{kind}", kind) for kind in ("unbuildable", "fatal")}


def find(name: str) -> ToyRow:
    """The row called ``name``."""
    return ROWS[name]
