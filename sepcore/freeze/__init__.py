"""Freezes a network: its programs, weights and machine code in a folder that runs with NumPy alone.

It must not run the network; ``sepcore.runtime.frozen`` is what opens the folder.
"""

from __future__ import annotations

import json
import keyword
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sepcore.compile import Progress, objects_for
from sepcore.compile import link as code_link
from sepcore.compile.levels import LEVELS, at_level
from sepcore.errors import OptionError
from sepcore.freeze import front
from sepcore.freeze.weights import LaidOutWeights, WeightsFile
from sepcore.freeze.wheel import write_wheel
from sepcore.image.preprocess import Preprocess
from sepcore.kernels import registry
from sepcore.kernels.runtime import rows as runtime_rows
from sepcore.labels import check_labels
from sepcore.opening import Network, concrete, opened_network, rewritten
from sepcore.plan import Program, for_one_image, plan_at
from sepcore.plan.pages import SPARE_BYTES
from sepcore.runtime.frozen import FORMAT, MANIFEST, WEIGHTS
from sepcore.runtime.linking import link

DEFAULT_CPUS = ("x86-64-v4", "x86-64-v3")
_COMPRESSION = 9

THREADS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Numbers of threads that a folder has programs for: a call takes the largest that it may use."""


@dataclass(frozen=True)
class FrozenFolder:
    """What was written: the folder, its wheel if one was asked for, and the files' bytes by their names."""

    folder: Path
    wheel: Path | None
    sizes: Mapping[str, int]


def freeze(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    cpus: Sequence[str] = DEFAULT_CPUS,
    wheel: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    arch: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    input_size: int | tuple[int, int] | None = None,
    **overrides: Any,
) -> FrozenFolder:
    """Write a network to a folder that is a Python package and needs NumPy alone.

    The input's height and width are those of ``preprocess`` or ``input_size`` for good; any number of images may come
    in one call, unless the network says how many or mixes them.

    Parameters
    ----------
    out : the folder to write, whose name is the package's. It appears whole or not at all.
    cpus : levels of ``sepcore.compile.levels`` to hold machine code for. The weights lie packed for the best;
        for another they are copied into its layout each time the network is opened.
    wheel : whether to write a wheel beside the folder too.
    overwrite : whether a folder of that name, written by this function, may be replaced.
    progress : told how many kernels are built, of how many, for each level.
    model, arch, cache_dir, labels, preprocess, input_size, overrides : as :func:`sepcore.load` takes them.

    Raises
    ------
    OptionError : ``out`` cannot be such a folder, or an argument has a value that is not allowed.
    UnsupportedModelError, PlanError : the network has parts that cannot be run.
    CompileError : a kernel cannot be compiled.
    OSError : the folder cannot be written.
    Also what :func:`sepcore.load` raises for a file that cannot be read.
    """
    target = Path(os.path.abspath(out))
    _check_target(target, overwrite)
    if sys.platform != "linux":
        raise OptionError(f"freeze: expected to run on Linux, whose kernel objects are ELF, found {sys.platform}")
    for level in cpus:
        at_level(level)
    levels = sorted(set(cpus), key=list(LEVELS).index)
    if not levels:
        raise OptionError(f"cpus: expected at least one of {', '.join(LEVELS)}, found none")
    folder = Path(cache_dir) if cache_dir is not None else None
    network = rewritten(opened_network(model, folder, arch, labels, preprocess, input_size, overrides))
    check_labels(network.labels, network.num_classes)
    contents = _contents(network, levels, folder, progress)
    with _renamed_when_done(target) as temporary:
        for name, content in contents.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    sizes = {name: len(content) for name, content in contents.items()}
    machines = sorted({at_level(level).machine for level in levels})
    written = write_wheel(target.parent, target.name, contents, machines) if wheel else None
    return FrozenFolder(target, written, sizes)


def _check_target(target: Path, overwrite: bool) -> None:
    name = target.name
    if not name.isascii() or not name.isidentifier() or keyword.iskeyword(name):
        raise OptionError(f"{target}: expected the name of a Python package, such as mobilenet_v2, found {name!r}")
    if not target.parent.is_dir():
        raise OptionError(f"{target}: expected a folder {target.parent}, found none")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OptionError(
            f"{target}: expected a name that is free, found one in use; --force (overwrite=True) replaces it"
        )
    if not (target / MANIFEST).is_file():
        raise OptionError(f"{target}: expected a frozen network to replace, found no {MANIFEST} in it")


