"""The state of planning one graph: which memory each value is in, and the steps made so far.

Rules (plan/rules_*.py) turn one node each into steps through this class; it must not know operators.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.errors import PlanError
from sepcore.ir.graph import Graph, Node, Value
from sepcore.kernels import isa as isas
from sepcore.kernels import step as words
from sepcore.kernels.activation import codes
from sepcore.kernels.elementwise import layout
from sepcore.kernels.spec import KernelSpec
from sepcore.plan.bands import fuse_bands
from sepcore.plan.drafts import Buffer, Draft
from sepcore.plan.memory import Lifetime, lay_out
from sepcore.plan.program import Operand, Step
from sepcore.plan.weights import WeightStore

FLOAT = 4
_CONFLICT_BYTES = 1024  # pixels a multiple of this apart share so few cache sets that a window's taps evict each other


@dataclass(frozen=True, slots=True)
class Map:
    """A tensor of pixels x channels as the kernels want it: [height][width][channels padded to the lanes].

    A vector (n, c) is a map of one pixel. ``batched`` maps hold all images of a call, image after image.
    """

    buffer: Buffer
    height: int
    width: int
    channels: int
    pixel_bytes: int
    offset: int = 0
    batched: bool = False

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class Plain:
    """A tensor in PyTorch's layout: C-contiguous, no padding."""

    buffer: Buffer
    shape: tuple[int, ...]
    batched: bool = False


Tensor = Map | Plain


