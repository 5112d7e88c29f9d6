"""The command ``sepcore``: names its subcommands and turns errors into exit codes; imports a command when it is called.

Exit codes: 0 all well, 1 some pictures failed or numbers differ, 2 wrong usage, 3 the model cannot be loaded or run,
130 interrupted.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO, cast

import click

from sepcore.errors import OptionError, SepcoreError

EXIT_PICTURES_FAILED = 1
EXIT_RESULTS = 1
EXIT_DIFFERENT = 1
EXIT_USAGE = 2
EXIT_MODEL = 3
EXIT_INTERRUPTED = 130  # 128 and the number of SIGINT
EXIT_BROKEN_PIPE = 141  # and of SIGPIPE

_OBJECTS_PER_COLLECTION = 100_000

# A command ``x`` is the attribute ``x`` of the module sepcore.cli.x.
COMMANDS = (
    "infer",
    "models",
    "inspect",
    "verify",
    "convert",
    "freeze",
    "warmup",
    "cache",
    "bench",
    "profile",
    "limits",
    "tune",
    "doctor",
)


class _Commands(click.Group):
    """Subcommands whose modules are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, getattr(importlib.import_module(f"sepcore.cli.{cmd_name}"), cmd_name))


def _print_version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from sepcore import __version__

        click.echo(f"sepcore {__version__}")
        ctx.exit()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def sepcore() -> None:
    """Run MobileNet-style networks on the CPU, from PyTorch's checkpoints, without PyTorch."""


def run() -> int:
    """``main`` as a process of its own, whose warnings and garbage are nobody else's."""
    warnings.showwarning = _show_warning
    # What imports make stays: to look through it for garbage takes milliseconds each time, and once more at the end.
    gc.set_threshold(_OBJECTS_PER_COLLECTION, 10, 10)
    code = main()
    gc.freeze()
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, and raises for nothing that a user can cause."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A file name may hold bytes, and a label letters, that the terminal's encoding does not have.
            stream.reconfigure(errors="backslashreplace")
    try:
        # click's own main would turn a broken pipe into the exit code of failed pictures.
        with sepcore.make_context("sepcore", list(sys.argv[1:] if arguments is None else arguments)) as context:
            sepcore.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as exit_request:
        return exit_request.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # What is still buffered must not fail once more when the interpreter closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        complain(str(error))
        return EXIT_RESULTS
    except SepcoreError as error:
        complain(str(error))
        return EXIT_USAGE if isinstance(error, OptionError) else EXIT_MODEL
    return 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """As users of a command read it: without the line of ours that gave it."""
    click.echo(f"sepcore: warning: {printable(str(message))}", err=True)


def complain(message: str) -> None:
    """Write an error to stderr, whatever characters a file brought into it."""
    click.echo("sepcore: error: " + "\n".join(printable(line) for line in message.split("\n")), err=True)


def printable(text: str) -> str:
    """Text with everything escaped that could move a terminal's cursor or start a new line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
