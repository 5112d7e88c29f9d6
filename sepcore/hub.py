"""Networks that can be loaded by name: fetches, checks and caches their weights; reads nothing inside them."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sepcore.cache import cache_candidates, first_writable
from sepcore.environment import env_weights_url
from sepcore.errors import DownloadError, OptionError, UnsupportedModelError
from sepcore.image.preprocess import Preprocess

PUBLISHED_AT = "https://download.pytorch.org/models"
DEFAULT_MODEL = "mobilenet_v2"
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class NamedModel:
    """A network that `sepcore.load` knows by name.

    Attributes
    ----------
    name : what the user writes.
    arch : architecture the weights belong to.
    file : name of the weights' file, at the published address or in the package's own ``data`` folder.
    labels : built-in list of class names.
    preprocess : what the weights were evaluated with.
    embedded : whether the file comes with the package.
    """

    name: str
    arch: str
    file: str
    labels: str
    preprocess: Preprocess
    embedded: bool = False

    @property
    def checksum(self) -> str:
        """First digits of the file's SHA-256, which torchvision's file names carry after the last hyphen."""
        return Path(self.file).stem.rpartition("-")[2]


def _torchvision(
    name: str, file: str, resize: int = 256, input_size: int = 224, interpolation: str = "bilinear"
) -> NamedModel:
    preprocess = Preprocess((input_size, input_size), resize, interpolation=interpolation)
    return NamedModel(name, name.partition("@")[0], f"{file}.pth", "imagenet1k", preprocess)


# From torchvision's weight enumerations (torchvision.models.get_model_weights): a plain name is what they call DEFAULT,
# "@v1" the older IMAGENET1K_V1 where there are two.
_TORCHVISION = (
    _torchvision("mobilenet_v2", "mobilenet_v2-7ebf99e0", 232),
    _torchvision("mobilenet_v2@v1", "mobilenet_v2-b0353104"),
    _torchvision("mobilenet_v3_small", "mobilenet_v3_small-047dcff4"),
    _torchvision("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163", 232),
    _torchvision("mobilenet_v3_large@v1", "mobilenet_v3_large-8738ca79"),
    _torchvision("mnasnet0_5", "mnasnet0.5_top1_67.823-3ffadce67e"),
    _torchvision("mnasnet0_75", "mnasnet0_75-7090bc5f", 232),
    _torchvision("mnasnet1_0", "mnasnet1.0_top1_73.512-f206786ef8"),
    _torchvision("mnasnet1_3", "mnasnet1_3-a4c69d6f", 232),
    _torchvision("shufflenet_v2_x0_5", "shufflenetv2_x0.5-f707e7126e"),
    _torchvision("shufflenet_v2_x1_0", "shufflenetv2_x1-5666bf0f80"),
    _torchvision("shufflenet_v2_x1_5", "shufflenetv2_x1_5-3c479a10", 232),
    _torchvision("shufflenet_v2_x2_0", "shufflenetv2_x2_0-8be3c8ee", 232),
    _torchvision("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc", 256, 224, "bicubic"),
    _torchvision("efficientnet_b1", "efficientnet_b1-c27df63c", 255, 240),
    _torchvision("efficientnet_b1@v1", "efficientnet_b1_rwightman-bac287d4", 256, 240, "bicubic"),
    _torchvision("efficientnet_b2", "efficientnet_b2_rwightman-c35c1473", 288, 288, "bicubic"),
    _torchvision("efficientnet_b3", "efficientnet_b3_rwightman-b3899882", 320, 300, "bicubic"),
    _torchvision("efficientnet_b4", "efficientnet_b4_rwightman-23ab8bcd", 384, 380, "bicubic"),
    _torchvision("efficientnet_b5", "efficientnet_b5_lukemelas-1a07897c", 456, 456, "bicubic"),
    _torchvision("efficientnet_b6", "efficientnet_b6_lukemelas-24a108a5", 528, 528, "bicubic"),
    _torchvision("efficientnet_b7", "efficientnet_b7_lukemelas-c5b4e57e", 600, 600, "bicubic"),
)

# Trained by examples/train_digits.py, which prepares its pictures like this.
_DIGITS_PREPROCESS = Preprocess((32, 32), 32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_EMBEDDED = (NamedModel("digits", "mobilenet_v2", "digits.pth", "digits", _DIGITS_PREPROCESS, embedded=True),)

MODELS: Mapping[str, NamedModel] = MappingProxyType({model.name: model for model in (*_EMBEDDED, *_TORCHVISION)})


def find(name: str) -> NamedModel:
    """The model of that name.

    Raises
    ------
    UnsupportedModelError
        There is none; says which names come close.
    """
    model = MODELS.get(name)
    if model is None:
        close = difflib.get_close_matches(name, MODELS, n=3) or sorted(MODELS)
        raise UnsupportedModelError(
            name, [f"expected a file that exists or the name of a model ({', '.join(close)}), found {name!r}"]
        )
    return model


def fetch(name: str, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """The path of a named model's weights, downloaded on first use.

    Parameters
    ----------
    name : one of MODELS.
    cache_dir : its subfolder ``weights`` keeps them; None takes SEPCORE_CACHE_DIR, else the user's cache folder.
    progress : whether to draw a progress bar on stderr; drawn only on a terminal.

    Returns
    -------
    A file whose SHA-256 was checked in this call against the digits in its published name.

    Raises
    ------
    UnsupportedModelError
        No such name.
    OptionError
        SEPCORE_WEIGHTS_URL is neither https nor this machine.
    DownloadError
        The weights cannot be reached, kept, or are not what was published; says what to do.
    """
    model = find(name)
    if model.embedded:
        return Path(__file__).parent / "data" / model.file
    candidates = cache_candidates(cache_dir)
    for candidate in candidates:
        path = Path(candidate, "weights", model.file)
        if _is_intact(path, model.checksum):
            return path
    folder = first_writable(candidates, f"{model.file} (the weights of {name})")
    if folder is None:
        tried = ", ".join(candidates) or "none"
        raise DownloadError(
            f"{name}: expected a cache folder that can be written, found none (tried {tried}); set SEPCORE_CACHE_DIR"
        )
    # The modules of the network are slow to import, and seldom needed.
    from sepcore.download import download

    path = Path(folder, "weights", model.file)
    download(name, weights_url(model), path, model.checksum, progress)
    return path


def weights_url(model: NamedModel) -> str:
    """Where a model's weights are fetched from: the published address, or the mirror that SEPCORE_WEIGHTS_URL names."""
    from sepcore.download import is_safe

    base = env_weights_url() or PUBLISHED_AT
    if not is_safe(base):
        raise OptionError(f"SEPCORE_WEIGHTS_URL: expected https://..., or http:// on this machine, found {base!r}")
    return f"{base.rstrip('/')}/{model.file}"


def _is_intact(path: Path, checksum: str) -> bool:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return False
    return digest.hexdigest().startswith(checksum)
