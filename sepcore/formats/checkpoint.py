"""Read a checkpoint's weights, whatever file format PyTorch's users keep them in.

Nothing here knows a network, and nothing a file says is executed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sepcore.formats.safetensors import read_safetensors
from sepcore.formats.sniff import (
    ONNX,
    SAFETENSORS,
    SEPCORE,
    TORCH_EXPORT,
    TORCH_LEGACY,
    TORCH_ZIP,
    TORCHSCRIPT,
    identify,
)
from sepcore.formats.source import Source
from sepcore.formats.state_dict import find_state_dict, strip_prefixes
from sepcore.formats.torch_legacy import read_torch_legacy
from sepcore.formats.torch_pickle import Pickled
from sepcore.formats.torch_tensors import read_tensors
from sepcore.formats.torch_zip import read_torch_zip


@dataclass(frozen=True)
class Checkpoint:
    """A state dict read from a file.

    Parameters
    ----------
    path : the file.
    format : "torch-zip", "torch-legacy" or "safetensors".
    tensors : key -> read-only array, in the file's order; bfloat16 arrives as float32, others keep their dtype.
        Arrays may be strided, and may share memory where the file's tensors do.
    metadata : "wrapper", the keys that led to the state dict ("" for none); "prefix", what was removed from every key;
        "ignored", the keys that carry no weights of it; "file", what a safetensors file says under ``__metadata__``.
    """

    path: str
    format: str
    tensors: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, object]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a PyTorch state dict (zip or legacy layout) or a safetensors file.

    Peak memory is the weights read, widened, plus a few MB; optimizer state and unused wrappers are never read.

    Raises
    ------
    FormatError : the file is broken, hostile, of another kind, or holds no state dict.
    OSError : the file is missing (``FileNotFoundError``) or may not be read.
    """
    with Source(path) as source:
        kind, entries = identify(source)
        if kind == SAFETENSORS:
            arrays, file_metadata = read_safetensors(source)
            tensors, prefix = strip_prefixes(arrays)
            return Checkpoint(
                source.path, kind, tensors, {"wrapper": "", "prefix": prefix, "ignored": (), "file": file_metadata}
            )
        if kind == TORCH_ZIP:
            return _torch_checkpoint(source, kind, read_torch_zip(source, entries))
        if kind == TORCH_LEGACY:
            return _torch_checkpoint(source, kind, read_torch_legacy(source))
        raise source.error("content", "a state dict (.pth or safetensors)", _INSTEAD[kind])


_INSTEAD = {
    TORCHSCRIPT: "a TorchScript archive; save model.state_dict(), or export with torch.export.save",
    TORCH_EXPORT: "a torch.export archive, which holds a whole graph",
    ONNX: "what looks like an ONNX model, which holds a whole graph",
    SEPCORE: "a compiled sepcore container",
}


def _torch_checkpoint(source: Source, kind: str, pickled: Pickled) -> Checkpoint:
    found = find_state_dict(source.path, pickled.root)
    views, prefix = strip_prefixes(found.tensors)
    tensors = read_tensors(source, views, pickled.offsets, pickled.storages)
    metadata = {"wrapper": found.wrapper, "prefix": prefix, "ignored": found.ignored, "file": {}}
    return Checkpoint(source.path, kind, tensors, metadata)
