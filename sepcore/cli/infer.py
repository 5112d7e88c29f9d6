"""``sepcore infer``: pictures in, labels out; parses and prints, and leaves the work to the package."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import click

from sepcore.cli import EXIT_MODEL, EXIT_PICTURES_FAILED, complain
from sepcore.cli.results import FORMATS, results_writer


def _read_labels(ctx: click.Context, option: click.Parameter, source: str | None) -> list[str] | None:
    if source is None:
        return None
    from sepcore.errors import SepcoreError
    from sepcore.labels import read_labels

    try:
        return read_labels(source)
    except SepcoreError as error:
        raise click.BadParameter(str(error)) from error


@click.command(epilog="Exit codes: 0 all well, 1 some pictures failed, 2 wrong usage, 3 bad model, 130 interrupted.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "-m", "--model", default="mobilenet_v2", show_default=True, help="A model file, or a name ('sepcore models')."
)
@click.option("--arch", help="Architecture of a state dict, where its keys alone do not tell.")
@click.option("--activation", help="Activation of a state dict, where it is not the family's own.")
@click.option("--leaky-slope", type=float, help="Slope of a state dict's LeakyReLU.")
@click.option("--padding", help="'same' for TensorFlow's padding, 'symmetric' for PyTorch's.")
@click.option("--bn-eps", type=float, help="Epsilon of a state dict's BatchNorm.")
@click.option("--input-size", type=click.IntRange(min=1), help="Side of the square that pictures are cropped to.")
@click.option("--labels", callback=_read_labels, help="Class names: imagenet1k, digits, or a .txt, .csv or .json file.")
@click.option("-k", "--topk", type=click.IntRange(min=1), default=5, show_default=True, help="Classes per picture.")
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Pictures per call.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads per call.  [default: the CPUs it may use]")
@click.option("--results-format", type=click.Choice(list(FORMATS)), default="table", show_default=True)
@click.option(
    "--results-file",
    type=click.File("w", encoding="utf-8", errors="backslashreplace", lazy=False),
    help="Where to write.  [default: stdout]",
)
def infer(
    images: tuple[str, ...],
    model: str,
    arch: str | None,
    input_size: int | None,
    labels: list[str] | None,
    topk: int,
    batch_size: int,
    threads: int | None,
    results_format: str,
    results_file: TextIO | None,
    **overrides: Any,
) -> None:
    """Name what is in pictures.

    IMAGE is a file, a folder, a glob, - for a picture's bytes on stdin, or @list.txt for a list of them.
    """
    from sepcore.image.sources import list_pictures

    pictures = list_pictures(images, sys.stdin.buffer)

    from sepcore.api import load
    from sepcore.errors import ImageError
    from sepcore.image.batches import classify_files
    from sepcore.progress import ProgressBar

    chosen = {name: value for name, value in overrides.items() if value is not None}
    try:
        net = load(model, arch=arch, num_threads=threads, labels=labels, input_size=input_size, **chosen)
    except OSError as error:
        complain(str(error))
        click.get_current_context().exit(EXIT_MODEL)
    stream = results_file or sys.stdout
    failed = 0
    # Results that appear on the same terminal are progress enough.
    with (
        results_writer(results_format, stream) as write,
        ProgressBar("pictures", len(pictures), wanted=not stream.isatty()) as bar,
    ):
        for done, (name, result) in enumerate(classify_files(net, pictures, topk, batch_size), 1):
            if isinstance(result, ImageError):
                failed += 1
                bar.wipe()
                complain(str(result))
            else:
                write(name, result)
            bar.update(done)
    if failed:
        click.echo(f"sepcore: {failed} of {len(pictures)} pictures failed", err=True)
        click.get_current_context().exit(EXIT_PICTURES_FAILED)
