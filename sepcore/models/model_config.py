"""The ``config.json`` that timm and Hugging Face keep beside a network's weights: its name, preprocessing and labels.

It must not know a network, nor trust a field before its type and range are checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sepcore.errors import FormatError
from sepcore.image.preprocess import INTERPOLATIONS, Preprocess

FILE_NAME = "config.json"
MAX_BYTES = 8 << 20
MAX_SIDE = 1 << 14

_HARMLESS_ARGUMENTS = ("num_classes", "drop_rate", "drop_path_rate", "global_pool")
_TIMM_CROP_PCT = 0.875


@dataclass(frozen=True)
class ModelConfig:
    """What a ``config.json`` says.

    Attributes
    ----------
    path : the file.
    arch : timm's name of the architecture, without the tag of its weights.
    changes : fields of :class:`Preprocess` that it sets.
    num_classes : number of classes.
    names : names of the classes.
    """

    path: str
    arch: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    num_classes: int | None = None
    names: tuple[str, ...] | None = None

    def preprocess(self, default: Preprocess) -> Preprocess:
        """``default`` with what the file sets."""
        return replace(default, **self.changes)

    def labels(self, num_classes: int) -> tuple[str, ...] | None:
        """Names of the ``num_classes`` classes that the weights tell apart, or None where the file names none.

        Raises
        ------
        FormatError
            The file speaks of another number of classes.
        """
        counts = {"num_classes": self.num_classes, "labels": None if self.names is None else len(self.names)}
        for where, count in counts.items():
            if num_classes and count not in (None, num_classes):
                raise FormatError(self.path, where, f"{num_classes} classes, as the weights have", str(count))
        return self.names if num_classes else None


def read_model_config(weights_path: str) -> ModelConfig:
    """Read the ``config.json`` beside a file of weights; one that is missing or of another kind says nothing.

    Raises
    ------
    FormatError
        It is too big, no JSON, or a field has a value that is not allowed or that sepcore cannot follow.
    """
    path = Path(weights_path).parent / FILE_NAME
    if not path.is_file():
        return ModelConfig(str(path))
    fields = _Fields(str(path), "", _load(path))
    if not any(name in fields.content for name in ("architecture", "pretrained_cfg", "label_names", "id2label")):
        return ModelConfig(str(path))
    nested = fields.get("pretrained_cfg", "an object", lambda found: isinstance(found, dict))
    picture = _Fields(str(path), "pretrained_cfg.", nested) if nested is not None else fields
    _check_arguments(fields)
    arch = fields.get("architecture", "a string", lambda found: isinstance(found, str))
    return ModelConfig(
        str(path),
        None if arch is None else arch.split(".")[0],
        _preprocess_changes(picture),
        fields.get("num_classes", "a number of classes", _is_count),
        _names(fields),
    )


def _load(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FormatError(str(path), "size", f"at most {MAX_BYTES} bytes", "more")
    try:
        loaded = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(str(path), "content", "JSON", f"{type(error).__name__}: {error}") from None
    if not isinstance(loaded, dict):
        raise FormatError(str(path), "content", "an object", type(loaded).__name__)
    return loaded


@dataclass(frozen=True)
class _Fields:
    """The fields of one JSON object; null counts as missing."""

    path: str
    prefix: str
    content: dict[str, Any]

    def get(self, name: str, expected: str, allowed: Callable[[Any], bool]) -> Any:
        """The field's value, checked; None where it is missing."""
        found = self.content.get(name)
        if found is not None and not allowed(found):
            raise FormatError(self.path, self.prefix + name, expected, repr(found)[:200])
        return found


def _is_count(found: Any) -> bool:
    return type(found) is int and 0 <= found <= 1 << 20


def _is_number(found: Any) -> bool:
    return type(found) in (int, float) and math.isfinite(found)


def _is_triple(allowed: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, list) and len(found) == 3 and all(map(allowed, found))


def _is_square(found: Any) -> bool:
    return _is_triple(_is_count)(found) and found[0] == 3 and found[1] == found[2] and 1 <= found[1] <= MAX_SIDE


def _preprocess_changes(fields: _Fields) -> dict[str, Any]:
    size = fields.get("input_size", "[3, side, side]", _is_square)
    crop_pct = fields.get("crop_pct", "a number in 0.1 ... 1", lambda found: _is_number(found) and 0.1 <= found <= 1)
    fields.get("crop_mode", "'center', the only crop that sepcore makes", lambda found: found == "center")
    mean = fields.get("mean", "three numbers", _is_triple(_is_number))
    std = fields.get("std", "three positive numbers", _is_triple(lambda found: _is_number(found) and found > 0))
    kinds = f"one of {', '.join(INTERPOLATIONS)}"
    interpolation = fields.get("interpolation", kinds, lambda found: found in INTERPOLATIONS)
    changes: dict[str, Any] = {}
    if size is not None:
        changes["input_size"] = (size[1], size[2])
        changes["resize"] = math.floor(size[1] / (crop_pct or _TIMM_CROP_PCT))
    if interpolation is not None:
        changes["interpolation"] = interpolation
    if mean is not None:
        changes["mean"] = tuple(map(float, mean))
    if std is not None:
        changes["std"] = tuple(map(float, std))
    return changes


def _check_arguments(fields: _Fields) -> None:
    """Refuse arguments of the network's constructor that would change its arithmetic unseen."""
    arguments = fields.get("model_args", "an object", lambda found: isinstance(found, dict)) or {}
    for name in arguments:
        if name not in _HARMLESS_ARGUMENTS:
            raise FormatError(
                fields.path,
                f"model_args.{name[:80]}",
                f"no argument but {', '.join(_HARMLESS_ARGUMENTS)} (take the file away and pass overrides instead)",
                repr(arguments[name])[:80],
            )
    for source in (fields.content, arguments):
        if source.get("global_pool") not in (None, "avg"):
            raise FormatError(fields.path, "global_pool", "'avg'", repr(source["global_pool"])[:80])


def _names(fields: _Fields) -> tuple[str, ...] | None:
    """Class names: timm's ``label_names``, described where it describes them, or Hugging Face's ``id2label``."""
    names = fields.get("label_names", "a list of strings", lambda found: _are_strings(found, list))
    descriptions = fields.get("label_descriptions", "an object of strings", lambda found: _are_strings(found, dict))
    by_index = fields.get("id2label", "an object of strings by class index", _are_by_index)
    if names is not None:
        return tuple((descriptions or {}).get(name, name) for name in names)
    return None if by_index is None else tuple(by_index[str(index)] for index in range(len(by_index)))


def _are_strings(found: Any, kind: type) -> bool:
    values = found.values() if isinstance(found, dict) else found
    return isinstance(found, kind) and all(isinstance(value, str) for value in values)


def _are_by_index(found: Any) -> bool:
    return _are_strings(found, dict) and all(str(index) in found for index in range(len(found)))
