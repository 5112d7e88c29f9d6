"""Find the state dict in what a training script saved, and free its keys of wrappers' prefixes.

Nothing here knows a network: keys are judged by their form alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from sepcore.errors import FormatError
from sepcore.formats.torch_tensors import Tensor

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep a state dict, best first: averaged weights are the ones to run."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before every key."""

MAX_NESTING = 4
_AVERAGE_COUNTER = "n_averaged"

T = TypeVar("T")


@dataclass(frozen=True)
class StateDict:
    """A state dict found in a checkpoint.

    Parameters
    ----------
    tensors : key -> tensor, in the file's order, with the prefixes still on.
    wrapper : keys that lead to it, joined by dots; empty when the file holds nothing else.
    ignored : keys beside the state dict and keys in it whose values are no tensors.
    """

    tensors: Mapping[str, Tensor]
    wrapper: str
    ignored: tuple[str, ...]


def find_state_dict(path: str, root: object) -> StateDict:
    """Return the state dict that ``root``, a checkpoint's value, is or wraps.

    Raises
    ------
    FormatError : there is none; names what the file holds instead.
    """
    if not isinstance(root, dict):
        raise FormatError(
            path, "the pickled value", "a state dict: a dict of tensors", f"a value of type {type(root).__name__}"
        )
    trail = _find(root, set())
    if trail is None:
        keys = ", ".join(repr(key)[:80] for key, _ in zip(root, range(8))) or "nothing"
        raise FormatError(path, "the pickled dict", f"tensors, or one of the keys {', '.join(WRAPPERS)}", f"{keys}")
    ignored: list[str] = []
    inner = root
    for name in trail:
        ignored += [str(key)[:80] for key in inner if key != name]
        inner = inner[name]
    tensors: dict[str, Tensor] = {}
    for key, value in inner.items():
        if not isinstance(value, Tensor):
            ignored.append(str(key)[:80])
        elif not isinstance(key, str):
            raise FormatError(path, f"key {key!r} of the state dict", "a string", f"a key of type {type(key).__name__}")
        else:
            tensors[key] = value
    return StateDict(tensors, ".".join(trail), tuple(ignored))


def _find(candidate: dict[object, object], seen: set[int]) -> list[str] | None:
    """Return the wrappers that lead from ``candidate`` to a dict with tensors; a file's dicts may be cyclic."""
    seen.add(id(candidate))
    for name in WRAPPERS:
        inner = candidate.get(name)
        if isinstance(inner, dict) and id(inner) not in seen and len(seen) < MAX_NESTING * len(WRAPPERS):
            trail = _find(inner, seen)
            if trail is not None:
                return [name, *trail]
    return [] if any(isinstance(value, Tensor) for value in candidate.values()) else None


def strip_prefixes(tensors: Mapping[str, T]) -> tuple[dict[str, T], str]:
    """Remove the prefixes that all keys share.

    ``torch.optim.swa_utils.AveragedModel`` keeps a counter ``n_averaged`` beside its ``module.`` keys: that is dropped.

    Returns
    -------
    the tensors under their shorter keys, and what was removed.
    """
    stripped, removed = dict(tensors), ""
    for _ in range(MAX_NESTING):
        names = [key for key in stripped if key != _AVERAGE_COUNTER]
        prefix = next((prefix for prefix in PREFIXES if names and all(key.startswith(prefix) for key in names)), None)
        if prefix is None:
            break
        stripped = {key[len(prefix) :]: stripped[key] for key in names}
        removed += prefix
    return stripped, removed
