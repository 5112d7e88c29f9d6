"""Names a kernel object by the hash of everything it is made from; it must not import numba, llvmlite or a kernel."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.machinery import PathFinder
from os.path import dirname, join, relpath
from typing import Any, Protocol

from sepcore.digest import sha256
from sepcore.kernels.isa import Isa

_LAYOUT_VERSION = 1  # of what a key covers
# Files beside the kernels that decide what machine code comes out.
_BUILDING_FILES = ("build.py", "keys.py", "numba_abi.py")


class KernelRow(Protocol):
    """A kernel that can be built: a row of ``sepcore.kernels.registry``.

    Attributes
    ----------
    name : unique in its registry; also the name of the C function.
    parameters : what the function is specialised for; equal parameters have an equal ``repr``.
    arity : number of int64 arguments.
    """

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> Any: ...
    @property
    def arity(self) -> int: ...
    def build(self) -> Any:
        """The Python function to compile."""


def object_key(row: KernelRow, isa: Isa, sources: str, compiler: str) -> str:
    """Hexadecimal name of the object for ``row`` on ``isa``.

    Parameters
    ----------
    sources : ``source_digest`` of the code that makes the function.
    compiler : ``compiler_identity``.
    """
    fields = (
        str(_LAYOUT_VERSION), sources, compiler, sys.platform if sys.platform == "darwin" else "elf",
        row.name, repr(row.parameters), str(row.arity), isa.machine, isa.cpu, isa.features,
    )  # fmt: skip
    return _digest(field.encode() for field in fields)


@cache
def remembered_source_digest(registry: str) -> str:
    """``source_digest`` as it was when this process first asked for it."""
    return source_digest(registry)


def source_digest(registry: str) -> str:
    """Hash of every file that kernels are made from: the kernels' package, what builds them, and ``registry``.

    Parameters
    ----------
    registry : name of the module that lists the rows.
    """
    from importlib.util import find_spec

    files = {name: join(dirname(__file__), name) for name in _BUILDING_FILES}
    spec = find_spec("sepcore.kernels")
    assert spec is not None and spec.origin is not None
    folder = dirname(spec.origin)
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".py"):
                path = join(parent, name)
                files[f"kernels/{relpath(path, folder)}"] = path
    if not registry.startswith("sepcore.kernels."):
        other = find_spec(registry)
        if other is None or other.origin is None:
            raise ModuleNotFoundError(f"kernel registry: expected a module, found none called {registry!r}")
        files["registry"] = other.origin
    return _digest(part for name in sorted(files) for part in (name.encode(), _content(files[name])))


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@cache
def compiler_identity() -> str:
    """The releases of numba and llvmlite that would compile, without importing either."""
    return " ".join(f"{name}={_release(name)}" for name in ("numba", "llvmlite"))


def _release(package: str) -> str:
    spec = PathFinder.find_spec(package)
    if spec is None:
        from importlib.util import find_spec  # asks finders that are not Python's own too, and takes time to import

        spec = find_spec(package)
    if spec is None or spec.origin is None:
        return "absent"
    # Both packages say their release in this file; importlib.metadata takes 25 ms to import.
    path = join(dirname(spec.origin), "_version.py")
    if os.path.isfile(path):
        return _digest([_content(path)])
    from importlib.metadata import version

    return version(package)


def _digest(parts: Any) -> str:
    """SHA-256 of byte strings, each after its length, so that no two lists run into the same bytes."""
    total = sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()
