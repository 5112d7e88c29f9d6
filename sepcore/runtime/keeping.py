"""Plans what a packed model file starts with and keeps it for later processes; it must not run it."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from sepcore.compile import objects_for
from sepcore.compile.link import link as link_code
from sepcore.formats.sep_manifest import PackedWeights
from sepcore.ir.graph import Graph
from sepcore.ir.ops import custom
from sepcore.kernels import registry
from sepcore.kernels.runtime import rows as native_rows
from sepcore.progress import counting
from sepcore.runtime import startup
from sepcore.runtime.linking import link
from sepcore.runtime.planning import Planner

_MAX_REGION_BYTES = 1 << 20
"""Of tables and zeros that an entry has beside the weights in the model's file."""


def keep(
    path: str | os.PathLike[str],
    graph: Graph,
    packed: PackedWeights,
    isa: str,
    threads: int,
    cache_dir: Path | None = None,
) -> None:
    """Have :func:`sepcore.runtime.startup.find` find the program for the input shapes that ``packed`` was made for.

    Nothing is kept of graphs with operators of the user's, whose sources no key covers, of packed weights that are not
    what would be packed now, or on systems other than Linux, whose machine code is not ours to place.

    Raises
    ------
    UnsupportedModelError, PlanError : the graph cannot be run.
    CompileError : a kernel cannot be compiled.
    """
    if sys.platform != "linux" or _is_users(graph):
        return
    planner = Planner(graph, isa, threads, cache_dir, packed)
    program = planner.program(packed.shapes)
    regions = tuple(region.content.tobytes() for region in planner.weights.regions[1:])
    if planner.weights.repacked or sum(map(len, regions)) > _MAX_REGION_BYTES:
        return
    kernels = [registry.find(name) for name in program.kernels()]
    native = list(native_rows.rows(isa))
    with counting("compiling kernels") as progress:
        objects = {
            **objects_for(kernels, isa, cache_dir=cache_dir, progress=progress),
            **objects_for(native, isa, cache_dir=cache_dir, registry=native_rows.__name__, progress=progress),
        }
    startup.keep(
        path,
        link(program),
        link_code(objects, platform.machine()),
        {row.name.rpartition("__")[0]: row.name for row in native},
        (packed.start, packed.start + packed.content.size),
        regions,
        isa,
        threads,
        cache_dir,
    )


def _is_users(graph: Graph) -> bool:
    """Whether a graph has operators that users registered."""
    activations = {node.attrs["activation"][0] for node in graph.nodes if node.attrs.get("activation")}
    own = activations.intersection(custom.activations())
    return bool(own) or any(node.op.startswith(custom.PREFIX) for node in graph.nodes)
