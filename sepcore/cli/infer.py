"""``sepcore infer``: pictures in, labels out; parses and prints, and leaves the work to the package."""

from __future__ import annotations

import json
import sys
from typing import TextIO

import click

from sepcore.cli import EXIT_PICTURES_FAILED, complain
from sepcore.cli.results import FORMATS, results_writer


def _parse_overrides(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, object]:
    overrides: dict[str, object] = {}
    for text in values:
        key, equals, value = text.partition("=")
        key = key.replace("-", "_")
        if not equals or not key.isidentifier():
            raise click.BadParameter(f"expected KEY=VALUE, found {text!r}")
        if key in overrides or key in ("arch", "labels", "num_threads"):
            raise click.BadParameter(f"{key} is given twice, or has an option of its own")
        try:
            overrides[key] = json.loads(value)
        except ValueError:
            overrides[key] = value
    return overrides


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
@click.option(
    "--option",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_parse_overrides,
    help="What a state dict does not say, as padding=same or negative_slope=0.1; may be repeated.",
)
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
    overrides: dict[str, object],
    labels: list[str] | None,
    topk: int,
    batch_size: int,
    threads: int | None,
    results_format: str,
    results_file: TextIO | None,
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

    net = load(model, arch=arch, num_threads=threads, labels=labels, **overrides)
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
