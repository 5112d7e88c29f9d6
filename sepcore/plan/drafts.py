"""Steps while a program is planned: operands are buffers that have no place yet."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sepcore.kernels.spec import KernelSpec
from sepcore.plan.program import Space
from sepcore.plan.select import Choice


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of an arena, a thread's scratch, or a caller's array; ``id`` is its identity, negative outside arenas.

    Weights are told apart by their ``key``.
    """

    id: int
    space: Space
    size: int
    image_bytes: int = 0
    index: int = 0
    key: Hashable = None


@dataclass(frozen=True)
class Draft:
    """A kernel call: see :class:`sepcore.plan.program.Step`.

    Attributes
    ----------
    operands : step word -> (buffer, offset into it in bytes).
    weights : step word -> key of packed weights.
    batched : whether it runs once for all images.
    choice : which its kernel came from, where there was one.
    epilogue : the function that the kernel calls on what it has stored, where its activation is CALL.
    chain : the rows of each tile, where the step is a chain; ``scratch`` the bytes they need.
    traffic : operand -> bytes of the map or array that is read or written there.
    """

    kernel: KernelSpec
    tiles: int
    words: dict[int, int]
    operands: dict[int, tuple[Buffer, int]]
    weights: dict[int, Hashable]
    node: str
    macs: int
    batched: bool
    choice: Choice[Any] | None = None
    epilogue: KernelSpec | None = None
    chain: Sequence[Sequence[Draft]] = ()
    scratch: int = 0
    traffic: Mapping[int, int] = field(default_factory=dict)
