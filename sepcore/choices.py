"""What users choose in place of what a file says of its pictures and classes; it must not know files or graphs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from sepcore.errors import OptionError
from sepcore.image.preprocess import Preprocess
from sepcore.labels import check_labels, read_labels

_IMAGENET_CLASSES = 1000


class Described(Protocol):
    """What is known of a network beside its graph."""

    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def family(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def labels(self) -> Sequence[str] | None: ...


Known = TypeVar("Known", bound=Described)


def as_asked(
    known: Known,
    labels: str | os.PathLike[str] | Sequence[str] | None,
    preprocess: Preprocess | None,
    input_size: int | tuple[int, int] | None,
) -> Known:
    """What is known of a network, with the preprocessing and labels that were asked for.

    Raises
    ------
    OptionError : there are not as many labels as classes, or no such input size.
    """
    chosen = preprocess or known.preprocess
    if input_size is not None:
        chosen = _resized(chosen, input_size)
    names = _labels(labels, known.labels, known.num_classes)
    check_labels(names, known.num_classes)
    return replace(known, preprocess=chosen, labels=names)  # type: ignore[type-var]


def _resized(preprocess: Preprocess, input_size: int | tuple[int, int]) -> Preprocess:
    """The preprocessing for another input size: the short side keeps its ratio to the crop."""
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(size) != 2 or not all(type(s) is int and s > 0 for s in size):
        raise OptionError(f"input_size: expected one or two positive integers, found {input_size!r}")
    resize = preprocess.resize
    if resize is not None:
        resize = max(1, round(resize * min(size) / min(preprocess.input_size)))
    return replace(preprocess, input_size=size, resize=resize)


def _labels(
    given: str | os.PathLike[str] | Sequence[str] | None, named: Sequence[str] | None, classes: int
) -> Sequence[str] | None:
    if given is None:
        if named is not None:
            return named
        return read_labels("imagenet1k") if classes == _IMAGENET_CLASSES else None
    if isinstance(given, (str, os.PathLike)):
        return read_labels(given)
    return list(given)
