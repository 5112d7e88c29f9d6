"""``sepcore profile``: where a network's time goes, layer by layer; parses and prints."""

from __future__ import annotations

import click

from sepcore.cli import printable


@click.command()
@click.argument("model")
@click.option("--threads", type=click.IntRange(min=1), help="Threads per call.  [default: the CPUs it may use]")
@click.option("--input-size", type=click.IntRange(min=1), help="Side of the input, where the network takes any.")
@click.option("--passes", type=click.IntRange(min=1), default=100, show_default=True, help="Times each layer is timed.")
@click.option("--format", "report_format", type=click.Choice(["table", "json", "trace"]), default="table",
              show_default=True, help="'trace' is for chrome://tracing and Perfetto.")  # fmt: skip
def profile(model: str, threads: int | None, input_size: int | None, passes: int, report_format: str) -> None:
    """Time every layer of MODEL for one image, and compare it with what this machine could do at most."""
    from sepcore.api import load
    from sepcore.bench.limits import measure_limits
    from sepcore.bench.profile import profile_model
    from sepcore.bench.report import profile_text
    from sepcore.kernels import isa

    net = load(model, num_threads=threads)
    found = profile_model(net, printable(model), input_size, passes, measure_limits(isa.by_name(net.isa)))
    click.echo(profile_text(found, report_format))
