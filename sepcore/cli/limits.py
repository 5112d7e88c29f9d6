"""``sepcore limits``: what one thread of this machine can do at most; parses and prints."""

from __future__ import annotations

import click


@click.command()
@click.option("--format", "report_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
def limits(report_format: str) -> None:
    """Measure this machine's multiply-add peak and its bandwidths of reading, on one thread."""
    from sepcore.bench.limits import measure_limits
    from sepcore.bench.report import limits_text
    from sepcore.kernels import isa
    from sepcore.runtime.session import chosen_isa

    click.echo(limits_text(measure_limits(isa.by_name(chosen_isa().name)), report_format))
