"""The state of planning one graph: which memory each value is in, and the steps made so far.

Rules (plan/rules_*.py) turn one node each into steps through this class; it must not know operators.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from hashlib import sha256
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.errors import PlanError
from sepcore.ir.graph import Graph, Node, Value
from sepcore.kernels import isa as isas
from sepcore.kernels import step as words
from sepcore.kernels.activation import codes
from sepcore.kernels.depthwise import rows as depthwise
from sepcore.kernels.elementwise import layout
from sepcore.kernels.spec import KernelSpec
from sepcore.plan.ahead import prefetch_ahead
from sepcore.plan.bands import fuse_bands
from sepcore.plan.drafts import Buffer, Draft
from sepcore.plan.places import Places
from sepcore.plan.program import Step
from sepcore.plan.resolve import arenas, resolved
from sepcore.plan.select import Choice, Parameters
from sepcore.plan.strided import copy, copy_channels
from sepcore.plan.tensors import FLOAT, Map, Plain, Tensor, View, contiguous, map_shape
from sepcore.plan.weights import WeightStore

_NO_TABLES: Mapping[int, Hashable] = MappingProxyType({})
_CONFLICT_BYTES = 1024  # pixels a multiple of this apart share so few cache sets that a window's taps evict each other


_WITH_EPILOGUE = frozenset({"pointwise", "crossed", "winograd", "depthwise", "stem", "conv"})
"""Kernels that end in ``kernels.activation.store``, and so can call a function on what they have stored."""


class Lowering:
    """One planning run. ``batch`` images per call, ``threads`` workers that may share a step."""

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, Value],
        isa: str,
        batch: int,
        threads: int,
        weights: WeightStore,
        tuned: Mapping[str, str],
    ) -> None:
        self.graph, self.values, self.batch, self.threads = graph, dict(values), batch, threads
        self.isa = isas.by_name(isa)
        self.weights = weights
        self._tuned = tuned
        self._choice: Choice[Any] | None = None
        self.tensors: dict[str, Tensor] = {}
        self.consumers = graph.consumers()
        self.batched_nodes: frozenset[str] = frozenset()
        self.places = Places()
        self.cramped: dict[str, int] = {}
        """Values that found no room where they were to be: what their kernels store past their padded channels."""
        self._drafts: list[Draft] = []
        self._buffers: list[Buffer] = []
        self._plains: dict[str, Plain] = {}
        self._ordered: dict[str, Map] = {}
        self._groups: dict[int, Buffer] = {}
        self._joined: set[tuple[int, str]] = set()
        self._left = Counter(name for node in graph.nodes for name in node.inputs)
        self._left.update(graph.outputs)
        self._node: Node | None = None
        self._index = -1
        self._zeros = 0
        self.scratch_bytes = 0
        self._batched_output = False

    # --- what rules ask for -------------------------------------------------------------------------------------

    def begin(self, node: Node) -> None:
        """The rules' steps from here on belong to ``node``."""
        if self._node is not None:
            self._left.subtract(self._node.inputs)
        self._node = node
        self._index += 1

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
        """Whether the current node, in one place, is the last to need ``name`` or another value in its memory."""
        buffer = self.tensors[name].buffer
        names = [other for other, tensor in self.tensors.items() if tensor.buffer is buffer]
        # Values that take their channels from here later may have no tensor yet.
        later = any(self.places.last_use.get(other, -1) > self._index for other in names)
        return not later and sum(self._left[other] for other in names) == 1

    def padded(self, channels: int) -> int:
        """Channels rounded up to the lanes."""
        return -(-channels // self.isa.lanes) * self.isa.lanes

    def pixel_bytes(self, floats: int, pixels: int) -> int:
        """Bytes from a pixel of so many floats to the next, where a map has ``pixels``."""
        size = FLOAT * floats
        return size + FLOAT * self.isa.lanes if pixels > 1 and size % _CONFLICT_BYTES == 0 else size

    def new_map(self, name: str, slack: int = 0) -> Map:
        """Memory for the value ``name`` as a map; ``slack`` floats more per pixel than the padded channels."""
        home = self.places.homes.get(name)
        if home is not None:
            if self.padded(self.shape(name)[1]) + slack <= home.room:
                made = self._in_group(home.group, self.shape(name)[1], home.first)
                self.tensors[name] = made
                return made
            if home.grows:
                self.cramped[name] = slack
        made = self._own_map(name, slack)
        self.tensors[name] = made
        return made

    def _own_map(self, name: str, slack: int = 0) -> Map:
        shape = self.shape(name)
        size = map_shape(shape)
        if size is None:
            raise self.fail(f"value {name!r}: expected (1, c, h, w) or (1, c) for one image, found shape {shape}")
        c, h, w = size
        # A value of the batch tail, or one that only the tail reads, holds every image of the call.
        shared = self.batched or (
            bool(self.consumers.get(name)) and all(u.name in self.batched_nodes for u in self.consumers[name])
        )
        pixel = self.pixel_bytes(self.padded(c) + slack, h * w)
        buffer = self._buffer(h * w * pixel, shared)
        return Map(buffer, h, w, c, pixel, 0, shared)

    def _in_group(self, number: int, channels: int, first: int) -> Map:
        """Channels of a group's memory, ``first`` floats from its start."""
        group = self.places.groups[number]
        if number not in self._groups:
            self._groups[number] = self.memory(FLOAT * group.floats)
        return Map(self._groups[number], group.height, group.width, channels, FLOAT * group.pixel, FLOAT * first)

    def settle(self, name: str) -> None:
        """Give a rearranged value its place; what is not written there yet is copied."""
        if name in self.places.parts:
            leaf, first = self.places.parts[name]
            x, count = self.view(leaf), self.shape(name)[1]
            whole = count == x.shape[1] and leaf in self.tensors
            self.tensors[name] = self.tensors[leaf] if whole else x.part(1, first, count)
        elif name in self.places.placed:
            place = self.places.placed[name]
            for leaf in place.leaves:
                self._join(place.group, leaf)
            first = place.slots[0]
            beside = place.slots == tuple(range(first, first + len(place.slots)))
            made = self._in_group(place.group, len(place.slots), first if beside else 0)
            self.tensors[name] = made if beside else replace(made, slots=place.slots)

    def _join(self, number: int, leaf: str) -> None:
        """Copy a leaf to its group where it was not written there."""
        count = self.shape(leaf)[1]
        there = self._in_group(number, count, self.places.groups[number].firsts[leaf])
        if self.tensors.get(leaf) != there and (number, leaf) not in self._joined:
            self._joined.add((number, leaf))
            copy_channels(self, leaf, there.view(self.shape(leaf)))

    def new_plain(self, name: str) -> Plain:
        """Memory for the value ``name`` in PyTorch's layout: the caller's where it is an output."""
        wanted = name in self.graph.outputs and not self.batched
        buffer = self._output(name, self.graph.outputs.index(name)) if wanted else None
        made = Plain(buffer or self.memory(FLOAT * prod(self.shape(name))), self.shape(name))
        self.tensors[name] = made
        return made

    def memory(self, size: int) -> Buffer:
        """Memory of one image for the steps of the current node, or longer."""
        return self._buffer(size, False)

    def _buffer(self, size: int, shared: bool) -> Buffer:
        total = size * self.batch if shared else size
        buffer = Buffer(len(self._buffers), "shared" if shared else "private", total, size if shared else 0)
        self._buffers.append(buffer)
        return buffer

    def alias(self, name: str, tensor: Tensor) -> None:
        """The value ``name`` is in the memory of ``tensor``."""
        self.tensors[name] = tensor

    def as_map(self, name: str) -> Map:
        """The value ``name`` as a map, copied where it is none or where the batch needs it in one place."""
        tensor = self.gathered_map(name)
        if not tensor.slots:
            return tensor
        if name not in self._ordered:
            made = self._own_map(name)
            copy_channels(self, name, made.view(self.shape(name)))
            self._ordered[name] = made
        return self._ordered[name]

    def gathered_map(self, name: str) -> Map:
        """As :meth:`as_map`, but channels may be anywhere: the map's ``slots`` say where."""
        tensor = self.tensors.get(name)
        if isinstance(tensor, Map) and (tensor.batched or not self.batched):
            return tensor
        if isinstance(tensor, View) and not self.batched:
            part = self._part_of_map(tensor)
            if part is not None:
                return part
        shape = self.shape(name)
        if map_shape(shape) is None:
            raise self.fail(f"input {name!r}: expected (1, c, h, w) or (1, c) for one image, found shape {shape}")
        view = self.view(name)
        made = self._own_map(name)
        self.tensors[name] = made
        if isinstance(tensor, Plain) and not self.batched:
            self._layout_step("pack", (tensor.buffer, 0), made.buffer, made, made.pixels)
        else:
            copy(self, view, made.view(shape), once_an_image=True)
        return made

    def _part_of_map(self, view: View) -> Map | None:
        """A view as a map, where its channels are dense and may be read up to the lanes."""
        size = map_shape(view.shape)
        if size is None:
            return None
        c, h, w = size
        channel, row, pixel = (*view.strides[1:], 0, 0)[:3]
        pixel = pixel if w > 1 else (row if h > 1 else FLOAT * self.padded(c))
        end = view.offset + (h * w - 1) * pixel + FLOAT * self.padded(c)
        size_bytes = view.buffer.image_bytes or view.buffer.size
        dense = (c == 1 or channel == FLOAT) and (h == 1 or row == w * pixel) and pixel >= FLOAT * c
        if not dense or end > size_bytes or view.buffer.space == "weights":
            return None
        return Map(view.buffer, h, w, c, pixel, view.offset, part=True)

    def as_plain(self, name: str) -> Plain:
        """The value ``name`` in PyTorch's layout, copied where it is not."""
        tensor = self.tensors.get(name)
        if isinstance(tensor, Plain):
            return tensor
        if name not in self._plains:
            made = Plain(self.memory(FLOAT * prod(self.shape(name))), self.shape(name))
            copy(self, self.view(name), made.view())
            self._plains[name] = made
        return self._plains[name]

    def view(self, name: str) -> View:
        """The value ``name``, a constant too, where and as it is in memory."""
        tensor = self.tensors.get(name)
        if tensor is None:
            return self.weights_view(self.constant(name))
        if isinstance(tensor, Map):
            return self.as_map(name).view(self.shape(name)) if tensor.slots else tensor.view(self.shape(name))
        return tensor.view() if isinstance(tensor, Plain) else tensor

    def weights_view(self, array: NDArray[Any]) -> View:
        """An array in the model's weights; arrays of the same content share one place."""
        content = np.ascontiguousarray(array, np.float32)
        key = self.weight(("array", sha256(content.tobytes()).digest(), content.shape), lambda: content)
        return contiguous(Buffer(-3, "weights", content.nbytes, key=key), array.shape)

    def table(self, entries: NDArray[np.int64]) -> Hashable:
        """A table of integers in the model's weights."""
        return self.weight(("table", entries.tobytes()), lambda: entries)

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
        """Copy the value ``name`` into the caller's output ``index``, unless it was written there."""
        self._node = None
        target = self._output(name, index)
        tensor = self.tensors.get(name)
        if isinstance(tensor, Plain) and tensor.buffer == target:
            return
        if isinstance(tensor, Map) and tensor.batched:
            self._batched_output = True
            self._layout_step("trim", (tensor.buffer, tensor.offset), target, tensor, self.batch)
            self._batched_output = False
        else:
            copy_channels(self, name, contiguous(target, self.shape(name)))

    def _output(self, name: str, index: int) -> Buffer:
        size = FLOAT * prod(self.shape(name))
        return Buffer(-1, "output", size, size, index)

    def split(self, units: int, smallest: int = 1) -> int:
        """How many tiles to divide ``units`` of work into: two a thread, none smaller than ``smallest`` units."""
        if self.workers == 1:
            return 1
        return max(1, min(2 * self.workers, units // max(1, smallest)))

    def pick(self, choice: Choice[Parameters]) -> Parameters:
        """The row for the current node's next step: the tuned one, else the cheapest by estimate."""
        self._choice = choice = choice.by(self.workers)
        return choice.pick(self._tuned)

    def forget_choice(self) -> None:
        """The next step comes from no choice."""
        self._choice = None

    def weight(self, key: Hashable, make: Callable[..., NDArray[Any]], *arguments: Any) -> Hashable:
        """Packed weights, made by ``make(*arguments)`` once per model."""
        return self.weights.reserve(key, make, *arguments)

    def zeros(self, size: int) -> None:
        """Have at least ``size`` bytes of zeros to point rows outside a map at."""
        self._zeros = max(self._zeros, size)

    def scratch(self, size: int) -> None:
        """Have at least ``size`` bytes of scratch memory in each thread."""
        self.scratch_bytes = max(self.scratch_bytes, size)

    def activation(self, node: Node, name: str = "activation") -> dict[int, int]:
        """The step words of a node's activation."""
        encoded = codes.encode(node.attrs.get(name), self.isa.name)
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
        extra: Map | tuple[Buffer, int] | None = None,
        weights: Hashable | None = None,
        tables: Mapping[int, Hashable] = _NO_TABLES,
        macs: int = 0,
        needs_zeros: bool = False,
        once_an_image: bool = False,
        more: Mapping[int, tuple[Buffer, int]] | None = None,
    ) -> None:
        """Add a kernel call; ``once_an_image`` even where the current node runs once for all images.

        ``tables`` : step word -> key of a block of the weights, beside the packed ``weights`` themselves. ``more`` :
        operands at words of the kernel's own, each with the bytes between images in the word behind.
        """
        operands = {words.X: _place(x), words.OUT: _place(out), **(more or {})}
        if extra is not None:
            operands[words.EXTRA] = _place(extra)
        blocks = {**tables} if weights is None else {**tables, words.WEIGHTS: weights}
        if needs_zeros:
            blocks[words.ZEROS] = "zeros"
        name = self._node.name if self._node else "output"
        batched = self.batched and not once_an_image
        tensors = {words.X: x, words.OUT: out} if extra is None else {words.X: x, words.OUT: out, words.EXTRA: extra}
        traffic = {word: self._tensor_bytes(tensor) for word, tensor in tensors.items()}
        self._drafts.append(
            Draft(kernel, tiles, dict(shape), operands, blocks, name, macs, batched, self._choice, traffic=traffic)
        )
        self._choice = None

    def _tensor_bytes(self, tensor: Map | tuple[Buffer, int]) -> int:
        if isinstance(tensor, Map):
            return FLOAT * tensor.pixels * self.padded(tensor.channels) * self.images
        return tensor[0].size

    def call_behind(self, name: str, epilogue: KernelSpec) -> bool:
        """Have the kernel that makes the map ``name`` call ``epilogue`` on what it stores, where it can.

        It can where its epilogue is free and the current node alone reads the map, which then holds the node's output.
        """
        tensor = self.tensors.get(name)
        assert self._node is not None
        placed = self._node.output in self.places.homes  # where what only rearranges channels expects it
        if not isinstance(tensor, Map) or placed or not self.only_consumer(name):
            return False
        if (position := self._only_step_at(tensor)) is None:
            return False
        draft = self._drafts[position]
        if draft.kernel.op not in _WITH_EPILOGUE or draft.words[words.ACTIVATION] != codes.LINEAR:
            return False
        if draft.kernel.op == "depthwise" and words.EXTRA in draft.operands:  # sums of what would be overwritten
            return False
        self._drafts[position] = replace(
            draft,
            words={**draft.words, words.ACTIVATION: codes.CALL},
            node=f"{draft.node}+{self._node.name}",
            epilogue=epilogue,
        )
        self.alias(self._node.output, tensor)
        return True

    def row_sums_behind(self, name: str) -> Map | None:
        """Have the depthwise layer that makes the map ``name`` add up each of its rows, where it can.

        It can where it applies no function of a user's. Returns the sums as a map one pixel wide.
        """
        x = self.tensors[name]
        if not isinstance(x, Map) or self.batched or (position := self._only_step_at(x)) is None:
            return None
        draft, row_bytes = self._drafts[position], FLOAT * self.padded(x.channels)
        if draft.kernel.op != "depthwise" or draft.words[words.ACTIVATION] == codes.CALL:
            return None
        if FLOAT * draft.words[depthwise.CHANNELS] != row_bytes:
            return None
        sums = Map(self.memory(x.height * row_bytes), x.height, 1, x.channels, row_bytes)
        self._drafts[position] = replace(draft, operands={**draft.operands, words.EXTRA: (sums.buffer, 0)})
        return sums

    def _only_step_at(self, tensor: Map) -> int | None:
        """The step that makes a map, where it makes all of it and nothing has read it yet."""
        users = [i for i, d in enumerate(self._drafts) if any(b is tensor.buffer for b, _ in d.operands.values())]
        if len(users) != 1 or self._drafts[users[0]].operands[words.OUT] != (tensor.buffer, tensor.offset):
            return None
        return users[0]

    # --- the end ------------------------------------------------------------------------------------------------

    def finish(self) -> tuple[tuple[Step, ...], tuple[Step, ...], int, int]:
        """Lay out memory and resolve every operand: image steps, batch steps, private and shared bytes."""
        size = self._zeros
        key = ("zeros", 1 << max(12, size.bit_length()))
        self.weights.reserve(key, lambda: np.zeros(key[1], np.uint8))
        self.weights.seal()
        images = [d for d in self._drafts if not d.batched]
        images = fuse_bands(images, self.workers, self.isa.name, self._tuned)
        self.scratch_bytes = max([self.scratch_bytes, *(d.scratch for d in images)])
        drafts = prefetch_ahead(images + [d for d in self._drafts if d.batched], self.weights)
        offsets, sizes = arenas(drafts)
        image_steps: list[Step] = []
        batch_steps: list[Step] = []
        for draft in drafts:
            (batch_steps if draft.batched else image_steps).append(resolved(draft, offsets, self.weights, key))
        return tuple(image_steps), tuple(batch_steps), sizes["private"], sizes["shared"]


def _place(tensor: Map | tuple[Buffer, int]) -> tuple[Buffer, int]:
    return (tensor.buffer, tensor.offset) if isinstance(tensor, Map) else tensor


def activation_words(encoded: tuple[int, float, float]) -> dict[int, int]:
    """Step words of an activation code and its two parameters."""
    code, p, q = encoded
    return {words.ACTIVATION: code, words.PARAMETERS: float_bits(p, q)}


def float_bits(p: float, q: float) -> int:
    """A step word that holds two float32 parameters, the first in the low half."""
    bits: int = struct.unpack("<q", struct.pack("<ff", p, q))[0]
    return bits
