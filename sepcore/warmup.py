"""Compiles ahead of time what models need, for this CPU or another; it must not run a network."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sepcore.compile import KernelRow, ObjectCache, Progress, keep_objects, open_cache
from sepcore.compile.levels import LEVELS, at_level
from sepcore.errors import OptionError
from sepcore.kernels import registry
from sepcore.kernels.runtime import rows as runtime_rows
from sepcore.opening import Network, concrete, keep_start, opened_network, rewritten
from sepcore.plan import WeightStore, for_one_image, plan_at, tuned_rows
from sepcore.plan.select import NOTHING_TUNED
from sepcore.plan.weights import Place
from sepcore.runtime import startup
from sepcore.runtime.session import chosen_isa
from sepcore.runtime.threads import num_threads

BATCHES = range(1, 65)
"""Images per call that kernels are kept for: the rows of the layers behind the last map are chosen by their number."""
THREADS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Warmed:
    """What was done for a level: how many kernels are kept in ``folder``, and how many of them were compiled now."""

    cpu: str
    folder: Path
    kernels: int
    compiled: int


def warmup(
    models: Sequence[str | os.PathLike[str]],
    *,
    all_kernels: bool = False,
    cpus: Iterable[str] = (),
    output: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[Warmed]:
    """Compile what models need, so that opening and running them compiles nothing.

    That is: at their own input size or ``input_size``, in batches of BATCHES, with any number of threads. What starting
    a `.sep` file takes is kept too, with THREADS threads and as many as a call here may use.

    Parameters
    ----------
    models : model files, or names of models.
    all_kernels : whether to compile every kernel there is, so that any model at any size finds its own.
    cpus : levels of ``sepcore.compile.levels``; this CPU's where none is named.
    output : a folder to fill instead of the cache, to be named by SEPCORE_PREBUILT_CACHE_DIR later.
    cache_dir : the cache; None takes SEPCORE_CACHE_DIR, else the user's cache folder.
    progress : told how many kernels are built, of how many.
    options : ``arch``, ``input_size`` and what else describes a state dict, as :func:`sepcore.load` takes them.

    Raises
    ------
    OptionError : nothing to compile was named, a level is not known, or there is no cache folder.
    CompileError : a kernel cannot be compiled.
    OSError : the folder cannot be written.
    Also what :func:`sepcore.load` raises for a model that cannot be read or run.
    """
    if not models and not all_kernels:
        raise OptionError("models: expected the model to compile for, or --all (all_kernels=True), found none")
    chosen = list(dict.fromkeys(cpus)) or [_own_level()]
    folder = Path(cache_dir) if cache_dir is not None else None
    kept_in = Path(output) if output is not None else folder
    cache = open_cache(kept_in) if output is None else ObjectCache(Path(output) / "kernels")
    if cache.folder is None:
        raise OptionError("cache: expected a folder to keep kernels in, found no home; set SEPCORE_CACHE_DIR")
    os.makedirs(cache.folder, exist_ok=True)  # an error now is better than after minutes of compiling
    arch, input_size = options.pop("arch", None), options.pop("input_size", None)
    files = [startup.identity(m) if os.path.isfile(m) else None for m in models]
    networks = [rewritten(opened_network(m, folder, arch, None, None, input_size, options)) for m in models]
    done = []
    for level in chosen:
        isa = at_level(level)
        if all_kernels:
            rows = list(registry.rows(isa.name))
        else:
            tuned = tuned_rows(isa.name, folder) if isa == chosen_isa() else NOTHING_TUNED
            names = dict.fromkeys(name for network in networks for name in kernels_of(network, isa.name, tuned))
            rows = [registry.find(name) for name in names]
        done.append(_warmed(level, rows, cache, kept_in, progress))
        for model, file, network in zip(models, files, networks):
            if file is not None and isa.machine == platform.machine():
                for count in sorted({*THREADS, num_threads()}):
                    keep_start(model, file, network, isa.name, count, kept_in)
    return done


def _own_level() -> str:
    own = chosen_isa()
    return next(level for level, isa in LEVELS.items() if isa == own)


def _warmed(
    level: str, rows: Sequence[KernelRow], cache: ObjectCache, cache_dir: Path | None, progress: Progress | None
) -> Warmed:
    """Have ``rows`` and the runtime's own functions in ``cache``."""
    isa = at_level(level)
    native = list(runtime_rows.rows(isa.name))
    compiled = 0

    def count(done: int, total: int) -> None:
        nonlocal compiled
        compiled += done > 0
        if progress is not None:
            progress(done, total)

    groups: Mapping[str, Sequence[KernelRow]] = {registry.__name__: rows, runtime_rows.__name__: native}
    for module, group in groups.items():
        keep_objects(group, isa.name, cache, cache_dir=cache_dir, progress=count, registry=module)
    assert cache.folder is not None
    return Warmed(level, Path(cache.folder), len(rows) + len(native), compiled)


def kernels_of(network: Network, isa: str, tuned: Mapping[str, str] = NOTHING_TUNED) -> list[str]:
    """Names of the kernel rows that a network may call on an instruction set: its own input size, any usual batch.

    Parameters
    ----------
    network : after all passes.
    tuned : rows measured for this CPU, as :func:`sepcore.plan.plan` takes them; those chosen without are there too.
    """
    graph = network.graph
    size = network.preprocess.input_size
    shapes, repeated = for_one_image(graph, {value.name: concrete(value, size) for value in graph.inputs})
    batches: Sequence[int] = BATCHES if repeated else (1,)
    threads = sorted({*THREADS, num_threads()})
    found: dict[str, None] = {}
    for rows in (NOTHING_TUNED, tuned) if tuned else (NOTHING_TUNED,):
        for batch, count in (*((batches[0], t) for t in threads), *((b, num_threads()) for b in batches[1:])):
            program = plan_at(graph, shapes, isa=isa, batch=batch, threads=count, weights=_Unmade(), tuned=rows)
            found.update(dict.fromkeys(program.kernels()))
    return list(found)


class _Unmade(WeightStore):
    """Weights for a plan that nothing will run: none are packed."""

    def reserve(self, key: Hashable, make: Callable[..., NDArray[Any]], *arguments: Any) -> Hashable:
        return key

    def place(self, key: Hashable) -> Place:
        return Place(0, 0)

    def size(self, key: Hashable) -> int:
        return 0
