"""``sepcore convert``: all that a service needs, in one file; parses and prints, and leaves the work to the package."""

from __future__ import annotations

import os
from typing import Any

import click

from sepcore.cli import EXIT_MODEL, complain, printable
from sepcore.cli.infer import infer

_AS_INFER = ("arch", "activation", "leaky_slope", "padding", "bn_eps", "input_size", "labels")


@click.command(
    params=[option for option in infer.params if option.name in _AS_INFER],
    epilog="Exit codes: 0 written, 1 a file cannot be read or written, 2 wrong usage, 3 bad model, 130 interrupted.",
)
@click.argument("file")
@click.argument("out", type=click.Path())
@click.option("--force", is_flag=True, help="Replace OUT where it exists.")
@click.option(
    "--pack",
    multiple=True,
    is_flag=False,
    flag_value="native",
    metavar="[LEVEL]",
    help="Also keep the weights as the kernels of a CPU level read them: this CPU's, or x86-64-v4, x86-64-v3, x86-64, "
    "aarch64. May be given several times.",
)
def convert(file: str, out: str, force: bool, pack: tuple[str, ...], **overrides: Any) -> None:
    """Write a model with its preprocessing and labels to one .sep file, which opens in milliseconds.

    FILE is a model file, or a name ('sepcore models').
    """
    from sepcore import api

    chosen = {name: value for name, value in overrides.items() if value is not None}
    try:
        network = api.convert(file, out, overwrite=force, pack=pack, **chosen)
    except FileNotFoundError as error:
        complain(str(error))
        click.get_current_context().exit(EXIT_MODEL)
    weights = sum(array.nbytes for array in network.graph.constants.values())
    packed = f", packed for {', '.join(network.packed)}" if network.packed else ""
    labels = f"{len(network.labels)} labels" if network.labels else "no labels"
    click.echo(
        printable(
            f"{out}: {network.family} {network.arch}, {len(network.graph.nodes)} operations, "
            f"{weights / 1e6:.1f} MB of weights{packed}, {labels}, {os.stat(out).st_size / 1e6:.1f} MB in all"
        )
    )
