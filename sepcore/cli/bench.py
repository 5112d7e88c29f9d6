"""``sepcore bench``: networks beside the same networks in other runtimes; parses and prints."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

import click

from sepcore.cli import printable


def numbers(ctx: click.Context, option: click.Parameter, text: str | None) -> list[int]:
    """An option like ``1,2`` as integers of at least 1; none where it was not given."""
    try:
        found = [] if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if min(found, default=1) < 1:
        raise click.BadParameter(f"expected positive integers with commas between them, found {text!r}")
    return found


def _files(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    for text in given:
        if not all(text.partition("=")):
            raise click.BadParameter(f"expected PEER=PATH, found {text!r}")
    return {name: path for name, _, path in (text.partition("=") for text in given)}


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1)
@click.option("--against", default="", help="Peers, with commas between them: litert,onnxruntime,openvino,ncnn,torch.")
@click.option("--threads", default="1", show_default=True, callback=numbers, help="Threads per call: 1,2")
@click.option("--batch", default="1", show_default=True, callback=numbers, help="Images per call: 1,8,32")
@click.option("--runs", type=click.IntRange(min=1), default=240, show_default=True, help="Timed calls an engine.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=8, show_default=True, help="Turns that they are spread over."
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True,
              help="Most time for an engine's calls; slow ones are called less often.")  # fmt: skip
@click.option("--pause", type=click.FloatRange(min=0), default=0.0, show_default=True,
              help="Milliseconds to sleep before each call.")  # fmt: skip
@click.option("--peer-file", "peer_files", multiple=True, callback=_files, metavar="PEER=PATH",
              help="A peer's file.  [default: MODEL's stem with .tflite, .onnx, .param or .pt2]")  # fmt: skip
@click.option("--input-size", type=click.IntRange(min=1), help="Side of the input, where the network takes any.")
@click.option("--format", "report_format", type=click.Choice(["table", "json", "markdown", "summary"]), default="table",
              show_default=True, help="'summary' is one Markdown table with a row for each case.")  # fmt: skip
@click.option("--into", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Put the summary between the marks of a Markdown file.")  # fmt: skip
@click.option("--separable", is_flag=True, help="Time separable layers beside the dense ones they replace.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.svg",
              help="With --separable: draw it.")  # fmt: skip
def bench(
    models: tuple[str, ...],
    against: str,
    threads: list[int],
    batch: list[int],
    runs: int,
    rounds: int,
    seconds: float,
    pause: float,
    peer_files: dict[str, str],
    input_size: int | None,
    report_format: str,
    into: Path | None,
    separable: bool,
    plot: Path | None,
) -> None:
    """Time each MODEL in sepcore and in other runtimes, by turns, each in a process of its own on CPUs of its own.

    A peer that is not installed, has no file or cannot run it is named and left out. With --separable no MODEL is
    needed: depthwise and pointwise layers of MobileNetV1 are timed beside the dense convolutions they replace.
    """
    from sepcore.errors import OptionError

    if separable:
        if models:
            raise OptionError(f"--separable has layers of its own: expected no MODEL, found {models[0]}")
        _separable(threads, runs, report_format, plot)
        return
    if plot is not None:
        raise OptionError("--plot: expected --separable with it")
    if not models:
        raise click.UsageError("Missing argument 'MODEL...'.")
    if peer_files and len(models) > 1:
        raise OptionError(f"--peer-file: expected one MODEL, found {len(models)}")

    from sepcore.bench.compare import Comparison, Effort, compare_model
    from sepcore.bench.report import comparisons_text
    from sepcore.bench.summary import replaced, summary_text

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if max(threads) > cpus:
        raise OptionError(f"threads: expected at most the {cpus} CPUs this process may use, found {max(threads)}")
    effort = Effort(runs, rounds, seconds, pause / 1e3)
    peers = [name for name in against.split(",") if name]
    text = into.read_text(encoding="utf-8") if into else ""
    if into:
        replaced(text, "")  # complains now if there are no marks
    found: list[Comparison] = []
    for model in models:
        if sys.stderr.isatty():
            click.echo(f"{printable(model)} ({len(found) + 1} of {len(models)})", err=True)
        found.append(compare_model(model, printable(model), peers, peer_files, threads, batch, input_size, effort))
    if into is None and report_format != "summary":
        click.echo(comparisons_text(found, report_format))
        return
    made = summary_text(found, datetime.date.today())
    click.echo(made)
    if into:
        into.write_text(replaced(text, made), encoding="utf-8")


def _separable(threads: list[int], runs: int, report_format: str, plot: Path | None) -> None:
    from sepcore.bench.separable import measure_separable, plot_svg, separable_text

    found = [measure_separable(count, runs) for count in threads]
    click.echo(separable_text(found, report_format))
    if plot is not None:
        plot.write_text(plot_svg(found), encoding="utf-8")
