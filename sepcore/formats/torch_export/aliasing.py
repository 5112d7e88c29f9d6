"""Keep track of what the names of a file stand for while in-place operations change tensors and views of them.

It must not know operators beyond which of them make views. PyTorch's exporter leaves in-place operations in the graph
unless ``run_decompositions`` is called; the graph here has none, so every name that a write reaches is bound anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sepcore.formats.torch_export.call import AtenCall, Operand, UnsupportedError

SAME = frozenset(
    (
        "aten.alias.default",
        "aten.detach.default",
        "aten.dropout.default",
        "aten.feature_dropout.default",
    )
)
"""Operators whose output is their input. An in-place variant of these writes nothing."""

VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        *("contiguous.default", "to.dtype", "to.dtype_layout", "to.device", "to.other", "type_as.default"),
        *("view.default", "reshape.default", "_unsafe_view.default", "view_as.default", "reshape_as.default"),
        *("flatten.using_ints", "unflatten.int", "squeeze.default", "squeeze.dim", "squeeze.dims"),
        *("unsqueeze.default", "permute.default", "transpose.int", "swapaxes.default", "t.default", "numpy_T.default"),
        *("movedim.int", "movedim.intlist", "expand.default", "expand_as.default", "as_strided.default"),
        *("slice.Tensor", "select.int", "narrow.default", "split.Tensor", "split_with_sizes.default", "chunk.default"),
        *("unbind.int", "pixel_shuffle.default", "channel_shuffle.default"),
    )
)
"""Operators whose outputs may share memory with their input ``self``."""

Scatter = Callable[[AtenCall, Operand, str], str]
"""From the call that made a view, what the view was made of and the view's new content to that of the whole."""


@dataclass(frozen=True)
class _View:
    call: AtenCall
    base: str


class Aliases:
    """The values that names stand for.

    Parameters
    ----------
    scatters : how a write to a view changes what it is a view of, by the operator that made the view.
    """

    def __init__(self, scatters: Mapping[str, Scatter]) -> None:
        self._scatters = scatters
        self._values: dict[str, Operand] = {}
        self._storage: dict[str, int] = {}
        self._members: list[list[str]] = []
        self._views: dict[str, _View] = {}

    def get(self, name: str) -> Operand | None:
        """What a name stands for at this point of the run."""
        return self._values.get(name)

    def bind(self, name: str, operand: Operand) -> None:
        """Let ``name`` stand for a tensor of its own memory."""
        self._values[name] = operand
        self._storage[name] = len(self._members)
        self._members.append([name])

    def bind_view(self, name: str, operand: Operand, base: str, call: AtenCall | None) -> None:
        """Let ``name`` stand for what shares memory with ``base``: a view that ``call`` makes, or the same tensor."""
        self._values[name] = operand
        self._storage[name] = self._storage[base]
        self._members[self._storage[base]].append(name)
        if call is not None:
            self._views[name] = _View(call, base)
        elif base in self._views:
            self._views[name] = self._views[base]

    def memory(self, name: str) -> int:
        """A number for the memory that a name's tensor lies in."""
        return self._storage[name]

    def write(self, name: str, content: str) -> tuple[list[AtenCall], list[str]]:
        """Give the tensor ``name`` new content, and with it all that share its memory.

        Returns
        -------
        calls that have made nodes for it, and the names whose content is not known any more.
        """
        new = {self._values[name].name: content}
        calls: list[AtenCall] = []
        written = name
        while written in self._views:
            view = self._views[written]
            scatter = self._scatters.get(view.call.node.target)
            if scatter is None:
                break
            base = self._values[view.base]
            try:
                new[base.name] = scatter(view.call, base, new[self._values[written].name])
            except UnsupportedError:
                break
            calls.append(view.call)
            written = view.base
        lost = []
        for member in self._members[self._storage[name]]:
            value = self._values[member]
            if value.name in new:
                self._values[member] = replace(value, name=new[value.name])
            else:
                lost.append(member)
        return calls, lost

    def lose(self, name: str, operand: Operand) -> None:
        """Let ``name`` stand for ``operand``, which says why its content is not known."""
        self._values[name] = operand
