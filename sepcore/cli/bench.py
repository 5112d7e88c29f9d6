"""``sepcore bench``: a network beside the same network in other runtimes; parses and prints."""

from __future__ import annotations

import os

import click

from sepcore.cli import printable


def _numbers(ctx: click.Context, option: click.Parameter, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise click.BadParameter(f"expected positive integers with commas between them, found {text!r}")
    return numbers


def _files(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    for text in given:
        if not all(text.partition("=")):
            raise click.BadParameter(f"expected PEER=PATH, found {text!r}")
    return {name: path for name, _, path in (text.partition("=") for text in given)}


@click.command()
@click.argument("model")
@click.option("--against", default="", help="Peers, with commas between them: litert,onnxruntime,openvino,ncnn,torch.")
@click.option("--threads", default="1", show_default=True, callback=_numbers, help="Threads per call: 1,2")
@click.option("--batch", default="1", show_default=True, callback=_numbers, help="Images per call: 1,8,32")
@click.option("--runs", type=click.IntRange(min=1), default=240, show_default=True, help="Timed calls an engine.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=8, show_default=True, help="Turns that they are spread over."
)
@click.option("--peer-file", "peer_files", multiple=True, callback=_files, metavar="PEER=PATH",
              help="A peer's file.  [default: MODEL's stem with .tflite, .onnx, .param or .pt2]")  # fmt: skip
@click.option("--input-size", type=click.IntRange(min=1), help="Side of the input, where the network takes any.")
@click.option("--format", "report_format", type=click.Choice(["table", "json", "markdown"]), default="table",
              show_default=True)  # fmt: skip
def bench(
    model: str,
    against: str,
    threads: list[int],
    batch: list[int],
    runs: int,
    rounds: int,
    peer_files: dict[str, str],
    input_size: int | None,
    report_format: str,
) -> None:
    """Time MODEL in sepcore and in other runtimes, by turns, each in a process of its own on CPUs of its own.

    A peer that is not installed, has no file or cannot run it is named and left out.
    """
    from sepcore.api import load
    from sepcore.bench.compare import Case, Comparison, compare, engine_files
    from sepcore.bench.limits import measure_peak
    from sepcore.bench.profile import input_shapes
    from sepcore.bench.report import comparison_text
    from sepcore.errors import OptionError
    from sepcore.kernels import isa

    files = engine_files(model, [name for name in against.split(",") if name], peer_files)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if max(threads) > cpus:
        raise OptionError(f"threads: expected at most the {cpus} CPUs this process may use, found {max(threads)}")
    net = load(model, num_threads=1)
    if len(net.inputs) != 1 or len(net.inputs[0].shape) != 4:
        raise OptionError(f"{model}: expected a network with one input of four axes, found {len(net.inputs)} inputs")
    macs = sum(step.macs for step in net.program(*input_shapes(net, 1, input_size)).steps)
    peak = measure_peak(isa.by_name(net.isa))
    entries, skipped = [], []
    for images in batch:
        (shape,) = input_shapes(net, images, input_size)
        net.program(shape)  # the network's own complaint, before any process is started
        for count in threads:
            measured, left_out = compare(files, Case(count, shape), macs, peak, runs, rounds)
            entries += measured
            skipped += left_out
    found = Comparison(printable(model), net.isa, peak, macs, tuple(entries), tuple(skipped))
    click.echo(comparison_text(found, report_format))
