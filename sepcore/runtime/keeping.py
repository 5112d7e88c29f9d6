"""Plans what a packed model file starts with and keeps it for later processes; it must not run it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from sepcore.compile import objects_for
from sepcore.compile.cache import MAX_WEIGHT_BYTES
from sepcore.compile.link import link as link_code
from sepcore.errors import SepcoreError
from sepcore.formats.sep_manifest import PackedWeights
from sepcore.ir.graph import Graph
from sepcore.ir.ops import custom
from sepcore.kernels import registry
from sepcore.kernels.runtime import rows as native_rows
from sepcore.plan import tuned_rows
from sepcore.plan.packing import pack
from sepcore.progress import counting
from sepcore.runtime import startup
from sepcore.runtime.linking import link
from sepcore.runtime.planning import Planner
from sepcore.runtime.threads import num_threads

_MAX_REGION_BYTES = 1 << 20
"""Of tables and zeros that an entry has beside the weights in the model's file."""


def keep(
    path: str | os.PathLike[str],
    file: bytes,
    graph: Graph,
    packed: PackedWeights | None,
    shapes: Mapping[str, tuple[int, ...]],
    about: bytes,
    isa: str,
    threads: int,
    cache_dir: Path | None = None,
) -> startup.Started | None:
    """Have :func:`sepcore.runtime.startup.find` find the program for one picture.

    Parameters
    ----------
    file : the file's ``startup.identity`` from before ``graph`` was read.
    packed : the graph's weights as the file has them packed for ``isa``, with the shapes they are packed for; None
        where it has none: they are packed now.
    shapes : of each input, for one picture; used where ``packed`` says none.
    about : what the file says of its network, as JSON, see ``sepcore.formats.description``.

    Returns
    -------
    What will be found; None where nothing is kept: of graphs with operators of the user's, whose sources no key covers,
    of packed weights that are not what would be packed now, of unpacked ones that are larger than what is kept or that
    take no input of ``shapes``, and on systems other than Linux, whose machine code is not ours to place.

    Raises
    ------
    UnsupportedModelError, PlanError : the graph cannot be run.
    CompileError : a kernel cannot be compiled.
    """
    if sys.platform != "linux" or _is_users(graph):
        return None
    if packed is None:
        try:
            packed = pack(graph, shapes, isa, sorted({1, threads, num_threads()}), tuned_rows(isa, cache_dir))
        except SepcoreError:
            return None  # calls with other shapes may be all right; if not, they will say
        if packed.content.size > MAX_WEIGHT_BYTES:
            return None
    planner = Planner(graph, isa, threads, cache_dir, packed)
    program = planner.program(packed.shapes)
    regions = tuple(region.content.tobytes() for region in planner.weights.regions[1:])
    if planner.weights.repacked or sum(map(len, regions)) > _MAX_REGION_BYTES:
        return None
    kernels = [registry.find(name) for name in program.kernels()]
    native = list(native_rows.rows(isa))
    with counting("compiling kernels") as progress:
        objects = {
            **objects_for(kernels, isa, cache_dir=cache_dir, progress=progress),
            **objects_for(native, isa, cache_dir=cache_dir, registry=native_rows.__name__, progress=progress),
        }
    return startup.keep(
        path,
        file,
        link(program),
        link_code(objects, platform.machine()),
        {row.name.rpartition("__")[0]: row.name for row in native},
        packed,
        regions,
        about,
        isa,
        threads,
        cache_dir,
    )


def _is_users(graph: Graph) -> bool:
    """Whether a graph has operators that users registered."""
    activations = {node.attrs["activation"][0] for node in graph.nodes if node.attrs.get("activation")}
    own = activations.intersection(custom.activations())
    return bool(own) or any(node.op.startswith(custom.PREFIX) for node in graph.nodes)
