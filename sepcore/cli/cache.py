"""``sepcore cache``: what is kept of compiled kernels; prints what sepcore.compile's cache says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from sepcore.cli import EXIT_RESULTS, printable

_DAY_SECONDS = 86400


@click.group()
def cache() -> None:
    """Show, check or empty the folder of compiled kernels and packed weights.

    It is SEPCORE_CACHE_DIR, else the user's cache folder. SEPCORE_PREBUILT_CACHE_DIR is searched before it and never
    written to.
    """


@cache.command()
def info() -> None:
    """Say which folders are used, and how much is in them."""
    from sepcore.compile.cache import KERNEL, LIMIT_BYTES, WEIGHTS, ObjectCache

    for title, folder in _folders():
        if folder is None:
            click.echo(f"{title}: none")
            continue
        entries = ObjectCache(folder).entries()
        click.echo(printable(f"{title}: {folder}"))
        for kind, what in ((KERNEL, "kernels"), (WEIGHTS, "packed weights")):
            sizes = [entry.size for entry in entries if entry.kind == kind]
            if sizes or kind == KERNEL:
                click.echo(f"  {len(sizes)} {what}, {sum(sizes) / 1e6:.1f} MB")
        if entries:
            idle = int((time.time() - min(entry.used for entry in entries)) / _DAY_SECONDS)
            click.echo(f"  the one not used for the longest: {idle} days")
    click.echo(
        f"at most {LIMIT_BYTES / 1e6:.0f} MB are kept in the cache: "
        "packed weights go first, and of them what was not used for the longest"
    )


@cache.command()
def clear() -> None:
    """Delete the compiled kernels and packed weights of the cache; fetched weights and the prebuilt folder stay."""
    from sepcore.compile import open_cache

    click.echo(f"{open_cache().clear()} files deleted")


@cache.command(epilog="Exit codes: 0 all whole, 1 some would not be used.")
def verify() -> None:
    """Read every file, and name those that would not be used: damaged, or writable by others.

    They do no harm: what cannot be used is made again.
    """
    from sepcore.compile.cache import ObjectCache

    damaged = 0
    for title, folder in _folders():
        if folder is not None:
            store = ObjectCache(folder)
            found = store.damaged()
            damaged += len(found)
            click.echo(
                printable(f"{title}: {folder}: {len(store.entries()) - len(found)} whole, {len(found)} unusable")
            )
            for key in found:
                click.echo(f"  {key}")
    if damaged:
        click.get_current_context().exit(EXIT_RESULTS)


def _folders() -> Iterator[tuple[str, str | None]]:
    from sepcore.compile import open_cache

    both = open_cache()
    yield "prebuilt", both.prebuilt
    yield "cache", both.folder
