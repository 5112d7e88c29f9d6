"""Read ONNX files into graphs; nothing here runs a network, and nothing in a file is executed."""

from __future__ import annotations

import os

from sepcore.formats.onnx.decode import decode
from sepcore.formats.onnx.functions import expanded
from sepcore.formats.onnx.model import in_order
from sepcore.formats.onnx.translate import translate
from sepcore.ir.graph import Graph

__all__ = ["read_onnx"]


def read_onnx(path: str | os.PathLike[str]) -> Graph:
    """Read an ONNX file of opset 11 to 23, with its external data where it has any.

    Parameters
    ----------
    path : the model; external data is looked for in its folder only.

    Returns
    -------
    The graph. Inputs and outputs have the file's names, and so have values and nodes where the file names them; open
    axes are symbolic. Half precision is widened to float32. An axis length of zero or less counts as open.

    Raises
    ------
    FormatError
        If the file is broken or hostile.
    UnsupportedModelError
        If the graph's operators cannot express the model; names every node at fault at once, why, and where the
        exporter says that it comes from.
    SepcoreError
        If the package ``onnx`` is not installed.
    OSError
        If the file is missing or may not be read.
    """
    model = decode(path)
    return translate(model, in_order(model.path, expanded(model), {*model.inputs, *model.constants}))
