"""``sepcore doctor``: what this machine gives and what was chosen from it; changes nothing, compiles nothing."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from sepcore.cli import printable

PACKAGES = ("sepcore", "numpy", "numba", "llvmlite", "pillow", "safetensors", "onnx")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@click.command()
@click.option("--threads", type=click.IntRange(min=1), help="Explain this number instead of the default.")
def doctor(threads: int | None) -> None:
    """Say which instruction set, how many threads and which folders are used, and why."""
    from sepcore.cache import cache_candidates
    from sepcore.errors import OptionError
    from sepcore.kernels import isa
    from sepcore.runtime.threads import explain

    click.echo(f"Python {platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        click.echo(f"  {package} {_version(package)}")
    click.echo("Instruction sets")
    try:
        click.echo(f"  of this CPU, best first: {', '.join(found.name for found in isa.available())}")
        click.echo(f"  chosen: {isa.chosen().name}")
    except ValueError as error:
        raise OptionError(str(error)) from error
    click.echo("Threads")
    for line in explain(threads).splitlines():
        click.echo(f"  {line}")
    click.echo("Cache folders, the first that can be used is")
    for folder in cache_candidates():
        click.echo(f"  {printable(folder)}")
