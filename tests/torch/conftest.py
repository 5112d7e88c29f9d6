"""Makes torchvision's definitions importable beside a build of PyTorch that its compiled operators do not fit."""

from __future__ import annotations

import contextlib

import torch

_library = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    # Where the compiled operators fit, torchvision defines these itself, and before.
    with contextlib.suppress(RuntimeError):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
