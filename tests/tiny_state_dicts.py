"""State dicts of narrow networks, key by key as torchvision and timm spell them; nothing of sepcore is in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

StateDict = dict[str, NDArray[np.floating]]

CLASSES = 5


class Writer:
    """Draws tensors in PyTorch's order."""

    def __init__(self, seed: int = 0) -> None:
        self.state: StateDict = {}
        self._rng = np.random.default_rng(seed)

    def conv(self, path: str, oc: int, ic: int, kernel: int = 1, bias: bool = False) -> None:
        scale = np.sqrt(2.0 / (ic * kernel * kernel))
        self.state[f"{path}.weight"] = (self._rng.standard_normal((oc, ic, kernel, kernel)) * scale).astype(np.float32)
        if bias:
            self.state[f"{path}.bias"] = (self._rng.standard_normal(oc) * 0.1).astype(np.float32)

    def norm(self, path: str, channels: int) -> None:
        self.state[f"{path}.weight"] = self._rng.uniform(0.5, 1.5, channels).astype(np.float32)
        self.state[f"{path}.bias"] = (self._rng.standard_normal(channels) * 0.2).astype(np.float32)
        self.state[f"{path}.running_mean"] = (self._rng.standard_normal(channels) * 0.1).astype(np.float32)
        self.state[f"{path}.running_var"] = self._rng.uniform(0.5, 1.5, channels).astype(np.float32)
        self.state[f"{path}.num_batches_tracked"] = np.array(1)

    def linear(self, path: str, classes: int, features: int) -> None:
        self.state[f"{path}.weight"] = self._rng.standard_normal((classes, features)).astype(np.float32)
        self.state[f"{path}.bias"] = self._rng.standard_normal(classes).astype(np.float32)


# (output channels, blocks, expansion), stage by stage
MOBILENET_V2 = ((8, 1, 1), (8, 2, 2), (12, 3, 3), (16, 4, 2), (16, 3, 2), (24, 3, 2), (40, 1, 2))


def torchvision_mobilenet_v2(classes: int = CLASSES) -> StateDict:
    """torchvision's keys; stages of like widths, so that only their order says where a stride is."""
    w = Writer()
    w.conv("features.0.0", 8, 3, 3)
    w.norm("features.0.1", 8)
    c, index = 8, 0
    for oc, blocks, expansion in MOBILENET_V2:
        for _ in range(blocks):
            index += 1
            path, position = f"features.{index}.conv", 0
            if expansion > 1:
                w.conv(f"{path}.0.0", c * expansion, c)
                w.norm(f"{path}.0.1", c * expansion)
                position = 1
            w.conv(f"{path}.{position}.0", c * expansion, 1, 3)
            w.norm(f"{path}.{position}.1", c * expansion)
            w.conv(f"{path}.{position + 1}", oc, c * expansion)
            w.norm(f"{path}.{position + 2}", oc)
            c = oc
    w.conv(f"features.{index + 1}.0", 48, c)
    w.norm(f"features.{index + 1}.1", 48)
    w.linear("classifier.1", classes, 48)
    return w.state


# kernel, expanded channels, output channels, squeeze-excite
MOBILENET_V3_SMALL = (
    (3, 8, 8, True), (3, 16, 12, False), (3, 24, 12, False), (5, 24, 16, True), (5, 32, 16, True), (5, 32, 16, True),
    (5, 32, 20, True), (5, 40, 20, True), (5, 40, 24, True), (5, 48, 24, True), (5, 48, 24, True),
)  # fmt: skip
TIMM_STAGES = (1, 2, 3, 2, 3)


def torchvision_mobilenet_v3_small(classes: int = CLASSES) -> StateDict:
    """torchvision's keys."""
    w = Writer()
    w.conv("features.0.0", 8, 3, 3)
    w.norm("features.0.1", 8)
    c = 8
    for index, (kernel, expanded, oc, squeeze) in enumerate(MOBILENET_V3_SMALL, 1):
        path, position = f"features.{index}.block", 0
        if expanded != c:
            w.conv(f"{path}.0.0", expanded, c)
            w.norm(f"{path}.0.1", expanded)
            position = 1
        w.conv(f"{path}.{position}.0", expanded, 1, kernel)
        w.norm(f"{path}.{position}.1", expanded)
        if squeeze:
            position += 1
            w.conv(f"{path}.{position}.fc1", 4, expanded, bias=True)
            w.conv(f"{path}.{position}.fc2", expanded, 4, bias=True)
        w.conv(f"{path}.{position + 1}.0", oc, expanded)
        w.norm(f"{path}.{position + 1}.1", oc)
        c = oc
    w.conv("features.12.0", 40, c)
    w.norm("features.12.1", 40)
    w.linear("classifier.0", 32, 40)
    w.linear("classifier.3", classes, 32)
    return w.state


def timm_mobilenetv3_small(classes: int = CLASSES) -> StateDict:
    """timm's keys for the same network."""
    w = Writer()
    w.conv("conv_stem", 8, 3, 3)
    w.norm("bn1", 8)
    c, rows = 8, iter(MOBILENET_V3_SMALL)
    for stage, blocks in enumerate(TIMM_STAGES):
        for block in range(blocks):
            kernel, expanded, oc, squeeze = next(rows)
            path, number = f"blocks.{stage}.{block}", 0
            if stage:
                w.conv(f"{path}.conv_pw", expanded, c)
                w.norm(f"{path}.bn1", expanded)
                number = 1
            w.conv(f"{path}.conv_dw", expanded, 1, kernel)
            w.norm(f"{path}.bn{number + 1}", expanded)
            if squeeze:
                w.conv(f"{path}.se.conv_reduce", 4, expanded, bias=True)
                w.conv(f"{path}.se.conv_expand", expanded, 4, bias=True)
            w.conv(f"{path}.{'conv_pwl' if stage else 'conv_pw'}", oc, expanded)
            w.norm(f"{path}.bn{number + 2}", oc)
            c = oc
    w.conv("blocks.5.0.conv", 40, c)
    w.norm("blocks.5.0.bn1", 40)
    w.conv("conv_head", 32, 40, bias=True)
    w.linear("classifier", classes, 32)
    return w.state


MOBILENET_V1 = (8, 12, 12, 16, 16, 20, 20, 20, 20, 20, 20, 24, 24)
MOBILENET_V1_PATHS = [f"{name}.{i}" for name, first, last in (("stage1", 1, 6), ("stage2", 0, 6), ("stage3", 0, 2))
                      for i in range(first, last)]  # fmt: skip


def mobilenet_v1_stages(classes: int = CLASSES) -> StateDict:
    """The keys of the face detectors' MobileNetV1."""
    w = Writer()
    w.conv("stage1.0.0", 6, 3, 3)
    w.norm("stage1.0.1", 6)
    c = 6
    for path, oc in zip(MOBILENET_V1_PATHS, MOBILENET_V1, strict=True):
        w.conv(f"{path}.0", c, 1, 3)
        w.norm(f"{path}.1", c)
        w.conv(f"{path}.3", oc, c)
        w.norm(f"{path}.4", oc)
        c = oc
    w.linear("fc", classes, c)
    return w.state
