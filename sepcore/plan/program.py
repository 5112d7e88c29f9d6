"""A program: the immutable list of kernel calls that runs one network for one input shape.

It holds no addresses: operands name a memory space and an offset, and the runtime turns them into addresses. It must
not know graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sepcore.plan.select import Choice

Space = Literal["private", "shared", "scratch", "weights", "input", "output"]
"""private: the arena of one image in flight. shared: the arena of one call. scratch: a thread's own memory.
weights: packed weights, by index of their region. input, output: the caller's arrays, by index."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Where a tensor is: ``offset`` bytes into a space; ``image_bytes`` from one image of a batch to the next."""

    space: Space
    offset: int
    index: int = 0
    image_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel call.

    Attributes
    ----------
    kernel : registry name.
    tiles : parts that may run at the same time.
    words : step word -> integer.
    operands : step word -> where the operand is; the word after it holds the bytes between images.
    node : the graph node it comes from, for messages and profiles.
    macs : multiply-adds of one run.
    chain : the steps that each tile runs one after another, where the step is a chain of them.
    choice : which its kernel came from, where there was one.
    map_bytes, weight_bytes : of the maps it reads and writes, and of its packed weights. These and ``choice`` are for
        those who measure, and not part of a file.
    epilogue : registry name of the function that the kernel calls on what it has stored (the activation CALL); empty
        where there is none.
    """

    kernel: str
    tiles: int
    words: Mapping[int, int]
    operands: Mapping[int, Operand]
    node: str
    macs: int = 0
    chain: tuple[tuple[Step, ...], ...] = ()
    choice: Choice[Any] | None = field(default=None, compare=False, repr=False)
    map_bytes: int = field(default=0, compare=False)
    weight_bytes: int = field(default=0, compare=False)
    epilogue: str = ""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a program: name and shape for one batch; float32."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Everything a context needs to run.

    Attributes
    ----------
    isa : name of the instruction set the kernels are for.
    batch : images per call.
    image_steps : run once for every image; batch_steps : run once, after all images, on all of them together.
    private_bytes, shared_bytes, scratch_bytes : sizes of the arenas, and of each thread's scratch memory.
    alone : a program of one thread that gives the same bits, for a caller that finds no others; None where this is one,
        or is for several images, which each thread takes alone.
    """

    name: str
    isa: str
    batch: int
    threads: int
    image_steps: tuple[Step, ...]
    batch_steps: tuple[Step, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    private_bytes: int
    shared_bytes: int
    scratch_bytes: int
    keep_alive: object = field(repr=False, compare=False, default=None)
    alone: Program | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in order."""
        return self.image_steps + self.batch_steps

    def kernels(self) -> tuple[str, ...]:
        """The kernels it calls, each once."""
        rows = (row for step in self.steps for run in step.chain for row in run)
        steps = (*self.steps, *rows)
        others = self.alone.kernels() if self.alone else ()
        return tuple(dict.fromkeys([s.kernel for s in steps] + [s.epilogue for s in steps if s.epilogue] + [*others]))