def _contents(
    network: Network, levels: Sequence[str], cache_dir: Path | None, progress: Progress | None
) -> dict[str, bytes]:
    """The folder's files by name."""
    from sepcore import __version__

    writer = f"sepcore {__version__}"
    graph, size = network.graph, network.preprocess.input_size
    shapes, repeated = for_one_image(graph, {value.name: concrete(value, size) for value in graph.inputs})
    files: dict[str, bytes] = {}
    stores: list[LaidOutWeights] = []
    entries = []
    for level in levels:
        store = LaidOutWeights()
        programs = [
            plan_at(graph, shapes, isa=at_level(level).name, batch=1, threads=threads, weights=store)
            for threads in THREADS
        ]
        entries.append(_level(level, programs, files, cache_dir, progress))
        stores.append(store)
    weights = WeightsFile(stores[0])
    for entry, store in zip(entries[1:], stores[1:]):
        entry["copies"], entry["weight_bytes"] = f"{entry['isa']}.copies", store.bytes
        files[entry["copies"]] = weights.copies(store).tobytes()
    files[WEIGHTS] = weights.content().tobytes() + bytes(SPARE_BYTES)
    program = programs[0]
    manifest = {
        "format": FORMAT,
        "writer": writer,
        "name": network.arch,
        "family": network.family,
        "repeated": repeated,
        "inputs": [[spec.name, _taken(spec.shape, repeated)] for spec in program.inputs],
        "outputs": [[spec.name, _taken(spec.shape, repeated)] for spec in program.outputs],
        "labels": None if network.labels is None else list(network.labels),
        "preprocess": asdict(network.preprocess),
        "levels": entries,
        "scaled": weights.scaled,
        "files": {name: [len(content), zlib.crc32(content)] for name, content in files.items()},
    }
    files[MANIFEST] = json.dumps(manifest, separators=(",", ":"), allow_nan=False).encode("ascii")
    title = f"The network {network.arch}, frozen by {writer}."
    files["__init__.py"] = front.opening(title, zlib.crc32(files[MANIFEST])).encode("utf-8")
    return files | {name: text.encode("utf-8") for name, text in front.running(writer).items()}


def _level(
    level: str,
    programs: Sequence[Program],
    files: dict[str, bytes],
    cache_dir: Path | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """A level's entry in the manifest; its code and programs are added to ``files``."""
    isa = at_level(level)
    kernels = [registry.find(name) for name in dict.fromkeys(name for p in programs for name in p.kernels())]
    native = list(runtime_rows.rows(isa.name))
    objects = objects_for(native, isa.name, cache_dir=cache_dir, progress=progress, registry=runtime_rows.__name__)
    objects |= objects_for(kernels, isa.name, cache_dir=cache_dir, progress=progress)
    code = code_link.link(objects, isa.machine)
    files[f"{isa.name}.code"] = bytes(code.content)
    names = {}
    for program in programs:
        names[program.threads] = f"{isa.name}.{program.threads}.program"
        files[names[program.threads]] = zlib.compress(link(program).to_bytes(), _COMPRESSION)
    return {
        "cpu": level,
        "isa": isa.name,
        "machine": isa.machine,
        "code": f"{isa.name}.code",
        "functions": dict(code.functions),
        "stubs": dict(code.stubs),
        "native": {spec.name.rpartition("__")[0]: spec.name for spec in native},
        "copies": None,
        "weight_bytes": 0,
        "programs": names,
    }


def _taken(shape: Sequence[int], repeated: bool) -> list[int | str]:
    """The shape that the frozen network takes or gives, where one run of its program has ``shape``."""
    return ["n", *shape[1:]] if repeated else list(shape)


@contextmanager
def _renamed_when_done(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its place at the end; after an error nothing of it stays."""
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
    ) as holder:
        new, old = Path(holder, "new"), Path(holder, "old")
        new.mkdir()
        yield new
        if os.path.lexists(target):
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            with suppress(OSError):
                old.rename(target)
            raise


__all__ = ["DEFAULT_CPUS", "THREADS", "FrozenFolder", "freeze"]
