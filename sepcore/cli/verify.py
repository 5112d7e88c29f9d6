"""``sepcore verify``: whether a network gives the right numbers; prints what sepcore.verification finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sepcore.cli import EXIT_DIFFERENT, EXIT_MODEL, complain
from sepcore.cli.infer import infer
from sepcore.cli.tables import table

if TYPE_CHECKING:
    from sepcore.verification import Difference, Verdict

_AS_INFER = ("arch", "activation", "leaky_slope", "padding", "bn_eps", "input_size")


@click.command(
    params=[option for option in infer.params if option.name in _AS_INFER],
    epilog="Exit codes: 0 equal within the tolerance, 1 different, 2 wrong usage, 3 bad model, 130 interrupted.",
)
@click.argument("file")
@click.option("--against", metavar="OTHER", help="A model file of the same network, or input and logits as .npz.")
@click.option(
    "--torch",
    "factory",
    is_flag=False,
    flag_value="",
    metavar="[MODULE:FUNCTION]",
    help="Compare with PyTorch: a .pt2 file's own program, torchvision's or timm's network of a state dict's name, or "
    "the module that a function of yours returns.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    help="Difference allowed, in standard deviations of an output, or of the largest value of a layer.",
)
def verify(file: str, against: str | None, factory: str | None, tolerance: float, **overrides: Any) -> None:
    """Run FILE and compare its numbers, layer by layer, with what they should be.

    FILE runs on the kernels. What it should give comes from OTHER, run by the slow reference interpreter on the same
    input, or from the arrays of an .npz file ('input' or 'x', 'logits' or 'output'); with --torch, which comes after
    FILE, from PyTorch. Otherwise the interpreter runs FILE itself. Options that describe FILE describe OTHER too, where
    that is a state dict.
    """
    from sepcore.verification import verify_file

    reference: Any = against
    if factory is not None:
        if against is not None:
            raise click.UsageError("--torch and --against say two things to compare with; give one")
        from sepcore.export import in_torch

        reference = in_torch(factory)
    chosen = {name: value for name, value in overrides.items() if value is not None}
    try:
        verdict = verify_file(file, reference, tolerance=tolerance, **chosen)
    except OSError as error:
        complain(str(error))
        click.get_current_context().exit(EXIT_MODEL)
    click.echo(_report(verdict))
    if not verdict.equal:
        click.get_current_context().exit(EXIT_DIFFERENT)


def _report(verdict: Verdict) -> str:
    head = ("layer", "of the reference", "op", "shape", "maximum", "relative", "")
    lines = [_line(d, verdict.tolerance) for d in (*verdict.layers, *verdict.outputs)]
    parts = [table(head, lines), f"{_conclusion(verdict)}\n"]
    if verdict.unmatched:
        parts.insert(1, f"{len(verdict.unmatched)} layers have no counterpart, first {verdict.unmatched[0]}\n")
    return "\n".join(parts)[:-1]


def _line(found: Difference, tolerance: float) -> tuple[str, ...]:
    shape = f"[{', '.join(map(str, found.shape))}]"
    mark = "" if found.relative <= tolerance else "differs"
    op = found.op or "output"
    return found.name, found.reference_name, op, shape, f"{found.maximum:.2e}", f"{found.relative:.2e}", mark


def _conclusion(verdict: Verdict) -> str:
    worst = max((output.relative for output in verdict.outputs), default=0.0)
    text = f"outputs differ by {worst:.2e} standard deviations at most, allowed are {verdict.tolerance:g}"
    if verdict.first is not None:
        text = f"first layer that differs: {verdict.first.name}; {text}"
    elif not verdict.equal and verdict.layers:
        text = f"no layer that both have differs; {text}"
    return f"{'equal' if verdict.equal else 'DIFFERENT'}: {text}"
