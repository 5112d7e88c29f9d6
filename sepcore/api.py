"""What users call: open a model by file or name, run it on arrays or pictures."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sepcore.errors import OptionError
from sepcore.formats.checkpoint import read_checkpoint
from sepcore.formats.sniff import ONNX, SEPCORE, TORCH_EXPORT, sniff
from sepcore.image.batches import classify_files
from sepcore.image.preprocess import Preprocess
from sepcore.image.read import Picture
from sepcore.ir.graph import Graph
from sepcore.ir.verify import verify
from sepcore.labels import Prediction, check_labels, read_labels
from sepcore.models import recognise
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.passes.open_batch import open_batch
from sepcore.runtime.session import Session, described_outputs

_IMAGENET_CLASSES = 1000
_CROP_RATIO = 0.875  # of the short side that the crop takes, where a file says nothing


@dataclass(frozen=True)
class Network:
    """What a file held: a graph, and what is known about its pictures and classes.

    Attributes
    ----------
    family, arch : what a state dict was recognised as; for a file with a graph, its format and the graph's name.
    num_classes : 0 where the output is not one score per class.
    rewritten : whether the graph has been verified and the passes have run over it.
    """

    graph: Graph
    preprocess: Preprocess
    family: str
    arch: str
    num_classes: int
    labels: Sequence[str] | None = None
    rewritten: bool = False


class Model(Session):
    """A session that also knows how its pictures are prepared and what its classes are called.

    Attributes
    ----------
    preprocess : from a picture to the input.
    labels : one name per class, or None where they are not known.
    family, arch : what the file was recognised as.
    """

    def __init__(self, network: Network, labels: Sequence[str] | None, options: SessionOptions) -> None:
        super().__init__(rewritten(network).graph, options)
        self.preprocess = network.preprocess
        self.family, self.arch = network.family, network.arch
        self.num_classes = network.num_classes
        check_labels(labels, self.num_classes)
        self.labels: Sequence[str] | None = labels

    def classify(
        self, images: Picture | Iterable[Picture], k: int = 5, batch_size: int = 1
    ) -> list[Prediction] | list[list[Prediction]]:
        """The k most likely classes of pictures.

        Parameters
        ----------
        images : a picture (path, bytes, open file, PIL image, or uint8 array (h, w, 3)), or an iterable of pictures.
        k : classes per picture.
        batch_size : pictures per call of the network.

        Returns
        -------
        Predictions, best first, for a picture; a list of them for an iterable.

        Raises
        ------
        ImageError : a picture cannot be read; names it.
        OptionError : k or batch_size below 1.
        """
        single = is_picture(images)
        results = []
        for _, found in classify_files(self, [images] if single else images, k, batch_size):  # type: ignore[list-item, arg-type]
            if not isinstance(found, list):
                raise found
            results.append(found)
        return results[0] if single else results


def is_picture(images: Any) -> bool:
    """Whether ``images`` is one picture and not an iterable of several."""
    return isinstance(images, (str, bytes, os.PathLike)) or hasattr(images, "__array__") or hasattr(images, "read")


def load(
    model: str | os.PathLike[str],
    *,
    arch: str | None = None,
    num_threads: int | None = None,
    precision: str = "fp32",
    threading: str = "pool",
    cache_dir: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    input_size: int | tuple[int, int] | None = None,
    **overrides: Any,
) -> Model:
    """Open a model.

    Parameters
    ----------
    model : a state dict, `.pt2`, ONNX or `.sep` file, or the name of a model that `sepcore models` lists (fetched on
        first use).
    arch : name of the network where the file does not say enough, such as ``"tf_mobilenetv3_large_100"``.
    num_threads : threads one call may use; default: the CPUs this process may use.
    precision : "fp32".
    threading : who shares a call: "pool", threads of our own, or "prange", those of Numba, which must then be imported
        and compile for a second, and whose threading layer may bear neither several callers nor fork.
    cache_dir : where compiled kernels and fetched weights are kept.
    labels : a labels file or a list of class names; default: ImageNet's names for 1000 classes.
    preprocess : how pictures are prepared; default: what the file or the family says.
    input_size : side or (height, width) of the input that pictures are cropped to; default: the network's own.
    overrides : what a state dict cannot say: ``padding="same"``, ``bn_eps=1e-3``, ``leaky_slope=0.1``, ``activation=``.

    Raises
    ------
    FileNotFoundError : neither a file nor a known name.
    FormatError : the file is broken, or of no format that is read.
    UnsupportedModelError : the network is not known, or has parts that cannot be run.
    OptionError : an argument has a value that is not allowed.
    DownloadError : a named model cannot be fetched.
    ThreadingError : Numba has no threading layer to share calls with.
    """
    options = SessionOptions(num_threads, precision, Path(cache_dir) if cache_dir is not None else None, threading)
    network = opened_network(model, options.cache_dir, arch, labels, preprocess, input_size, overrides)
    return Model(network, network.labels, options)


def convert(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    arch: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    input_size: int | tuple[int, int] | None = None,
    **overrides: Any,
) -> Network:
    """Write a model, with its preprocessing and labels, to one `.sep` file that :func:`load` opens in milliseconds.

    Parameters
    ----------
    out : the file to write. It appears whole or not at all.
    overwrite : whether a file of that name may be replaced.
    model, arch, cache_dir, labels, preprocess, input_size, overrides : as :func:`load` takes them.

    Returns
    -------
    What was written.

    Raises
    ------
    OptionError : ``out`` exists or its folder does not, or an argument has a value that is not allowed.
    OSError : ``out`` cannot be written.
    Also what :func:`load` raises for a file that cannot be read.
    """
    target = Path(out)
    if not target.parent.is_dir():
        raise OptionError(f"{target}: expected a folder {target.parent}, found none")
    if not overwrite and os.path.lexists(target):
        raise OptionError(f"{target}: expected a name that is free, found a file; --force (overwrite=True) replaces it")
    folder = Path(cache_dir) if cache_dir is not None else None
    network = rewritten(opened_network(model, folder, arch, labels, preprocess, input_size, overrides))
    check_labels(network.labels, network.num_classes)
    from sepcore import __version__
    from sepcore.formats.sep import write_sep
    from sepcore.formats.sep_manifest import Packed

    write_sep(
        target,
        Packed(
            network.graph,
            network.preprocess,
            network.family,
            network.arch,
            network.num_classes,
            network.labels,
            f"sepcore {__version__}",
        ),
    )
    return network


def InferenceSession(path: str | os.PathLike[str], **options: Any) -> Model:
    """ONNX Runtime's spelling of :func:`load`."""
    return load(path, **options)


