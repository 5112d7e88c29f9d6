"""``sepcore models``: what can be loaded, by name or from a file; knows none of it itself."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the models that can be loaded by name, and the networks that are recognised in a state dict."""
    from sepcore.hub import DEFAULT_MODEL, MODELS
    from sepcore.models import families

    click.echo("By name (--model NAME):")
    for model in MODELS.values():
        origin = "in the package" if model.embedded else "fetched on first use"
        default = ", the default" if model.name == DEFAULT_MODEL else ""
        click.echo(f"  {model.name:24}{origin}{default}")
    click.echo("\nFrom a state dict (--model FILE), recognised by its keys and shapes, or chosen by --arch:")
    for row in families():
        click.echo(f"  {row.family}")
        text = ", ".join(row.archs)
        click.echo(click.wrap_text(text, initial_indent="    ", subsequent_indent="    "))
