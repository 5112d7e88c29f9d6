"""The Python of a frozen folder: the files of this package that running needs, copied, and what opens the network.

It must not hold code of its own for running: what a frozen network does is what ``sepcore.runtime.frozen`` does.
"""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

_ROOTS = ("sepcore.runtime.frozen", "sepcore.kernels.crossed.balance")
"""What opens a network, and what that imports only where weights are scaled back."""
PACKAGE = "_sepcore"
_IMPORT = re.compile(r"^(\s*)from sepcore(\.[\w.]+)? import", re.M)

_OPENING = '''"""{title}

``load()`` opens it. Needs Linux and NumPy.
"""

from __future__ import annotations

import os

from .{package} import errors
from .{package}.runtime.frozen import Frozen

__all__ = ["Frozen", "errors", "load"]


def load(*, num_threads: int | None = None) -> Frozen:
    """The network, ready to be called; see ``Frozen``.

    Parameters
    ----------
    num_threads : threads that one call may use; None takes SEPCORE_NUM_THREADS, else the CPUs this process may use.
    """
    return Frozen(os.path.dirname(os.path.abspath(__file__)), {crc32:#010x}, num_threads)
'''

_PART = '"""Part of {writer}, copied as it is but for its imports. Apache License 2.0."""\n'


def opening(title: str, crc32: int) -> str:
    """Source of the module that opens a frozen network, whose manifest has this CRC-32."""
    return _OPENING.format(title=title.replace("\\", "/").replace('"', "'"), package=PACKAGE, crc32=crc32)


def running(writer: str) -> dict[str, str]:
    """The sources that run a frozen network, by their paths in its folder."""
    sources = {}
    for module, path in sorted(_needed().items()):
        parts = module.split(".")[1:]
        for depth in range(len(parts)):
            sources["/".join((PACKAGE, *parts[:depth], "__init__.py"))] = _PART.format(writer=writer)
        sources["/".join((PACKAGE, *parts)) + ".py"] = _with_own_imports(path.read_text(encoding="utf-8"), len(parts))
    return sources


def _with_own_imports(text: str, depth: int) -> str:
    """``text`` with imports from this package as imports from the folder's copy, ``depth`` levels up."""
    return _IMPORT.sub(lambda found: f"{found[1]}from {'.' * depth}{(found[2] or '.')[1:]} import", text)


def _needed() -> dict[str, Path]:
    """The modules that running a frozen network imports, by name: the files they are in."""
    found: dict[str, Path] = {}
    waiting = [*_ROOTS]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found[module] = _file(module)
            waiting += _imports(found[module])
    return found


def _file(module: str) -> Path:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)


def _imports(path: Path) -> list[str]:
    """Modules of this package that a file imports when it is itself imported."""
    modules = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sepcore":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = find_spec(node.module).submodule_search_locations and find_spec(inner)  # type: ignore[union-attr]
                modules.append(inner if is_module else node.module)
    return modules
