"""``sepcore freeze``: a network in a folder that needs NumPy alone; parses and prints, the package does the work."""

from __future__ import annotations

from typing import Any

import click

from sepcore.cli import EXIT_MODEL, complain, printable
from sepcore.cli.infer import infer
from sepcore.cli.warmup import CPUS

_AS_INFER = ("arch", "activation", "leaky_slope", "padding", "bn_eps", "input_size", "labels")


@click.command(
    params=[option for option in infer.params if option.name in _AS_INFER],
    epilog="Exit codes: 0 written, 1 a file cannot be read or written, 2 wrong usage, 3 bad model, 130 interrupted.",
)
@click.argument("model")
@click.argument("out", type=click.Path())
@click.option(
    "--cpu",
    "cpus",
    type=click.Choice(CPUS),
    multiple=True,
    default=CPUS[:2],
    show_default=True,
    help="CPU level to hold machine code for; may be repeated.",
)
@click.option("--wheel", is_flag=True, help="Write a wheel beside OUT too.")
@click.option("--force", is_flag=True, help="Replace OUT where it is a frozen network.")
def freeze(model: str, out: str, cpus: tuple[str, ...], wheel: bool, force: bool, **given: Any) -> None:
    """Write a model to a folder that runs with Python and NumPy alone.

    MODEL is a model file, or a name ('sepcore models'). OUT becomes a Python package: 'import OUT; net = OUT.load();
    net(x)'. It holds the network for one input size, its weights, and machine code for each CPU level: the best that
    a CPU has is used. The weights are packed for the best --cpu; for another they are copied into place at start.
    """
    from sepcore.freeze import freeze as write
    from sepcore.progress import counting

    options = {name: value for name, value in given.items() if value is not None}
    try:
        with counting("compiling kernels") as progress:
            done = write(model, out, cpus=cpus, wheel=wheel, overwrite=force, progress=progress, **options)
    except FileNotFoundError as error:
        complain(str(error))
        click.get_current_context().exit(EXIT_MODEL)
    size = sum(done.sizes.values())
    click.echo(printable(f"{out}: {', '.join(cpus)}, {size / 1e6:.1f} MB in {len(done.sizes)} files"))
    if done.wheel is not None:
        click.echo(printable(f"{done.wheel}: {done.wheel.stat().st_size / 1e6:.1f} MB"))
