"""What users call: open a model by file or name, run it on arrays or pictures.

What opens files of every kind and plans is imported when it is needed: a model that has run before needs neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from sepcore.errors import OptionError
from sepcore.options import SessionOptions
from sepcore.runtime.session import OpenGraph, Session, chosen_isa
from sepcore.runtime.threads import num_threads as thread_count

if TYPE_CHECKING:
    from pathlib import Path

    from sepcore.choices import Described
    from sepcore.formats.sep_manifest import PackedWeights
    from sepcore.image.preprocess import Preprocess
    from sepcore.image.read import Picture
    from sepcore.ir.graph import Graph
    from sepcore.labels import Prediction
    from sepcore.opening import Network
    from sepcore.runtime.startup import Started


class Model(Session):
    """A session that also knows how its pictures are prepared and what its classes are called.

    Parameters
    ----------
    describe : gives what is known of the network; asked when it is needed.
    graph, options, started : as :class:`sepcore.runtime.session.Session` takes them.
    """

    def __init__(
        self,
        describe: Callable[[], Described],
        graph: Graph | OpenGraph,
        options: SessionOptions,
        started: Started | None = None,
    ) -> None:
        super().__init__(graph, options, started)
        self._describe = describe

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to the input."""
        return self._describe().preprocess

    @property
    def labels(self) -> Sequence[str] | None:
        """One name per class, or None where they are not known."""
        return self._describe().labels

    @property
    def family(self) -> str:
        """What the file was recognised as."""
        return self._describe().family

    @property
    def arch(self) -> str:
        """The network's name within its family."""
        return self._describe().arch

    @property
    def num_classes(self) -> int:
        """0 where the output is not one score per class."""
        return self._describe().num_classes

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
        from sepcore.image.batches import classify_files

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
    options = SessionOptions(num_threads, precision, _folder(cache_dir), threading)

    @cache
    def network() -> Network:
        from sepcore import opening

        found = opening.opened_network(model, options.cache_dir, arch, labels, preprocess, input_size, overrides)
        return opening.rewritten(found)

    @cache
    def description() -> Described:
        from sepcore.choices import as_asked
        from sepcore.formats.description import from_json

        assert started is not None
        return as_asked(from_json(started.about), labels, preprocess, input_size)

    def graph() -> tuple[Graph, Mapping[str, PackedWeights]]:
        return network().graph, network().packed

    started = None if arch is not None or overrides else _started(model, options, network)
    if started is None:
        network()
        return Model(network, graph, options)
    if (labels, preprocess, input_size) != (None, None, None):
        description()  # which is wrong where one of them is
    return Model(description, graph, options, started)


def _started(model: str | os.PathLike[str], options: SessionOptions, network: Callable[[], Network]) -> Started | None:
    """What runs a .sep file at once; planned and kept now, where no process did before."""
    if options.threading != "pool" or not os.path.isfile(model):
        return None
    from sepcore.runtime import startup

    isa, threads = chosen_isa().name, thread_count(options.num_threads)
    found = startup.find(model, isa, threads, options.cache_dir)
    if found is not None or (file := startup.identity(model)) is None:
        return found
    opened = network()
    from sepcore.opening import keep_start

    return keep_start(model, file, opened, isa, threads, options.cache_dir)


def convert(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    pack: Sequence[str] = (),
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
    pack : CPU levels whose packed weights go into the file as well, so that they are mapped and not made when it is
        opened: "native", or what ``sepcore.compile.levels`` calls them.
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
    from dataclasses import replace
    from pathlib import Path

    target = Path(out)
    if not target.parent.is_dir():
        raise OptionError(f"{target}: expected a folder {target.parent}, found none")
    if not overwrite and os.path.lexists(target):
        raise OptionError(f"{target}: expected a name that is free, found a file; --force (overwrite=True) replaces it")
    folder = _folder(cache_dir)
    from sepcore import __version__, opening
    from sepcore.formats.sep import write_sep
    from sepcore.formats.sep_manifest import SepNetwork
    from sepcore.runtime.planning import check_supported

    isas = [_at_level(level) for level in pack]
    found = opening.opened_network(model, folder, arch, labels, preprocess, input_size, overrides)
    network = opening.rewritten(found)
    check_supported(network.graph)
    network = replace(network, packed=_packed(network, isas, folder))
    write_sep(
        target,
        SepNetwork(
            network.graph,
            network.preprocess,
            network.family,
            network.arch,
            network.num_classes,
            network.labels,
            f"sepcore {__version__}",
            network.packed,
        ),
    )
    return network


def _folder(path: str | os.PathLike[str] | None) -> Path | None:
    """A folder that was named; not before one is does a start import pathlib."""
    if path is None:
        return None
    from pathlib import Path

    return Path(path)


def _at_level(level: str) -> str:
    """The instruction set of a CPU level."""
    if level == "native":
        return chosen_isa().name
    from sepcore.compile.levels import at_level

    return at_level(level).name


def _packed(network: Network, isas: Sequence[str], cache_dir: Path | None) -> dict[str, PackedWeights]:
    """The weights packed for pictures of the network's size, for one thread and as many as a call here may use."""
    if not isas:
        return {}
    from sepcore.opening import picture_shapes
    from sepcore.plan import tuned_rows
    from sepcore.plan.packing import pack

    shapes = picture_shapes(network.graph, network.preprocess.input_size)
    threads = sorted({1, thread_count()})
    return {isa: pack(network.graph, shapes, isa, threads, tuned_rows(isa, cache_dir)) for isa in isas}


def InferenceSession(path: str | os.PathLike[str], **options: Any) -> Model:
    """ONNX Runtime's spelling of :func:`load`."""
    return load(path, **options)