def opened_network(
    model: str | os.PathLike[str],
    cache_dir: Path | None,
    arch: str | None,
    labels: str | os.PathLike[str] | Sequence[str] | None,
    preprocess: Preprocess | None,
    input_size: int | tuple[int, int] | None,
    overrides: dict[str, Any],
) -> Network:
    """The network of a file or name, with the preprocessing and labels that were asked for."""
    path, named_labels, named_preprocess = locate(model, cache_dir)
    network = _read(path, arch, overrides)
    chosen = preprocess or named_preprocess or network.preprocess
    if input_size is not None:
        chosen = _resized(chosen, input_size)
    return replace(
        network, preprocess=chosen, labels=_labels(labels, named_labels or network.labels, network.num_classes)
    )


def rewritten(network: Network) -> Network:
    """The network with all passes run over its graph."""
    if network.rewritten:
        return network
    verify(network.graph)
    return replace(network, graph=run_passes(network.graph), rewritten=True)


def _read(path: Path, arch: str | None, overrides: dict[str, Any]) -> Network:
    """The network in a file: a graph as it stands there, or the one that a state dict is recognised as."""
    kind = sniff(path)
    if kind not in (TORCH_EXPORT, ONNX, SEPCORE):
        found = recognise(read_checkpoint(path), arch=arch, **overrides)
        return Network(found.graph, found.preprocess, found.family, found.arch, found.num_classes, found.labels)
    given = [name for name, value in {"arch": arch, **overrides}.items() if value is not None]
    if given:
        raise OptionError(f"{path}: {given[0]} says what a state dict cannot; this file holds its whole graph")
    if kind == SEPCORE:
        from sepcore.formats.sep import read_sep

        packed = read_sep(path)
        return Network(
            packed.graph,
            packed.preprocess,
            packed.family,
            packed.arch,
            packed.num_classes,
            packed.labels,
            rewritten=True,
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


def _resized(preprocess: Preprocess, input_size: int | tuple[int, int]) -> Preprocess:
    """The preprocessing for another input size: the short side keeps its ratio to the crop."""
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(size) != 2 or not all(type(s) is int and s > 0 for s in size):
        raise OptionError(f"input_size: expected one or two positive integers, found {input_size!r}")
    resize = preprocess.resize
    if resize is not None:
        resize = max(1, round(resize * min(size) / min(preprocess.input_size)))
    return replace(preprocess, input_size=size, resize=resize)


def _labels(
    given: str | os.PathLike[str] | Sequence[str] | None, named: Sequence[str] | None, classes: int
) -> Sequence[str] | None:
    if given is None:
        if named is not None:
            return named
        return read_labels("imagenet1k") if classes == _IMAGENET_CLASSES else None
    if isinstance(given, (str, os.PathLike)):
        return read_labels(given)
    return list(given)
