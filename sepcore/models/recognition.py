"""Find the family and variant that a state dict belongs to by building each until one takes every tensor.

It must not know any single family; they are listed in ``sepcore.models.families``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sepcore.errors import OptionError, UnsupportedModelError
from sepcore.formats.checkpoint import Checkpoint
from sepcore.image.preprocess import Preprocess
from sepcore.ir.graph import Array, Graph
from sepcore.models.conventions import Conventions, check_overrides, overridden
from sepcore.models.families import FAMILIES
from sepcore.models.family import Family, Variant
from sepcore.models.model_config import ModelConfig, read_model_config
from sepcore.models.network import Network
from sepcore.models.weights import Mismatch, Weights

_KEYS_COMPARED = 4096
"""Keys that are looked at to find the closest family; no network here has more."""


@dataclass(frozen=True)
class Recognised:
    """A state dict made into a network.

    Attributes
    ----------
    family : where its layout comes from.
    arch : the variant's name.
    graph : input float32 (n, 3, h, w); output logits (n, num_classes), or features where ``num_classes`` is 0.
    preprocess : what it wants done to a picture.
    num_classes : how many classes it tells apart.
    conventions : what the weights do not say, as it was taken to be.
    labels : names of the classes, where a ``config.json`` beside the file gives them.
    """

    family: str
    arch: str
    graph: Graph
    preprocess: Preprocess
    num_classes: int
    conventions: Conventions
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class FamilyRow:
    """One row of the list of what can be recognised: a family, its variants' names and the overrides it knows."""

    family: str
    archs: tuple[str, ...]
    overrides: tuple[str, ...]


def families() -> list[FamilyRow]:
    """What can be recognised, family by family."""
    return [FamilyRow(f.name, tuple(v.arch for v in f.variants), f.overrides) for f in FAMILIES]


def recognise(checkpoint: Checkpoint, *, arch: str | None = None, **overrides: Any) -> Recognised:
    """Find the network whose state dict this is, and build its graph.

    What keys and shapes say (widths, depths, kernel sizes, classes) is taken from them. What they do not say comes from
    the family; a network that shares its keys with a more usual one (timm's ``tf_`` variants) must be asked for by
    name. A timm or Hugging Face ``config.json`` beside the file gives name, preprocessing and labels.

    Parameters
    ----------
    checkpoint : the state dict, with the path it was read from.
    arch : name of a variant in torchvision or timm; the state dict must then be one of it.
    overrides : ``padding="symmetric"`` or ``"same"``, ``bn_eps=``, ``activation=``, ``leaky_slope=``.

    Raises
    ------
    UnsupportedModelError
        No family fits; names the closest one's first mismatching key.
    OptionError
        ``arch`` or an override is unknown, or the family needs an override that is missing.
    FormatError
        The ``config.json`` is broken.
    """
    check_overrides(overrides)
    config = read_model_config(checkpoint.path)
    arch = _chosen(arch, config, checkpoint.path)
    attempts = Attempts(checkpoint.tensors)
    for family in FAMILIES:
        variant = attempts.variant(family, arch)
        if variant is not None:
            conventions = overridden(family.name, variant.conventions, overrides, family.overrides)
            graph, classes = attempts.build(family, variant, conventions)
            preprocess, labels = config.preprocess(variant.preprocess), config.labels(classes)
            return Recognised(family.name, variant.arch, graph, preprocess, classes, conventions, labels)
    raise UnsupportedModelError(checkpoint.path, attempts.problems(arch))


def _chosen(arch: str | None, config: ModelConfig, name: str) -> str | None:
    """The variant asked for: by the user or, if not, by the ``config.json``."""
    chosen = config.arch if arch is None else arch
    names = [variant.arch for family in FAMILIES for variant in family.variants]
    if chosen is None or chosen in names:
        return chosen
    close = difflib.get_close_matches(chosen, names, n=3)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    problem = f"expected a network that `sepcore models` lists, found {chosen[:80]!r}{meant}"
    if arch is not None:
        raise OptionError(f"arch: {problem}")
    raise UnsupportedModelError(name, [f"architecture in {config.path} (arch= overrides it): {problem}"])


@dataclass(frozen=True)
class _Failure:
    """How far one attempt came."""

    family: Family
    mismatch: Mismatch
    taken: int


class Attempts:
    """The attempts to build one state dict as each family, and why they failed."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors
        self._converted: dict[str, Array] = {}
        self._failures: list[_Failure] = []

    def variant(self, family: Family, arch: str | None) -> Variant | None:
        """The variant of ``family`` whose state dict this is, or None.

        Without a name the loosest variant is tried first: where that fails, the others need no trial.
        """
        if arch is not None:
            return self._first(family, [variant for variant in family.variants if variant.arch == arch])
        *sized, loosest = [variant for variant in family.variants if not variant.named_only]
        found = self._first(family, [loosest])
        return found and (self._first(family, sized) or found)

    def _first(self, family: Family, variants: Sequence[Variant]) -> Variant | None:
        for variant in variants:
            try:
                self.build(family, variant, variant.conventions)
            except Mismatch:
                continue
            return variant
        return None

    def build(self, family: Family, variant: Variant, conventions: Conventions) -> tuple[Graph, int]:
        """The graph, and the number of classes; a Mismatch is kept for :meth:`problems`."""
        weights = Weights(self._tensors, self._converted)
        net = Network(variant.arch, weights, conventions)
        try:
            head = family.build(net, variant)
            return net.build(head), head.classes
        except Mismatch as mismatch:
            self._failures.append(_Failure(family, mismatch, weights.taken))
            raise

    def problems(self, arch: str | None) -> list[str]:
        """What to tell about a state dict that no family takes."""
        closest = max(self._failures, key=lambda failure: (self._alike(failure.family), failure.taken))
        if arch is not None:
            return [f"not a state dict of {arch} ({closest.family.name}): {closest.mismatch}"]
        held = f"no family's state dict; held against {', '.join(family.name for family in FAMILIES)}"
        if not self._alike(closest.family):
            some = ", ".join(key[:80] for key, _ in zip(self._tensors, range(4))) or "no tensor"
            return [held, f"none of these families has such keys: {some}"]
        return [held, f"closest is {closest.family.name}: {closest.mismatch}"]

    def _alike(self, family: Family) -> int:
        """How many of the first keys are spelled as in ``family``."""
        return sum(re.match(family.keys, key) is not None for key in islice(self._tensors, _KEYS_COMPARED))
