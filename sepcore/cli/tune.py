"""``sepcore tune``: times the kernels that could run each layer on this CPU and keeps the fastest; parses, prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sepcore.cli import EXIT_RESULTS, printable
from sepcore.cli.bench import numbers


@click.command()
@click.argument("models", metavar="[MODEL...]", nargs=-1)
@click.option("--threads", callback=numbers, help="Threads per call: 1,2  [default: 1, and the CPUs it may use]")
@click.option("--check", is_flag=True, help="Keep nothing; fail where the planner's choice is slower than the best.")
@click.option("--limit", type=click.FloatRange(min=0), default=5.0, show_default=True,
              help="With --check: by so many per cent.")  # fmt: skip
@click.option("--format", "report_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--cache-dir", type=click.Path(file_okay=False, path_type=Path), help="Where to keep the rows.")
@click.pass_context
def tune(
    context: click.Context,
    models: tuple[str, ...],
    threads: list[int],
    check: bool,
    limit: float,
    report_format: str,
    cache_dir: Path | None,
) -> None:
    """Time the kernels for every layer of each MODEL on this CPU, and plan with the fastest from then on.

    Without a MODEL: the reference networks, MobileNetV1 to V4, MNASNet and EfficientNet-B0. Results of networks stay
    the same bits. With --check every kernel is timed, and the exit code is 1 where the planner took a wrong one.
    """
    from sepcore.bench.tuning import check_networks, checked_text, kept_text, tune_networks
    from sepcore.runtime.threads import num_threads

    counts = threads or list(dict.fromkeys((1, num_threads())))

    def say(name: str) -> None:
        if sys.stderr.isatty():
            click.echo(printable(name), err=True)

    if check:
        slow = check_networks(models, counts, limit / 100, cache_dir, say)
        click.echo(json.dumps(slow.fields(), indent=2) if report_format == "json" else checked_text(slow))
        if slow.timings:
            context.exit(EXIT_RESULTS)
        return
    kept = tune_networks(models, counts, cache_dir, say)
    click.echo(json.dumps(kept.fields(), indent=2) if report_format == "json" else kept_text(kept))
