"""sepcore: CPU inference for MobileNet-style networks, from PyTorch checkpoints, without a framework.

``net = sepcore.load("mobilenet_v2.pth"); logits = net(x); net.classify("cat.jpg")``. Importing this compiles nothing
and imports neither numba nor numpy: that happens when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sepcore.errors import (
    CompileError,
    CpuError,
    DownloadError,
    FormatError,
    GraphError,
    ImageError,
    InputError,
    OptionError,
    PlanError,
    SepcoreError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from sepcore.api import InferenceSession, Model, load
    from sepcore.ops import op

__all__ = [
    "CompileError",
    "CpuError",
    "DownloadError",
    "FormatError",
    "GraphError",
    "ImageError",
    "InferenceSession",
    "InputError",
    "Model",
    "OptionError",
    "PlanError",
    "SepcoreError",
    "UnsupportedModelError",
    "__version__",
    "load",
    "op",
]

_FROM_API = ("InferenceSession", "Model", "load")


def __getattr__(name: str) -> Any:
    if name in _FROM_API:
        from sepcore import api

        return getattr(api, name)
    if name == "op":
        from sepcore.ops import op

        return op
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("sepcore")
        except PackageNotFoundError:
            return "unknown (not installed)"
    raise AttributeError(f"module 'sepcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
