"""Makes a program from a graph for one input shape: picks kernel rows, packs weights, lays out memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sepcore.errors import PlanError, UnsupportedModelError
from sepcore.ir.graph import Graph, Node, Value
from sepcore.ir.ops import custom
from sepcore.kernels.strided.rows import UNARY
from sepcore.plan import (
    rules_arithmetic,
    rules_conv,
    rules_custom,
    rules_pool,
    rules_product,
    rules_reduce,
    rules_resize,
    rules_shape,
    rules_transposed,
    support,
)
from sepcore.plan.drafts import Buffer
from sepcore.plan.lowering import Lowering
from sepcore.plan.places import find_places
from sepcore.plan.program import Program, TensorSpec
from sepcore.plan.select import NOTHING_TUNED
from sepcore.plan.tensors import FLOAT, Plain
from sepcore.plan.weights import WeightStore

Rule = Callable[[Lowering, Node], None]

_ACTIVATIONS = ("relu", "clamp", "leaky_relu", "hardswish", "hardsigmoid", "silu", "sigmoid")

RULES: Mapping[str, Rule] = {
    "conv2d": rules_conv.conv2d,
    "conv_transpose2d": rules_transposed.conv_transpose2d,
    "linear": rules_product.linear,
    "matmul": rules_product.matmul,
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), rules_pool.pool),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), rules_pool.adaptive_pool),
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min"), rules_reduce.reduce),
    **dict.fromkeys(("softmax", "log_softmax"), rules_reduce.softmax),
    **dict.fromkeys(_ACTIVATIONS, rules_arithmetic.activation),
    **dict.fromkeys(("gelu", *(name for name in UNARY if name not in ("gelu_tanh", "activation"))),
                    rules_arithmetic.unary),
    "prelu": rules_arithmetic.prelu,
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "maximum", "minimum"), rules_arithmetic.binary),
    **dict.fromkeys(("flatten", "reshape", "squeeze", "unsqueeze"), rules_shape.reshape),
    "identity": rules_shape.identity,
    "transpose": rules_shape.transpose,
    "expand": rules_shape.expand,
    "slice": rules_shape.slice_,
    "split": rules_shape.split,
    "concat": rules_shape.concat,
    "channel_shuffle": rules_shape.channel_shuffle,
    "pad": rules_shape.pad,
    "resize": rules_resize.resize,
}  # fmt: skip

_VECTOR_OPS = frozenset(
    {"linear", "relu", "clamp", "leaky_relu", "hardswish", "hardsigmoid", "silu", "sigmoid", "flatten", "reshape"}
)


def unsupported(graph: Graph) -> list[str]:
    """One line for every input and node of a specialised graph that cannot be planned."""
    return support.unsupported(graph, RULES.keys() | custom.registered().keys())


def plan(
    graph: Graph,
    values: Mapping[str, Value],
    *,
    isa: str,
    batch: int,
    threads: int,
    weights: WeightStore,
    tuned: Mapping[str, str] = NOTHING_TUNED,
) -> Program:
    """A program that runs ``graph`` on ``batch`` images.

    Parameters
    ----------
    graph : after all passes, specialised to one image; ``values`` its concrete shapes.
    weights : the model's packed weights; what is new is added.
    tuned : choice -> row to take, see ``sepcore.plan.select.Choice``; others are chosen by estimated cost.

    Raises
    ------
    UnsupportedModelError : operators without a rule, all of them.
    PlanError : a node that no kernel row covers in this shape.
    """
    problems = unsupported(graph)
    if problems:
        raise UnsupportedModelError(graph.name, problems)
    with weights.lock:
        try:
            return _plan(graph, values, isa, batch, threads, weights, tuned)
        except PlanError:
            weights.discard()
            raise


def _plan(
    graph: Graph,
    values: Mapping[str, Value],
    isa: str,
    batch: int,
    threads: int,
    weights: WeightStore,
    tuned: Mapping[str, str],
) -> Program:
    p = _lowered(graph, values, isa, batch, threads, weights, tuned, {})
    if p.cramped:
        # Only now is it known what their kernels store past their channels: with room for that they stay in place.
        weights.discard()
        p = _lowered(graph, values, isa, batch, threads, weights, tuned, p.cramped)
    image_steps, batch_steps, private, shared = p.finish()

    def spec(name: str) -> TensorSpec:
        shape = tuple(int(d) for d in values[name].shape)
        return TensorSpec(name, (shape[0] * batch, *shape[1:]) if shape else ())

    return Program(
        name=graph.name,
        isa=isa,
        batch=batch,
        threads=threads,
        image_steps=image_steps,
        batch_steps=batch_steps,
        inputs=tuple(spec(v.name) for v in graph.inputs),
        outputs=tuple(spec(name) for name in graph.outputs),
        private_bytes=private,
        shared_bytes=shared,
        scratch_bytes=p.scratch_bytes,
        keep_alive=weights,
    )


def _lowered(
    graph: Graph,
    values: Mapping[str, Value],
    isa: str,
    batch: int,
    threads: int,
    weights: WeightStore,
    tuned: Mapping[str, str],
    slack: Mapping[str, int],
) -> Lowering:
    """Every node's steps; ``slack`` is what kernels of a lowering before this one found no room for."""
    p = Lowering(graph, values, isa, batch, threads, weights, tuned)
    p.batched_nodes = _tail(graph, values)
    gathers = partial(rules_conv.gathers, graph, p.isa.name)
    p.places = find_places(graph, values, p.batched_nodes, p.isa.lanes, slack, gathers)
    for index, value in enumerate(graph.inputs):
        shape = tuple(int(d) for d in values[value.name].shape)
        size = FLOAT
        for d in shape:
            size *= d
        p.alias(value.name, Plain(Buffer(-1, "input", size, size, index), shape))
    for node in graph.nodes:
        p.begin(node)
        if node.name not in p.places.vanishing:
            RULES.get(node.op, rules_custom.operator)(p, node)
        for name in node.outputs:
            p.settle(name)
    for index, name in enumerate(graph.outputs):
        p.write_output(name, index)
    return p


def _tail(graph: Graph, values: Mapping[str, Value]) -> frozenset[str]:
    """Nodes at the end that work on vectors only: they run once on all images, so weights are read once a batch."""
    consumers = graph.consumers()
    tail: set[str] = set()

    def is_vector(name: str) -> bool:
        shape = values[name].shape
        return shape[0] == 1 and (len(shape) == 2 or (len(shape) == 4 and tuple(shape[2:]) == (1, 1)))

    for node in reversed(graph.nodes):
        operands = [name for name in node.inputs if name and name not in graph.constants]
        if (
            (node.op in _VECTOR_OPS or rules_conv.is_pointwise(graph, node))
            and len(operands) == 1
            and is_vector(operands[0])
            and is_vector(node.output)
            and operands[0] not in graph.outputs
            and all(u.name in tail for u in consumers.get(node.output, ()))
        ):
            tail.add(node.name)
    # A value that both the tail and other nodes read would need two homes: keep such nodes with the images.
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            readers = consumers.get(node.inputs[0], ())
            produced_by_input = node.inputs[0] in {v.name for v in graph.inputs}
            if node.name in tail and (produced_by_input or not all(u.name in tail for u in readers)):
                tail.discard(node.name)
                changed = True
        for node in graph.nodes:
            if node.name in tail and not all(u.name in tail for u in consumers.get(node.output, ())):
                tail.discard(node.name)
                changed = True
    return frozenset(tail)
