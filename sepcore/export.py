"""PyTorch's side: write a module to a file that sepcore reads, and run a file's network there to compare with.

It must not change a module that it is given. No other file of this package names torch; here it is imported by a call.
Two lines of PyTorch do the same; with an example batch of at least two the batch size stays open::

    program = torch.export.export(module.eval(), (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, "net.pt2")
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepcore.errors import OptionError, SepcoreError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

    from sepcore.image.preprocess import Preprocess
    from sepcore.inspection import Opened
    from sepcore.ir.graph import Array
    from sepcore.verification import Computed, Reference

SUFFIXES = (".pt2", ".sep")
_OLDEST = (2, 5)


def save(
    module: torch.nn.Module,
    example_input: torch.Tensor | Sequence[torch.Tensor],
    path: str | os.PathLike[str],
    *,
    dynamic_shapes: Any = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
) -> None:
    """Export a module, in eval mode, and make sure that sepcore can run what comes out.

    Parameters
    ----------
    module : what to export; its training mode is as before afterwards.
    example_input : float32 (n, 3, h, w), or one tensor per argument of ``forward``. The sizes that the graph is made
        for: all but the batch size are fixed.
    path : the file to write, ``.pt2`` or ``.sep``; it appears whole or not at all, in the place of one that is there.
    dynamic_shapes : which sizes stay open instead, as ``torch.export.export`` takes it.
    labels, preprocess : class names, and how pictures are prepared, as :func:`sepcore.load` takes them; kept in a
        ``.sep`` file only.

    Raises
    ------
    OptionError : an argument has a value that is not allowed.
    UnsupportedModelError : sepcore cannot run the module; names every operation at fault and its line of source.
    SepcoreError : PyTorch is missing, or older than 2.5.
    OSError : the file cannot be written.
    Also what ``torch.export`` raises for a module that it cannot export.
    """
    target = _checked_path(path)
    if target.suffix == ".pt2" and (labels is not None or preprocess is not None):
        raise OptionError(
            "labels, preprocess: expected none for a .pt2 file, which cannot keep them; write a .sep file"
        )
    torch = _torch()
    inputs = _checked_inputs(torch, module, example_input)
    if dynamic_shapes is None:
        # Of a batch of one PyTorch would conclude that it always is one.
        inputs = tuple(torch.cat((x, x)) if x.ndim and x.shape[0] == 1 else x for x in inputs)
        dynamic_shapes = tuple({0: torch.export.Dim.AUTO} if x.ndim else None for x in inputs)
    with _in_eval_mode(module):
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes, strict=False)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".sepcore-export-") as folder:
        written = Path(folder) / f"{target.stem}.pt2"
        torch.export.save(program, written)
        try:
            _write(written, target, labels, preprocess)
        except UnsupportedModelError as error:
            # Nobody has seen the file that was read.
            raise UnsupportedModelError(type(module).__name__, error.problems) from None


def _write(written: Path, target: Path, labels: Any, preprocess: Preprocess | None) -> None:
    """Put what PyTorch has written in its place, as a file that sepcore can read."""
    if target.suffix == ".sep":
        from sepcore.api import convert

        convert(written, target, overwrite=True, labels=labels, preprocess=preprocess)
    else:
        from sepcore.opening import opened_network, rewritten
        from sepcore.runtime.planning import check_supported

        check_supported(rewritten(opened_network(written, None, None, None, None, None, {})).graph)
        os.replace(written, target)


def _checked_path(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise OptionError(f"path: expected a name ending in {' or '.join(SUFFIXES)}, found {str(target)!r}")
    if not target.parent.is_dir():
        raise OptionError(f"path: expected a folder {target.parent}, found none")
    return target


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise SepcoreError(f"exporting needs PyTorch {'.'.join(map(str, _OLDEST))} or newer: {error}") from None
    found = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if found < _OLDEST:
        raise SepcoreError(f"exporting needs PyTorch {'.'.join(map(str, _OLDEST))} or newer, found {torch.__version__}")
    return torch


def _checked_inputs(torch: Any, module: Any, example_input: Any) -> tuple[Any, ...]:
    if not isinstance(module, torch.nn.Module):
        raise OptionError(f"module: expected a torch.nn.Module, found a {type(module).__name__}")
    inputs = (example_input,) if isinstance(example_input, torch.Tensor) else example_input
    if not isinstance(inputs, (tuple, list)) or not inputs or not all(isinstance(x, torch.Tensor) for x in inputs):
        raise OptionError(f"example_input: expected a tensor or several, found a {type(example_input).__name__}")
    return tuple(inputs)


@contextmanager
def _in_eval_mode(module: Any) -> Iterator[None]:
    """As a network is run: dropout off, BatchNorm with its own statistics."""
    training = [layer for layer in module.modules() if layer.training]
    module.eval()
    try:
        yield
    finally:
        for layer in training:
            layer.training = True


def in_torch(factory: str = "") -> Reference:
    """What :func:`sepcore.verification.verify_file` takes to compare a file with PyTorch, layer by layer.

    Parameters
    ----------
    factory : ``"package.module:function"``, which returns the module; it is given the weights where the file holds
        weights alone. "" takes the program itself of a ``.pt2`` file, and torchvision's or timm's network of the name
        that a state dict is recognised by.

    Raises
    ------
    Of the call: OptionError, where the file says too little to be run in PyTorch or the factory does not exist;
    SepcoreError, where PyTorch is missing, or does not take the weights or the input.
    """

    def run(opened: Opened, arrays: Sequence[Array]) -> Computed:
        from sepcore.verification import Computed

        torch = _torch()
        # torch.from_numpy shares memory: an in-place operation must not reach the caller's arrays.
        inputs = [torch.from_numpy(array.copy()) for array in arrays]
        layers: dict[str, Array] = {}
        try:
            with torch.inference_mode():
                found = _runnable(torch, opened, factory, layers)(*inputs)
        except RuntimeError as error:
            raise SepcoreError(f"{opened.path}: PyTorch: {str(error).strip()[:500]}") from None
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        return Computed([leaf.numpy() for leaf in leaves], layers)

    return run


def _runnable(torch: Any, opened: Opened, factory: str, layers: dict[str, Array]) -> Any:
    """What takes the inputs and gives the outputs, and puts the values of modules or nodes into ``layers``."""
    from sepcore.formats.sniff import ONNX, SEPCORE, TORCH_EXPORT

    if opened.format == TORCH_EXPORT and not factory:
        program = torch.export.load(opened.path).module()

        class Recorded(torch.fx.Interpreter):  # type: ignore[misc]
            def run_node(self, node: Any) -> Any:
                _record(torch, layers, node.name, value := super().run_node(node))
                return value

        return Recorded(program).run
    if opened.format in (ONNX, SEPCORE, TORCH_EXPORT) and not factory:
        raise OptionError(
            f"--torch: expected a .pt2 file, a state dict, or a factory of the module (package.module:function); "
            f"{opened.path} is of format {opened.format}"
        )
    module = _made(factory) if factory else _published(opened)
    if not isinstance(module, torch.nn.Module):
        raise OptionError(f"--torch {factory}: expected a torch.nn.Module, found a {type(module).__name__}")
    if opened.format not in (ONNX, SEPCORE, TORCH_EXPORT):
        _give_weights(torch, module, opened)
    for name, part in module.named_modules():
        part.register_forward_hook(lambda _, given, value, name=name: _record(torch, layers, name, value))
    return module.eval()


def _record(torch: Any, layers: dict[str, Array], name: str, value: Any) -> None:
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        layers[name] = value.detach().clone().numpy()  # what follows may work in place


def _made(factory: str) -> Any:
    name, _, function = factory.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(name), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"--torch: expected package.module:function, found {factory!r}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())


def _published(opened: Opened) -> Any:
    """torchvision's or timm's network of the recognised name."""
    source, arch, classes = opened.network.family.split()[0], opened.network.arch, opened.network.num_classes
    try:
        if source == "timm":
            return importlib.import_module("timm").create_model(arch, num_classes=classes)
        if source == "torchvision":
            return importlib.import_module("torchvision").models.get_model(arch, num_classes=classes)
    except (ImportError, RuntimeError, ValueError) as error:
        raise SepcoreError(f"{opened.path}: {source} cannot make {arch}: {error}") from None
    raise OptionError(
        f"--torch: {opened.network.family} is of neither torchvision nor timm: name a factory of the module "
        "(package.module:function)"
    )


def _give_weights(torch: Any, module: Any, opened: Opened) -> None:
    from sepcore.formats.checkpoint import read_checkpoint

    tensors: Any = OrderedDict(
        (key, torch.from_numpy(array.copy())) for key, array in read_checkpoint(opened.path).tensors.items()
    )
    # torchvision loads no MNASNet that does not say its version; the first had another stem.
    tensors._metadata = {"": {"version": 2}}
    module.load_state_dict(tensors)
