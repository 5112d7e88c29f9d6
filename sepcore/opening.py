"""Finds a model's file and makes a network of what is in it, whatever its format; it must not plan or run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepcore.choices import as_asked
from sepcore.errors import OptionError
from sepcore.formats.checkpoint import read_checkpoint
from sepcore.formats.sep_manifest import PackedWeights
from sepcore.formats.sniff import ONNX, SEPCORE, TORCH_EXPORT, sniff
from sepcore.image.preprocess import Preprocess
from sepcore.ir.graph import Graph, Value
from sepcore.ir.verify import verify
from sepcore.labels import read_labels
from sepcore.models import recognise
from sepcore.passes import run_passes
from sepcore.passes.open_batch import open_batch
from sepcore.runtime.planning import described_outputs

if TYPE_CHECKING:
    from sepcore.runtime.startup import Started

_ANY_LENGTH = 224
"""Stands for a length that the network leaves open and that no picture size decides."""
_CROP_RATIO = 0.875  # of the short side that the crop takes, where a file says nothing


@dataclass(frozen=True)
class Network:
    """What a file held: a graph, and what is known about its pictures and classes.

    Attributes
    ----------
    family, arch : what a state dict was recognised as; for a file with a graph, its format and the graph's name.
    num_classes : 0 where the output is not one score per class.
    rewritten : whether the graph has been verified and the passes have run over it.
    packed : by instruction set, weights as the file has them packed.
    """

    graph: Graph
    preprocess: Preprocess
    family: str
    arch: str
    num_classes: int
    labels: Sequence[str] | None = None
    rewritten: bool = False
    packed: Mapping[str, PackedWeights] = field(default_factory=dict)


def opened_network(
    model: str | os.PathLike[str],
    cache_dir: Path | None,
    arch: str | None,
    labels: str | os.PathLike[str] | Sequence[str] | None,
    preprocess: Preprocess | None,
    input_size: int | tuple[int, int] | None,
    overrides: Mapping[str, Any],
) -> Network:
    """The network of a file or name, with the preprocessing and labels that were asked for."""
    path, named_labels, named_preprocess = locate(model, cache_dir)
    network = _read(path, arch, overrides)
    network = replace(network, preprocess=named_preprocess or network.preprocess, labels=named_labels or network.labels)
    return as_asked(network, labels, preprocess, input_size)


def rewritten(network: Network) -> Network:
    """The network with all passes run over its graph."""
    if network.rewritten:
        return network
    verify(network.graph)
    return replace(network, graph=run_passes(network.graph), rewritten=True)


def picture_shapes(graph: Graph, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """The shape of each input for one picture of ``size`` (height, width)."""
    return {value.name: concrete(value, size) for value in graph.inputs}


def concrete(value: Value, size: tuple[int, int]) -> tuple[int, ...]:
    """One image of ``size``, where the declared lengths leave that open."""
    usual = (1, _ANY_LENGTH, *size) if len(value.shape) == 4 else (1, *[_ANY_LENGTH] * len(value.shape))
    return tuple(declared if isinstance(declared, int) else length for declared, length in zip(value.shape, usual))


def keep_start(
    model: str | os.PathLike[str], file: bytes, network: Network, isa: str, threads: int, cache_dir: Path | None
) -> Started | None:
    """Have the next process start a .sep file at once with a picture of its own size; what it will start with, if so.

    Parameters
    ----------
    file : its ``sepcore.runtime.startup.identity`` from before ``network`` was read.

    Raises
    ------
    As :func:`sepcore.runtime.keeping.keep`.
    """
    from sepcore.formats.sep_manifest import read_description
    from sepcore.runtime.keeping import keep

    about = read_description(model)
    shapes = picture_shapes(network.graph, about.preprocess.input_size)
    packed = network.packed.get(isa)
    return keep(model, file, network.graph, packed, shapes, about.to_json(), isa, threads, cache_dir)


def _read(path: Path, arch: str | None, overrides: Mapping[str, Any]) -> Network:
    """The network in a file: a graph as it stands there, or the one that a state dict is recognised as."""
    kind = sniff(path)
    if kind not in (TORCH_EXPORT, ONNX, SEPCORE):
        known = recognise(read_checkpoint(path), arch=arch, **overrides)
        return Network(known.graph, known.preprocess, known.family, known.arch, known.num_classes, known.labels)
    given = [name for name, value in {"arch": arch, **overrides}.items() if value is not None]
    if given:
        raise OptionError(f"{path}: {given[0]} says what a state dict cannot; this file holds its whole graph")
    if kind == SEPCORE:
        from sepcore.formats.sep import read_sep

        found = read_sep(path)
        return Network(
            found.graph,
            found.preprocess,
            found.family,
            found.arch,
            found.num_classes,
            found.labels,
            rewritten=True,
            packed=found.packed,
        )
    if kind == ONNX:
        from sepcore.formats.onnx import read_onnx

        graph = read_onnx(path)
    else:
        from sepcore.formats.torch_export import read_pt2

        graph = read_pt2(path)
    verify(graph)
    graph = open_batch(graph)
    return Network(graph, _plain_preprocess(graph), kind, graph.name, _classes(graph))


def _plain_preprocess(graph: Graph) -> Preprocess:
    """ImageNet's usual preprocessing at the size the graph takes, 224 where it takes any."""
    shape = graph.inputs[0].shape if graph.inputs else ()
    lengths = shape[2:] if len(shape) == 4 else ()
    height, width = (d if isinstance(d, int) else 224 for d in lengths) if lengths else (224, 224)
    return Preprocess((height, width), math.floor(min(height, width) / _CROP_RATIO))


def _classes(graph: Graph) -> int:
    """Scores per image, where the graph takes pictures and its only output is (n, classes)."""
    if len(graph.outputs) != 1 or len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4:
        return 0
    (value,) = described_outputs(graph)
    return value.shape[1] if len(value.shape) == 2 and isinstance(value.shape[1], int) else 0


def locate(
    model: str | os.PathLike[str], cache_dir: Path | None
) -> tuple[Path, Sequence[str] | None, Preprocess | None]:
    """The file of a model; for a named one also its labels and preprocessing."""
    path = Path(model)
    from sepcore import hub

    # A folder of a model's name, as examples/digits is, does not hide the model.
    if path.is_file() or isinstance(model, os.PathLike) or str(model) not in hub.MODELS:
        if not path.exists() and not isinstance(model, os.PathLike) and not path.suffix and len(path.parts) == 1:
            hub.find(str(model))
        if not path.exists():
            raise FileNotFoundError(f"{model}: no such file, and no model of that name; `sepcore models` lists them")
        return path, None, None
    named = hub.find(str(model))
    return hub.fetch(named.name, cache_dir), read_labels(named.labels), named.preprocess
