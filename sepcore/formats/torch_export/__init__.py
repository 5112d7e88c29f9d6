"""Read torch.export's .pt2 files into graphs; nothing here runs a network, and nothing in a file is executed."""

from __future__ import annotations

import os
from pathlib import Path

from sepcore.formats.sniff import TORCH_EXPORT, identify
from sepcore.formats.source import Source
from sepcore.formats.torch_export.archive import read_archive
from sepcore.formats.torch_export.fields import read_json
from sepcore.formats.torch_export.finish import finished
from sepcore.formats.torch_export.payload import describe
from sepcore.formats.torch_export.program import parse_program
from sepcore.formats.torch_export.translate import translate
from sepcore.ir.graph import Graph

__all__ = ["read_pt2"]


def read_pt2(path: str | os.PathLike[str]) -> Graph:
    """Read a file that ``torch.export.save`` wrote, by PyTorch 2.5 to 2.13.

    Parameters
    ----------
    path : the file.

    Returns
    -------
    The graph. Inputs are the tensors that the module's ``forward`` takes; parameters, buffers and constants have the
    module's names for them; all other values have the file's. Symbolic lengths stay symbolic. Half precision is
    widened to float32. Outputs come in the order in which PyTorch flattens what ``forward`` returns.

    Raises
    ------
    FormatError
        If the file is broken or hostile, or of another kind.
    UnsupportedModelError
        If the graph's operators cannot express the model; names every node at fault at once, why, and where the
        exporter says that it comes from.
    OSError
        If the file is missing or may not be read.
    """
    with Source(path) as source:
        kind, entries = identify(source)
        if kind != TORCH_EXPORT:
            raise source.error("content", "a torch.export archive (.pt2)", f"a file of the kind '{kind}'")
        archive = read_archive(source, entries)
        program = parse_program(read_json(source, archive.program))
        translation = translate(source.path, Path(source.path).stem, program)
        weights = describe(source, archive.weights).read(translation.weights)
        constants = describe(source, archive.constants).read(translation.constants)
        return finished(source.path, translation, {**weights, **constants})
