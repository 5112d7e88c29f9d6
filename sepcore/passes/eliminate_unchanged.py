"""Drops the nodes that give back their input because of its shape or dtype.

It must not drop a node that moves an element.
"""

from __future__ import annotations

from collections.abc import Callable

from sepcore.ir.graph import Graph, Value
from sepcore.ir.infer import calls
from sepcore.ir.ops.operator import Call
from sepcore.passes.rewrite import bypassed, to_fixed_point


def _slice(call: Call) -> bool:
    return all(step > 0 for step in call.attr("steps"))


def _channel_shuffle(call: Call) -> bool:
    return call.attr("groups") in (1, call.shape("x")[1])


def _pool(call: Call) -> bool:
    """Without padding only a window of one element keeps the shape."""
    return not any(call.attr("padding")) and call.node.attrs.get("divisor") is None


def _resize(call: Call) -> bool:
    return call.attr("scales") in (None, (1.0, 1.0))


def _always(call: Call) -> bool:
    return True


_UNMOVED: dict[str, Callable[[Call], bool]] = {
    "reshape": _always,
    "expand": _always,
    "cast": _always,
    "pad": lambda call: not any(map(any, call.attr("pads"))),
    "split": _always,
    "slice": _slice,
    "channel_shuffle": _channel_shuffle,
    "reduce_mean": _always,
    "reduce_sum": _always,
    "reduce_max": _always,
    "reduce_min": _always,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "resize": _resize,
}
"""Operators that move no element under these conditions, where shape and dtype stay as they were."""


@to_fixed_point
def eliminate_unchanged(graph: Graph) -> Graph:
    """Drop nodes that change neither shape, dtype nor the place of any element, for inputs of the declared shapes."""
    aliases = {
        outputs[0].name: call.node.inputs[0] for call, outputs in calls(graph, {}) if _is_unchanged(call, outputs)
    }
    return bypassed(graph, aliases)


def _is_unchanged(call: Call, outputs: tuple[Value, ...]) -> bool:
    x, unmoved = call.inputs[0], _UNMOVED.get(call.node.op)
    return (
        unmoved is not None
        and x is not None
        and len(outputs) == 1
        and (x.shape, x.dtype) == (outputs[0].shape, outputs[0].dtype)
        and unmoved(call)
    )
