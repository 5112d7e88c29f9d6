"""Where maps live that concat, split, slice and channel shuffle only rearrange, so that these nodes move nothing.

It must not know kernels, nor make steps.

Each channel of what such a node makes is a channel of a *leaf*, a map that some other node writes. Leaves that are read
together share a group's memory. In a *row* each pixel holds the leaves one behind the other, as a concat has them: what
reads the concat sees an ordinary map. As *planes* the leaves stand one behind the other as whole maps, for readers that
take channels from anywhere; a channel shuffle is then a matter of which channel is read when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepcore.ir.graph import Graph, Node, Value
from sepcore.plan.tensors import FLOAT, map_shape

Channels = NDArray[np.int64]
"""(c, 2): of each channel of a value, the number of its leaf and which of the leaf's channels it is."""

_CONFLICT_FLOATS = 1024 // FLOAT


@dataclass(frozen=True, slots=True)
class Home:
    """Where a leaf is to be written: ``first`` float of a group's memory, ``room`` floats from there in each pixel.

    What a kernel stores past the leaf's channels is overwritten by the leaves behind it, which are written later: the
    room ends where that is not so. ``grows`` : the room ends with the pixel, which could be made larger.
    """

    group: int
    first: int
    room: int
    grows: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where the channels of a rearranged value are: ``slots`` in floats from the start of a group's memory."""

    group: int
    slots: tuple[int, ...]
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Memory of leaves that are read together, ``floats`` in all; ``firsts`` says where in it each starts."""

    height: int
    width: int
    pixel: int
    floats: int
    firsts: Mapping[str, int]


@dataclass(frozen=True)
class Places:
    """What :func:`find_places` found.

    Attributes
    ----------
    homes : leaf -> where to write it. placed : rearranged value that is read -> where it is.
    parts : rearranged value that is read -> leaf, first channel: some neighbouring channels of one leaf.
    vanishing : names of the nodes that need no rule.
    last_use : value -> index of the last node that reads memory which the value has a part in.
    """

    groups: tuple[Group, ...] = ()
    homes: Mapping[str, Home] = field(default_factory=dict)
    placed: Mapping[str, Place] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    vanishing: frozenset[str] = frozenset()
    last_use: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Members:
    """A group while it is found: its leaves in order, those of them that are copied to it, and whether it is a row."""

    order: list[int]
    copied: set[int]
    row: bool


def find_places(
    graph: Graph,
    values: Mapping[str, Value],
    batched: frozenset[str],
    lanes: int,
    slack: Mapping[str, int],
    gathers: Callable[[Node, str], bool],
) -> Places:
    """Places for the values of a specialised graph.

    Parameters
    ----------
    values : concrete shapes of one image. batched : nodes that run once for all images; their values have no places.
    slack : leaf -> floats that its kernel stores past its channels padded to the ``lanes``, where there are any.
    gathers : whether a node takes the channels of a value that it reads from anywhere.
    """
    return _Search(graph, values, batched, lanes, gathers).places(slack)


class _Search:
    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, Value],
        batched: frozenset[str],
        lanes: int,
        gathers: Callable[[Node, str], bool],
    ) -> None:
        self.graph, self.batched, self.lanes, self.gathers = graph, batched, lanes, gathers
        self.sizes = {name: map_shape([int(d) for d in value.shape]) for name, value in values.items()}
        self.consumers = graph.consumers()
        self.index = {node.name: i for i, node in enumerate(graph.nodes)}
        # What no kernel writes, an input or a part of a map, is copied to where it is wanted.
        self.made = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
        self.leaves: list[str] = []
        self.origins: dict[str, Channels] = {}
        self.groups: list[_Members] = []
        self.home: dict[int, int] = {}
        self.found: dict[str, tuple[int, Channels]] = {}
        self.traced: list[tuple[str, Channels]] = []
        self.parts: dict[str, tuple[str, int]] = {}
        self.views: set[int] = set()

    def places(self, slack: Mapping[str, int]) -> Places:
        for node in self.graph.nodes:
            if not self._rearranges(node):
                continue
            for name, origin in zip(node.outputs, self._rearranged(node)):
                self._trace(name, origin)
                if self._is_read(name) and not self._place(name, origin) and not self._place_joined(node):
                    self._leaf(name)
        groups = [self._laid_out(number, slack) for number in range(len(self.groups))]
        placed = {name: self._placed(number, origin, groups[number]) for name, (number, origin) in self.found.items()}
        return Places(
            tuple(groups),
            self._homes(groups, placed),
            placed,
            self.parts,
            self._vanishing(),
            self._last_use(),
        )

    # --- which leaf's channel each channel is -----------------------------------------------------------------------

    def _rearranges(self, node: Node) -> bool:
        """Whether the node only takes channels of maps."""
        names = [*node.inputs, *node.outputs]
        sizes = [self.sizes.get(name) for name in names]
        if node.name in self.batched or any(size is None or size[1] * size[2] == 1 for size in sizes):
            return False
        if node.op in ("concat", "split"):
            return bool(node.attrs["axis"] == 1)
        if node.op == "slice":
            whole = [size[1:] == self.sizes[node.inputs[0]][1:] for size in sizes if size]  # type: ignore[index]
            return all(whole) and all(node.attrs["steps"][axis] == 1 for axis in (2, 3))
        return node.op in ("channel_shuffle", "identity")

    def _rearranged(self, node: Node) -> list[Channels]:
        """The channels of each output."""
        inputs = [self._origin(name) for name in node.inputs]
        if node.op == "concat":
            return [np.concatenate(inputs)]
        (x,) = inputs
        if node.op == "split":
            return np.split(x, np.cumsum(node.attrs["sizes"])[:-1])
        if node.op == "slice":
            first, step = node.attrs["starts"][1], node.attrs["steps"][1]
            return [x[first + step * np.arange(self._channels(node.output))]]
        if node.op == "channel_shuffle":
            return [x.reshape(node.attrs["groups"], -1, 2).swapaxes(0, 1).reshape(-1, 2)]
        return [x]

    def _origin(self, name: str) -> Channels:
        return self.origins[name] if name in self.origins else self._leaf(name)

    def _trace(self, name: str, origin: Channels) -> None:
        self.origins[name] = origin
        self.traced.append((name, origin))

    def _leaf(self, name: str) -> Channels:
        """What is made of ``name`` from here on has its channels, not those of the leaves that it is made of."""
        self.leaves.append(name)
        self._trace(name, self._own(len(self.leaves) - 1))
        return self.origins[name]

    def _channels(self, name: str) -> int:
        size = self.sizes[name]
        assert size is not None
        return size[0]

    # --- who is where -----------------------------------------------------------------------------------------------

    def _readers(self, name: str) -> list[Node]:
        return [node for node in self.consumers.get(name, ()) if not self._rearranges(node)]

    def _is_read(self, name: str) -> bool:
        return name in self.graph.outputs or bool(self._readers(name))

    def _place(self, name: str, origin: Channels) -> bool:
        """Find the value a place among its leaves; False where it must be copied."""
        if self._is_part(origin):
            self.parts[name] = (self.leaves[int(origin[0, 0])], int(origin[0, 1]))
            return True
        leaves = list(dict.fromkeys(origin[:, 0].tolist()))
        number = self._row(leaves) if self._is_whole(origin) else None
        once = len(np.unique(origin, axis=0)) == len(origin)
        gathered = (
            once and name not in self.graph.outputs and all(self.gathers(node, name) for node in self._readers(name))
        )
        if number is None and gathered:
            number = self._planes(leaves)
        if number is not None:
            self.found[name] = number, origin
        return number is not None

    def _place_joined(self, node: Node) -> bool:
        """Find a concat a place with those of its inputs that are not whole leaves as leaves of their own."""
        if node.op != "concat":
            return False
        for name in node.inputs:
            origin = self.origins[name]
            if not self._is_whole(origin):
                if self._is_part(origin):
                    self.parts[name] = (self.leaves[int(origin[0, 0])], int(origin[0, 1]))
                    self.views.add(len(self.leaves))
                self._leaf(name)
        (origin,) = self._rearranged(node)
        self._trace(node.output, origin)
        return self._place(node.output, origin)

    def _is_part(self, origin: Channels) -> bool:
        """Whether these are neighbouring channels of one leaf."""
        return bool((np.diff(origin, axis=0) == [0, 1]).all())

    def _is_whole(self, origin: Channels) -> bool:
        """Whether these are all channels of one leaf after another, each leaf once."""
        leaves = dict.fromkeys(origin[:, 0].tolist())
        return np.array_equal(np.concatenate([self._own(leaf) for leaf in leaves]), origin)

    def _own(self, leaf: int) -> Channels:
        count = self._channels(self.leaves[leaf])
        return np.stack([np.full(count, leaf), np.arange(count)], axis=1)

    def _writable(self, leaf: int) -> bool:
        return leaf not in self.home and leaf not in self.views and self.leaves[leaf] in self.made

    def _row(self, leaves: list[int]) -> int:
        """The group that has the leaves side by side; one that can be extended; else a new one."""
        rows = [number for number, group in enumerate(self.groups) if group.row]
        for number in rows:
            if _position(leaves, self.groups[number].order) is not None:
                return number
        for number in rows:
            group = self.groups[number]
            if _position(group.order, leaves) is not None:
                self._join(number, [leaf for leaf in leaves if leaf not in group.order])
                group.order = leaves
                return number
        self.groups.append(_Members(leaves, set(), True))
        self._join(len(self.groups) - 1, leaves)
        return len(self.groups) - 1

    def _join(self, number: int, leaves: Iterable[int]) -> None:
        for leaf in leaves:
            if self._writable(leaf):
                self.home[leaf] = number
            else:
                self.groups[number].copied.add(leaf)

    def _planes(self, leaves: list[int]) -> int | None:
        """The group that has all of the leaves, made one where they are in several."""
        numbers = sorted({self.home[leaf] for leaf in leaves if leaf in self.home})
        new = [leaf for leaf in leaves if leaf not in self.home]
        if len(numbers) == 1 and not new:
            return numbers[0]
        if any(self.groups[number].row for number in numbers) or not all(map(self._writable, new)):
            return None
        if not numbers:
            self.groups.append(_Members([], set(), False))
            numbers = [len(self.groups) - 1]
        kept = self.groups[numbers[0]]
        for number in numbers[1:]:
            new = self.groups[number].order + new
            self.groups[number].order = []
            for name, (other, origin) in self.found.items():
                self.found[name] = numbers[0] if other == number else other, origin
        kept.order += new
        self.home.update((leaf, numbers[0]) for leaf in new)
        return numbers[0]

    # --- in floats --------------------------------------------------------------------------------------------------

    def _padded(self, channels: int) -> int:
        return -(-channels // self.lanes) * self.lanes

    def _stored(self, leaf: int, slack: Mapping[str, int]) -> int:
        """Floats that the leaf's kernel writes in each pixel."""
        name = self.leaves[leaf]
        return self._padded(self._channels(name)) + slack.get(name, 0)

    def _laid_out(self, number: int, slack: Mapping[str, int]) -> Group:
        group = self.groups[number]
        if not group.order:
            return Group(0, 0, 0, 0, {})
        size = self.sizes[self.leaves[group.order[0]]]
        assert size is not None
        _, height, width = size
        counts = [self._channels(self.leaves[leaf]) for leaf in group.order]
        stored = [0 if leaf in group.copied else self._stored(leaf, slack) for leaf in group.order]
        if group.row:
            firsts = [0, *np.cumsum(counts)[:-1].tolist()]
            ends = [first + floats for first, floats in zip(firsts, stored)]
            pixel = max([sum(counts), *ends, *self._read_ends(number, firsts)])
        else:
            pixel = max(stored)
        pixel = self._padded(pixel)
        if pixel % _CONFLICT_FLOATS == 0:
            pixel += self.lanes
        # A vector that starts at any channel may reach past the last pixel; planes keep off the same cache sets too.
        floats = height * width * pixel + self.lanes
        if not group.row:
            firsts = [floats * i for i in range(len(group.order))]
            floats *= len(group.order)
        names = [self.leaves[leaf] for leaf in group.order]
        return Group(height, width, pixel, floats, dict(zip(names, firsts)))

    def _read_ends(self, number: int, firsts: Sequence[int]) -> list[int]:
        """Where the vectors end in which the values of a row are read."""
        order = self.groups[number].order
        return [
            firsts[order.index(int(origin[0, 0]))] + self._padded(len(origin))
            for other, origin in self.found.values()
            if other == number
        ]

    def _placed(self, number: int, origin: Channels, group: Group) -> Place:
        firsts = np.array([group.firsts.get(leaf, 0) for leaf in self.leaves])
        leaves = dict.fromkeys(self.leaves[leaf] for leaf in origin[:, 0].tolist())
        return Place(number, tuple((firsts[origin[:, 0]] + origin[:, 1]).tolist()), tuple(leaves))

    def _homes(self, groups: Sequence[Group], placed: Mapping[str, Place]) -> dict[str, Home]:
        """Homes of the leaves, with room up to the first leaf behind them that is written before them."""
        homes = {}
        for number, (members, group) in enumerate(zip(self.groups, groups)):
            joined = {leaf: self._joined(self.leaves[leaf], number, placed) for leaf in members.copied}
            written = {leaf: joined.get(leaf, self.made.get(self.leaves[leaf], -1)) for leaf in members.order}
            for i, leaf in enumerate(members.order):
                if leaf in members.copied:
                    continue
                first = group.firsts[self.leaves[leaf]]
                before = [other for other in members.order[i + 1 :] if written[other] < written[leaf]]
                end = group.firsts[self.leaves[before[0]]] if before and members.row else None
                room = group.pixel - (first if members.row else 0) if end is None else end - first
                homes[self.leaves[leaf]] = Home(number, first, room, end is None)
        return homes

    def _joined(self, leaf: str, number: int, placed: Mapping[str, Place]) -> int:
        """The node at which a leaf is copied to a group."""
        return min(self.made[name] for name, place in placed.items() if place.group == number and leaf in place.leaves)

    # --- what is left to do -----------------------------------------------------------------------------------------

    def _vanishing(self) -> frozenset[str]:
        """Nodes none of whose outputs must be made: each is placed, or read by vanishing nodes only."""
        vanishing: set[str] = set()
        for node in reversed(self.graph.nodes):
            if self._rearranges(node) and all(self._needs_no_memory(name, vanishing) for name in node.outputs):
                vanishing.add(node.name)
        return frozenset(vanishing)

    def _needs_no_memory(self, name: str, vanishing: set[str]) -> bool:
        if name in self.found or name in self.parts:
            return True
        if self.leaves[int(self.origins[name][0, 0])] == name:
            return False
        return not self._is_read(name) and all(node.name in vanishing for node in self.consumers.get(name, ()))

    def _last_use(self) -> dict[str, int]:
        """For every value that has a part in what is rearranged."""
        leaves = [-1] * len(self.leaves)
        touched = [(name, sorted({*origin[:, 0].tolist()})) for name, origin in self.traced]
        for name, numbers in touched:
            uses = [self.index[node.name] for node in self.consumers.get(name, ())]
            if name in self.graph.outputs:
                uses.append(len(self.graph.nodes))
            for leaf in numbers:
                leaves[leaf] = max([leaves[leaf], *uses])
        found: dict[str, int] = {}
        for name, numbers in touched:
            found[name] = max([found.get(name, -1), *(leaves[leaf] for leaf in numbers)])
        return found


def _position(part: Sequence[int], whole: Sequence[int]) -> int | None:
    """Where ``part`` stands in ``whole`` without a gap."""
    for first in range(len(whole) - len(part) + 1):
        if list(whole[first : first + len(part)]) == list(part):
            return first
    return None
