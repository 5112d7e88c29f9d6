"""Every exception sepcore raises on purpose; nothing here knows how an error came about.

A message names the thing (file, tensor, node, option), what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Sequence


class SepcoreError(Exception):
    """Base of every error that sepcore raises on purpose."""


class OptionError(SepcoreError, ValueError):
    """An option, argument or SEPCORE_* variable has a value that is not allowed."""


class InputError(SepcoreError, ValueError):
    """An array given to a session has the wrong dtype, rank, shape or values."""


class ImageError(SepcoreError, ValueError):
    """An image cannot be read; ``name`` is the file (or ``<bytes>``)."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class FormatError(SepcoreError, ValueError):
    """A model file is broken, hostile, or not of the format it claims.

    Parameters
    ----------
    path : file that was read.
    where : offset ("byte 128"), archive entry, key or field the trouble sits at.
    expected, found : what the format asks for and what the file holds.
    """

    def __init__(self, path: str, where: str, expected: str, found: str) -> None:
        super().__init__(f"{path}: {where}: expected {expected}, found {found}")
        self.path = path
        self.where = where
        self.expected = expected
        self.found = found


class UnsupportedModelError(SepcoreError):
    """A model was read, but sepcore cannot run it; ``problems`` lists every reason at once."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        self.name = name
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {p}" for p in self.problems)
        super().__init__(f"{name} cannot be run:\n{lines}")


class GraphError(SepcoreError):
    """A graph breaks the rules of the intermediate representation (names, shapes, dtypes)."""


class PlanError(SepcoreError):
    """No program can be made for a graph and input shape; names the node."""


class ThreadingError(SepcoreError):
    """A call that Numba's threading layer would end the process for; names the layer and what it does not bear."""


class CompileError(SepcoreError):
    """A kernel could not be compiled or a kernel object could not be loaded."""


class CpuError(SepcoreError):
    """A frozen network holds no machine code that this CPU and operating system can run."""


class DownloadError(SepcoreError):
    """Named weights could not be fetched or did not match their published checksum."""
