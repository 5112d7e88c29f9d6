"""What every pass asks of a graph and how it writes its changes down.

It must not know any single pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import wraps

from sepcore.ir.graph import Array, Graph, Node, frozen, rebuilt

Pass = Callable[[Graph], Graph]
"""A pass takes a graph and returns one that means the same."""


def to_fixed_point(sweep: Pass) -> Pass:
    """``sweep``, repeated until it changes nothing."""

    @wraps(sweep)
    def run(graph: Graph) -> Graph:
        while True:
            swept = sweep(graph)
            if swept.nodes == graph.nodes:
                return swept
            graph = swept

    return run


class Rewrite:
    """One sweep over a graph.

    A pattern is matched upwards from its last node, and that node alone is replaced, by one that makes the same value
    from values made earlier. The rest of the pattern stays until :meth:`finish` drops what nothing reads any more. So
    matches may overlap, and no value ever changes its meaning or, if it is an output, its name.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.constants = dict(graph.constants)
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)
        self._uses.update(graph.outputs)
        self._taken = {*graph.constants, *self.producers, *(value.name for value in graph.inputs)}
        self._taken.update(node.name for node in graph.nodes)

    def producer(self, name: str, *ops: str) -> Node | None:
        """The node that makes ``name``, if it is one of ``ops``."""
        node = self.producers.get(name)
        return node if node is not None and node.op in ops else None

    def sole_producer(self, name: str, *ops: str) -> Node | None:
        """As :meth:`producer`, if ``name`` is read in one place only, which the caller is about to replace."""
        return self.producer(name, *ops) if self._uses[name] == 1 else None

    def constant(self, name: str) -> Array | None:
        """The content of the constant ``name``, if it is one."""
        return self.constants.get(name)

    def number(self, name: str) -> float | None:
        """The floating constant ``name`` as a number, if it is one that broadcasts to any shape without changing it."""
        array = self.constants.get(name)
        if array is None or array.dtype.kind != "f" or array.size != 1 or array.ndim > 1:
            return None
        return float(array.item())

    def add_constant(self, stem: str, array: Array) -> str:
        """Add a constant under a new name made from ``stem``."""
        name = self.new_name(stem)
        self.constants[name] = frozen(array)
        return name

    def new_name(self, stem: str) -> str:
        """A name made from ``stem`` that no value and no node has."""
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name

    def finish(self, nodes: Iterable[Node]) -> Graph:
        """The graph with ``nodes`` in place of its own, without those that nothing reads."""
        return rebuilt(self.graph, nodes, self.constants)


def replaced(graph: Graph, match: Callable[[Rewrite, Node], Node | None]) -> Graph:
    """One sweep: each node for which ``match`` finds another is replaced by it."""
    rewrite = Rewrite(graph)
    return rewrite.finish([match(rewrite, node) or node for node in graph.nodes])


def bypassed(graph: Graph, aliases: Mapping[str, str]) -> Graph:
    """The graph in which readers of each value in ``aliases`` read the other value instead.

    The names of the graph's outputs stay: an output that is an alias passes its name on to the value behind it. Where
    that value is itself an input, a constant or an output, an ``identity`` node remains.
    """

    def behind(name: str) -> str:
        while name in aliases:
            name = aliases[name]
        return name

    producers = graph.producers()
    passed_on: dict[str, str] = {}
    for name in graph.outputs:
        source = behind(name)
        if name in aliases and source in producers and source not in graph.outputs:
            passed_on.setdefault(source, name)

    def renamed(name: str) -> str:
        return passed_on.get(behind(name), behind(name))

    nodes = []
    for node in graph.nodes:
        if not any(name in aliases for name in node.outputs):
            inputs = tuple(renamed(name) for name in node.inputs)
            nodes.append(node.with_(inputs=inputs, outputs=tuple(passed_on.get(name, name) for name in node.outputs)))
        elif node.output in graph.outputs and node.output != renamed(node.output):
            nodes.append(node.with_(op="identity", inputs=(renamed(node.output),), attrs={}))
    return rebuilt(graph, nodes)
