"""Take tensors out of a state dict: each one checked for dtype and shape before use, and ticked off.

It must not know a network or a graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from sepcore.ir.graph import Array

_NO_WEIGHTS = re.compile(r"(.*\.)?(num_batches_tracked|total_ops|total_params)")
"""BatchNorm's step counter, and what FLOP counters leave behind: of no meaning to inference."""

_INDEX = re.compile(r"[0-9]{1,4}")

Shape = tuple[int | None, ...]
"""An expected shape; None stands for any length of at least one."""


class Mismatch(Exception):
    """A state dict is not of the layout it is held against: ``key`` should be one thing and is another."""

    def __init__(self, key: str, expected: str, found: str) -> None:
        super().__init__(f"{key[:200]}: expected {expected}, found {found}")


def shape_text(shape: Shape) -> str:
    """``(None, 3, 3, 3)`` as ``[*, 3, 3, 3]``."""
    return f"[{', '.join('*' if length is None else str(length) for length in shape)}]"


class Weights:
    """The tensors of one state dict, as one attempt to recognise it takes them.

    Parameters
    ----------
    tensors : key -> array, as the file holds it.
    converted : float32 copies made so far, shared between attempts.
    """

    def __init__(self, tensors: Mapping[str, Array], converted: dict[str, Array] | None = None) -> None:
        self._tensors = tensors
        self._converted = {} if converted is None else converted
        self._taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    @property
    def taken(self) -> int:
        """How many tensors were taken so far."""
        return len(self._taken)

    def take(self, key: str, shape: Shape) -> Array:
        """The tensor ``key`` as float32.

        Raises
        ------
        Mismatch
            It is missing, has another shape, holds no floating-point numbers, or numbers that float32 cannot hold.
        """
        expected = f"a tensor of shape {shape_text(shape)}"
        if key not in self._tensors:
            raise Mismatch(key, expected, "none")
        array = self._tensors[key]
        fits = len(array.shape) == len(shape) and all(
            found >= 1 and wanted in (None, found) for found, wanted in zip(array.shape, shape)
        )
        if not fits:
            raise Mismatch(key, expected, shape_text(array.shape))
        if array.dtype.kind != "f":
            raise Mismatch(key, "floating-point numbers", str(array.dtype))
        self._taken.add(key)
        return self._float32(key, array)

    def _float32(self, key: str, array: Array) -> Array:
        if array.dtype == np.float32:
            return array
        if key not in self._converted:
            with np.errstate(over="ignore"):
                single = array.astype(np.float32)
            if array.dtype.itemsize > single.dtype.itemsize and (np.isinf(single) & np.isfinite(array)).any():
                raise Mismatch(key, "numbers within float32's range", f"{array.dtype} beyond it")
            self._converted[key] = single
        return self._converted[key]

    def count(self, prefix: str) -> int:
        """How many modules ``prefix.0``, ``prefix.1`` ... there are, by the highest index; 0 where there is none."""
        start = f"{prefix}."
        heads = (key[len(start) :].split(".", 1)[0] for key in self._tensors if key.startswith(start))
        return max((int(head) + 1 for head in heads if _INDEX.fullmatch(head)), default=0)

    def linear_layers(self, prefix: str) -> list[str]:
        """Paths of the linear layers at or under ``prefix``, in the file's order."""
        path = re.compile(re.escape(prefix) + r"(\..+)?\.weight")
        return [
            key.removesuffix(".weight")
            for key, array in self._tensors.items()
            if path.fullmatch(key) and array.ndim == 2
        ]

    def expect_all_taken(self) -> None:
        """Raise a Mismatch that names the first tensor nobody took."""
        for key, array in self._tensors.items():
            if key not in self._taken and not _NO_WEIGHTS.fullmatch(key):
                raise Mismatch(key, "no such tensor", shape_text(array.shape))
