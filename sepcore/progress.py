"""A progress bar of one line on a terminal's stderr; draws nothing anywhere else, nor for a moment's work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

DELAY_SECONDS = 0.5
INTERVAL_SECONDS = 0.1
BAR_CELLS = 30


class ProgressBar:
    """How much of a task is done; use as a context manager, which wipes the line at the end.

    Parameters
    ----------
    label : what is being done; control characters in it are not for the caller to pass.
    total : how much there is to do, or None where that is not known.
    show : writes an amount for people.
    wanted : whether to draw at all.
    stream : where to draw; stderr if None. Nothing is drawn unless it is a terminal.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        show: Callable[[int], str] = str,
        wanted: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._label = label
        self._total = total
        self._show = show
        self._stream = sys.stderr if stream is None else stream
        self._visible = wanted and self._stream.isatty()
        self._next_draw = time.monotonic() + DELAY_SECONDS
        self._drawn = False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def update(self, done: int) -> None:
        """Say that ``done`` of the total is done; drawn ten times a second at most, after the first half second."""
        now = time.monotonic()
        if not self._visible or now < self._next_draw:
            return
        self._next_draw = now + INTERVAL_SECONDS
        import shutil

        columns = shutil.get_terminal_size().columns
        self._stream.write("\r\x1b[K" + self._line(done)[: columns - 1])
        self._stream.flush()
        self._drawn = True

    def wipe(self) -> None:
        """Take the line away, so that something else can be written there; the next update draws it again."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False

    def _line(self, done: int) -> str:
        if self._total is None:
            return f"{self._label}  {self._show(done)}"
        share = min(done / self._total, 1.0) if self._total else 1.0
        bar = ("#" * int(share * BAR_CELLS)).ljust(BAR_CELLS, ".")
        return f"{self._label}  [{bar}]  {self._show(done)} of {self._show(self._total)}"


@contextmanager
def counting(label: str, wanted: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A function that takes how much is done, of how much, and draws that; for work that may turn out to be none.

    Parameters
    ----------
    label, wanted : as ``ProgressBar`` takes them.
    """
    bar: ProgressBar | None = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        if bar is None or done == 0:
            bar = ProgressBar(label, total, wanted=wanted)
        bar.update(done)

    try:
        yield show
    finally:
        if bar is not None:
            bar.wipe()
