"""``sepcore warmup``: compiling before it is needed; parses and prints, and leaves the work to the package."""

from __future__ import annotations

import time
from typing import Any

import click

from sepcore.cli import EXIT_MODEL, complain, printable
from sepcore.cli.infer import infer

CPUS = ("x86-64-v4", "x86-64-v3", "x86-64", "aarch64")
_AS_INFER = ("arch", "activation", "leaky_slope", "padding", "bn_eps", "input_size")


@click.command(
    params=[option for option in infer.params if option.name in _AS_INFER],
    epilog="Exit codes: 0 all kept, 1 a file cannot be read or written, 2 wrong usage, 3 bad model, 130 interrupted.",
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--all", "all_kernels", is_flag=True, help="Compile every kernel there is, for any model and input size.")
@click.option(
    "--cpu", "cpus", type=click.Choice(CPUS), multiple=True, help="CPU level, may be repeated.  [default: this CPU's]"
)
@click.option(
    "--output", type=click.Path(file_okay=False), help="Folder to fill instead of the cache.  [default: the cache]"
)
def warmup(models: tuple[str, ...], all_kernels: bool, cpus: tuple[str, ...], output: str | None, **given: Any) -> None:
    """Compile what models need, so that their first run is as fast as any other.

    MODEL is a model file, or a name ('sepcore models'). Kernels are kept for the model's own input size, or
    --input-size, for batches of up to 64 pictures and any number of threads; of a .sep file, what starting it takes is
    kept too. A folder written with --output can be shipped and named by SEPCORE_PREBUILT_CACHE_DIR: it is searched
    first and never written to.
    """
    from sepcore.progress import counting
    from sepcore.warmup import warmup as warm

    options = {name: value for name, value in given.items() if value is not None}
    started = time.monotonic()
    try:
        with counting("compiling kernels") as progress:
            results = warm(models, all_kernels=all_kernels, cpus=cpus, output=output, progress=progress, **options)
    except FileNotFoundError as error:
        if error.errno is not None:
            raise  # not the model
        complain(str(error))
        click.get_current_context().exit(EXIT_MODEL)
    for done in results:
        click.echo(
            printable(f"{done.cpu}: {done.kernels} kernels in {done.folder}, {done.compiled} of them compiled now")
        )
    click.echo(f"{time.monotonic() - started:.1f} s")