class Lowering:
    """One planning run. ``batch`` images per call, ``threads`` workers that may share a step."""

    def __init__(
        self, graph: Graph, values: Mapping[str, Value], isa: str, batch: int, threads: int, weights: WeightStore
    ) -> None:
        self.graph, self.values, self.batch, self.threads = graph, values, batch, threads
        self.isa = isas.by_name(isa)
        self.weights = weights
        self.tensors: dict[str, Tensor] = {}
        self.consumers = graph.consumers()
        self.batched_nodes: frozenset[str] = frozenset()
        self._drafts: list[Draft] = []
        self._buffers: list[Buffer] = []
        self._node: Node | None = None
        self._zeros = 0
        self.scratch_bytes = 0
        self._batched_output = False

    # --- what rules ask for -------------------------------------------------------------------------------------

    def begin(self, node: Node) -> None:
        """The rules' steps from here on belong to ``node``."""
        self._node = node

    @property
    def batched(self) -> bool:
        """Whether the current node runs once for all images."""
        return self._batched_output or (self._node is not None and self._node.name in self.batched_nodes)

    @property
    def workers(self) -> int:
        """Threads that share a step: of several images, each is one thread's own until the batch's steps."""
        return self.threads if self.batch == 1 or self.batched else 1

    @property
    def images(self) -> int:
        """Images that one step of the current node handles."""
        return self.batch if self.batched else 1

    def fail(self, reason: str) -> PlanError:
        """An error that names the current node."""
        node = self._node
        return PlanError(f"{node.op} {node.name!r}: {reason}" if node else reason)

    def constant(self, name: str) -> NDArray[Any]:
        """A constant of the graph."""
        if name not in self.graph.constants:
            raise self.fail(f"input {name!r}: expected a constant, found a computed value")
        return self.graph.constants[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The concrete shape of a value for one image."""
        return tuple(int(d) for d in self.values[name].shape)

    def only_consumer(self, name: str) -> bool:
        """Whether the current node is the last to need ``name``."""
        return len(self.consumers.get(name, ())) == 1 and name not in self.graph.outputs

    def padded(self, channels: int) -> int:
        """Channels rounded up to the lanes."""
        return -(-channels // self.isa.lanes) * self.isa.lanes

    def new_map(self, name: str, slack: int = 0) -> Map:
        """Memory for the value ``name`` as a map; ``slack`` floats more per pixel than the padded channels."""
        shape = self.shape(name)
        n, c, h, w = shape if len(shape) == 4 else (shape[0], shape[1], 1, 1)
        if n != 1:
            raise self.fail(f"output {name!r}: expected one image, found shape {shape}")
        # A value of the batch tail, or one that only the tail reads, holds every image of the call.
        shared = self.batched or (
            bool(self.consumers.get(name)) and all(u.name in self.batched_nodes for u in self.consumers[name])
        )
        pixel = FLOAT * (self.padded(c) + slack)
        if h * w > 1 and pixel % _CONFLICT_BYTES == 0:
            pixel += FLOAT * self.isa.lanes
        buffer = self._buffer(h * w * pixel, shared)
        made = Map(buffer, h, w, c, pixel, 0, shared)
        self.tensors[name] = made
        return made

    def new_plain(self, name: str) -> Plain:
        """Memory for the value ``name`` in PyTorch's layout."""
        shape = self.shape(name)
        made = Plain(self._buffer(FLOAT * int(np.prod(shape)), False), shape)
        self.tensors[name] = made
        return made

    def _buffer(self, size: int, shared: bool) -> Buffer:
        total = size * self.batch if shared else size
        buffer = Buffer(len(self._buffers), "shared" if shared else "private", total, size if shared else 0)
        self._buffers.append(buffer)
        return buffer

    def alias(self, name: str, tensor: Tensor) -> None:
        """The value ``name`` is in the memory of ``tensor``."""
        self.tensors[name] = tensor

    def as_map(self, name: str) -> Map:
        """The value ``name`` as a map; a copy step is added where it is in PyTorch's layout."""
        tensor = self.tensors[name]
        if isinstance(tensor, Map):
            return tensor
        if len(tensor.shape) not in (2, 4):
            raise self.fail(f"input {name!r}: expected 2 or 4 axes, found shape {tensor.shape}")
        made = self.new_map(name)
        self._layout_step("pack", (tensor.buffer, 0), made.buffer, made, made.pixels)
        return made

    def _layout_step(self, direction: str, x: tuple[Buffer, int], out: Buffer, shape: Map, pixels: int) -> None:
        blocks = 1 if direction == "trim" else self.split(pixels if direction == "pack" else shape.channels, 16)
        self.step(
            layout.row(direction, self.isa.name),
            blocks,
            {
                layout.PIXELS: pixels,
                layout.CHANNELS: shape.channels,
                layout.PIXEL: shape.pixel_bytes,
                layout.BLOCKS: blocks,
            },
            x=x,
            out=(out, 0),
        )

    def write_output(self, name: str, index: int) -> None:
        """Copy the value ``name`` into the caller's output ``index``."""
        self._node = None
        floats = int(np.prod(self.shape(name)))
        target = Buffer(-1, "output", FLOAT * floats, FLOAT * floats, index)
        tensor = self.tensors[name]
        if isinstance(tensor, Plain):
            whole = Map(tensor.buffer, 1, 1, floats, FLOAT * floats)
            self._layout_step("trim", (tensor.buffer, 0), target, whole, 1)
        elif tensor.pixels == 1:
            self._batched_output = tensor.batched
            self._layout_step(
                "trim", (tensor.buffer, tensor.offset), target, tensor, self.batch if tensor.batched else 1
            )
            self._batched_output = False
        else:
            self._layout_step("unpack", (tensor.buffer, tensor.offset), target, tensor, tensor.pixels)

    def split(self, units: int, smallest: int = 1) -> int:
        """How many tiles to divide ``units`` of work into: two a thread, none smaller than ``smallest`` units."""
        if self.workers == 1:
            return 1
        return max(1, min(2 * self.workers, units // max(1, smallest)))

    def weight(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> Hashable:
        """Packed weights, made once per model."""
        return self.weights.reserve(key, make)

    def zeros(self, size: int) -> None:
        """Have at least ``size`` bytes of zeros to point rows outside a map at."""
        self._zeros = max(self._zeros, size)

    def scratch(self, size: int) -> None:
        """Have at least ``size`` bytes of scratch memory in each thread."""
        self.scratch_bytes = max(self.scratch_bytes, size)

    def activation(self, node: Node, name: str = "activation") -> dict[int, int]:
        """The step words of a node's activation."""
        encoded = codes.encode(node.attrs.get(name))
        if encoded is None:
            raise self.fail(f"activation {node.attrs[name]!r}: no kernel applies it before the store")
        return activation_words(encoded)

    def step(
        self,
        kernel: KernelSpec,
        tiles: int,
        shape: Mapping[int, int],
        *,
        x: Map | tuple[Buffer, int],
        out: Map | tuple[Buffer, int],
        extra: Map | None = None,
        weights: Hashable | None = None,
        macs: int = 0,
        needs_zeros: bool = False,
    ) -> None:
        """Add a kernel call."""
        operands = {words.X: _place(x), words.OUT: _place(out)}
        if extra is not None:
            operands[words.EXTRA] = _place(extra)
        blocks = {} if weights is None else {words.WEIGHTS: weights}
        if needs_zeros:
            blocks[words.ZEROS] = "zeros"
        name = self._node.name if self._node else "output"
        self._drafts.append(Draft(kernel, tiles, dict(shape), operands, blocks, name, macs, self.batched))

    # --- the end ------------------------------------------------------------------------------------------------

    def finish(self) -> tuple[tuple[Step, ...], tuple[Step, ...], int, int]:
        """Lay out memory and resolve every operand: image steps, batch steps, private and shared bytes."""
        size = self._zeros
        key = ("zeros", 1 << max(12, size.bit_length()))
        self.weights.reserve(key, lambda: np.zeros(key[1], np.uint8))
        self.weights.seal()
        images = [d for d in self._drafts if not d.batched]
        images = fuse_bands(images, self.workers, self.isa.name)
        self.scratch_bytes = max([self.scratch_bytes, *(d.scratch for d in images)])
        drafts = images + [d for d in self._drafts if d.batched]
        offsets, sizes = self._arenas(drafts)
        image_steps: list[Step] = []
        batch_steps: list[Step] = []
        for draft in drafts:
            resolved = self._resolve(draft, offsets, key)
            (batch_steps if draft.batched else image_steps).append(resolved)
        return tuple(image_steps), tuple(batch_steps), sizes["private"], sizes["shared"]

    def _arenas(self, drafts: list[Draft]) -> tuple[dict[int, int], dict[str, int]]:
        offsets: dict[int, int] = {}
        sizes: dict[str, int] = {}
        for space in ("private", "shared"):
            lives: dict[int, Lifetime] = {}
            for i, draft in enumerate(drafts):
                for buffer, _ in draft.operands.values():
                    if buffer.space != space:
                        continue
                    # Shared memory is filled image by image, so all of it is alive from the first step on.
                    first = 0 if space == "shared" and not draft.batched else i
                    life = lives.get(buffer.id, Lifetime(buffer.size, first, i))
                    lives[buffer.id] = replace(life, first=min(life.first, first), last=max(life.last, i))
            at, sizes[space] = lay_out(list(lives.values()))
            offsets.update(zip(lives, at))
        return offsets, sizes

    def _resolve(self, draft: Draft, offsets: Mapping[int, int], zeros: Hashable) -> Step:
        operands: dict[int, Operand] = {}
        for word, (buffer, offset) in draft.operands.items():
            base = offsets.get(buffer.id, 0) if buffer.id >= 0 else 0
            image_bytes = 0 if draft.batched and buffer.space == "shared" else buffer.image_bytes
            operands[word] = Operand(buffer.space, base + offset, buffer.index, image_bytes)
        for word, key in draft.weights.items():
            operands[word] = Operand("weights", self.weights.address(zeros if key == "zeros" else key))
        chain = tuple(tuple(self._resolve(row, offsets, zeros) for row in run) for run in draft.chain)
        return Step(draft.kernel.name, draft.tiles, draft.words, operands, draft.node, draft.macs, chain)


def _place(tensor: Map | tuple[Buffer, int]) -> tuple[Buffer, int]:
    return (tensor.buffer, tensor.offset) if isinstance(tensor, Map) else tensor


def activation_words(encoded: tuple[int, float, float]) -> dict[int, int]:
    """Step words of an activation code and its two parameters."""
    code, p, q = encoded
    return {words.ACTIVATION: code, words.PARAMETERS: struct.unpack("<q", struct.pack("<ff", p, q))[0]}
