"""``sepcore inspect``: what a model file holds and what becomes of it; prints what sepcore.inspection finds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sepcore.cli import EXIT_MODEL, complain, printable
from sepcore.cli.infer import infer
from sepcore.cli.tables import table

if TYPE_CHECKING:
    from sepcore.inspection import Opened, Plan, SeparableBlock
    from sepcore.ir.graph import Graph
    from sepcore.plan.program import Step

_AS_INFER = ("arch", "activation", "leaky_slope", "padding", "bn_eps", "input_size")
_STAGES = ("file", "graph", "fused", "plan")


@click.command(
    params=[option for option in infer.params if option.name in _AS_INFER],
    epilog="Exit codes: 0 all well, 2 wrong usage, 3 bad model, 130 interrupted.",
)
@click.argument("file")
@click.option(
    "--stage",
    type=click.Choice(_STAGES),
    help="Only this: the file's tensors, the graph as the file has it, the graph after all passes, or the plan.",
)
@click.option("--format", "layout", type=click.Choice(["table", "json", "dot"]), default="table", show_default=True)
def inspect(file: str, stage: str | None, layout: str, **overrides: Any) -> None:
    """Show what is in a model file and what becomes of it.

    FILE is a model file, or a name ('sepcore models'). Without --stage: its inputs and outputs, its layers after all
    passes with shapes, parameters and multiply-accumulates (MACs), what each depthwise-separable block saves, and the
    memory that the plan takes. dot draws a graph for Graphviz.
    """
    if layout == "dot" and stage in ("file", "plan"):
        raise click.UsageError(f"--format dot draws a graph: expected --stage graph or fused, found {stage}")
    chosen = {name: value for name, value in overrides.items() if value is not None}
    try:
        if stage == "file":
            text = _file(file, layout, chosen)
        else:
            text = _network(file, stage, layout, chosen)
    except OSError as error:
        complain(str(error))
        click.get_current_context().exit(EXIT_MODEL)
    click.echo(text, nl=not text.endswith("\n"))


def _file(file: str, layout: str, chosen: dict[str, Any]) -> str:
    if chosen:
        option = next(iter(chosen)).replace("_", "-")
        raise click.UsageError(f"--{option} says how a network is built; --stage file builds none")
    from sepcore.inspection import list_file

    kind, entries = list_file(file)
    if layout == "json":
        return json.dumps({"format": kind, "entries": [asdict(entry) for entry in entries]}, indent=1)
    lines = [(e.name, e.dtype or "", "" if e.shape is None else _shape(e.shape), f"{e.bytes:,}") for e in entries]
    total = (f"{len(entries)} entries", "", "", f"{sum(entry.bytes for entry in entries):,}")
    return f"format: {kind}\n\n" + table(("name", "dtype", "shape", "bytes"), [*lines, total])


def _network(file: str, stage: str | None, layout: str, chosen: dict[str, Any]) -> str:
    from sepcore.inspection import fused, open_network, planned, separable_blocks
    from sepcore.ir.dump import to_dot, to_json, to_text

    opened = open_network(file, **chosen)
    graph = opened.network.graph if stage == "graph" else fused(opened)
    if layout == "dot":
        return to_dot(graph, opened.shapes)
    plan = planned(graph) if stage in (None, "plan") else None
    blocks = separable_blocks(graph, opened.shapes) if stage != "plan" else []
    if layout == "json":
        document = _heading_json(opened, graph)
        if stage != "plan":
            document["graph"] = json.loads(to_json(graph, opened.shapes))
            document["separable_blocks"] = [{**asdict(block), "saving": block.saving} for block in blocks]
        if plan is not None:
            document["plan"] = _plan_json(plan)
        return json.dumps(document, indent=1)
    parts = [_heading(opened, graph)]
    if stage != "plan":
        parts.append(to_text(graph, opened.shapes))
        if blocks:
            parts.append(_blocks(blocks))
    if plan is not None:
        parts.append(_memory(plan))
        if stage == "plan":
            parts.append(table(("kernel", "runs per", "tiles", "MACs", "node"), list(_steps(plan))))
    return "\n".join(parts)


def _heading_json(opened: Opened, graph: Graph) -> dict[str, Any]:
    from sepcore.ir.infer import infer_shapes

    values = infer_shapes(graph, opened.shapes)
    return {
        "file": opened.path,
        "format": opened.format,
        "family": opened.network.family,
        "arch": opened.network.arch,
        "inputs": [{"name": v.name, "shape": list(opened.shapes[v.name]), "dtype": str(v.dtype)} for v in graph.inputs],
        "outputs": [
            {"name": name, "shape": list(values[name].shape), "dtype": str(values[name].dtype)}
            for name in graph.outputs
        ],
    }


def _heading(opened: Opened, graph: Graph) -> str:
    found = _heading_json(opened, graph)
    lines = [(key, str(found[key])) for key in ("file", "format", "family", "arch")]
    for key in ("inputs", "outputs"):
        lines += [(key[:-1], f"{v['name']}: {v['dtype']}{_shape(v['shape'])}") for v in found[key]]
    return "".join(f"{key + ':':8} {printable(text)}\n" for key, text in lines)


def _blocks(blocks: Sequence[SeparableBlock]) -> str:
    """Each block beside the dense convolution it replaces, weights alone."""
    head = ("depthwise", "pointwise", "kernel", "channels", "parameters", "MACs", "dense parameters", "dense MACs",
            "saving")  # fmt: skip
    lines = [
        (
            b.depthwise,
            b.pointwise,
            f"{b.kernel[0]}x{b.kernel[1]}",
            f"{b.ic}->{b.oc}",
            f"{b.parameters:,}",
            f"{b.macs:,}",
            f"{b.dense_parameters:,}",
            f"{b.dense_macs:,}",
            f"{b.saving:.1f}x",
        )
        for b in blocks
    ]
    parameters, macs = sum(b.parameters for b in blocks), sum(b.macs for b in blocks)
    dense_parameters, dense_macs = sum(b.dense_parameters for b in blocks), sum(b.dense_macs for b in blocks)
    total = (f"{len(blocks)} blocks", "", "", "", f"{parameters:,}", f"{macs:,}", f"{dense_parameters:,}",
             f"{dense_macs:,}", f"{dense_macs / macs:.1f}x")  # fmt: skip
    title = "Depthwise-separable blocks, and the dense convolution that each replaces (weights without biases)\n"
    return title + table(head, [*lines, total])


def _plan_json(plan: Plan) -> dict[str, Any]:
    program = plan.program
    return {
        "isa": program.isa,
        "threads": program.threads,
        "weight_bytes": plan.weight_bytes,
        "private_bytes": program.private_bytes,
        "shared_bytes": program.shared_bytes,
        "scratch_bytes": program.scratch_bytes,
        "kernels": list(program.kernels()),
        "image_steps": [_step_json(step) for step in program.image_steps],
        "batch_steps": [_step_json(step) for step in program.batch_steps],
    }


def _step_json(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = {"kernel": step.kernel, "tiles": step.tiles, "macs": step.macs, "node": step.node}
    return {**found, "chain": [[part.kernel for part in tile] for tile in step.chain]} if step.chain else found


def _memory(plan: Plan) -> str:
    program = plan.program
    rows = (
        ("weights", plan.weight_bytes, "packed, shared by all sizes and threads"),
        ("arena", program.private_bytes, "activations of one image in flight"),
        ("shared", program.shared_bytes, "activations of one call"),
        ("scratch", program.scratch_bytes, "of each thread"),
    )
    title = f"Plan for {program.isa}, {program.threads} threads: {len(program.steps)} steps\n"
    return title + table(("memory", "bytes", "holds"), [(name, f"{size:,}", what) for name, size, what in rows])


def _steps(plan: Plan) -> Iterator[tuple[str, ...]]:
    """A line per step; below a chain, a line per kernel that each of its tiles runs."""
    program = plan.program
    for period, steps in (("image", program.image_steps), ("call", program.batch_steps)):
        for step in steps:
            yield step.kernel, period, str(step.tiles), f"{step.macs:,}" if step.macs else "", step.node
            inner = dict.fromkeys((part.kernel, part.node) for tile in step.chain for part in tile)
            yield from ((f"  {kernel}", "", "", "", node) for kernel, node in inner)


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
