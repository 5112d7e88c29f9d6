"""Write a PyTorch module to a file that sepcore reads; run where PyTorch is, and nowhere else.

It must not change the module. No other file of this package names torch, and this one imports it only when called.
Two lines of PyTorch do the same; with an example batch of at least two the batch size stays open::

    program = torch.export.export(module.eval(), (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, "net.pt2")
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepcore.errors import OptionError, SepcoreError

if TYPE_CHECKING:
    import torch

    from sepcore.image.preprocess import Preprocess

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
        if target.suffix == ".sep":
            from sepcore.api import convert

            convert(written, target, overwrite=True, labels=labels, preprocess=preprocess)
        else:
            from sepcore.formats.torch_export import read_pt2

            read_pt2(written)
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
