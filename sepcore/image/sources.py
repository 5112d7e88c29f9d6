"""What a command line names as pictures: files, folders, globs, lists and standard input; opens no picture itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from sepcore.errors import OptionError

EXTENSIONS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def list_pictures(arguments: Iterable[str], stdin: BinaryIO) -> list[str | BinaryIO]:
    """Every picture that the arguments name, in their order.

    Parameters
    ----------
    arguments : each one of

        * ``-``: one picture's bytes on standard input;
        * ``@list.txt``: a text file with a path, folder or glob per line, relative to the working folder;
        * a folder: the files in it and below it that have a picture's extension (EXTENSIONS, in either case), sorted by
          path; names that start with a dot are passed over;
        * a glob (``*``, ``?``, ``[...]``, ``**``) that is no existing path: the files that match, sorted;
        * anything else: a path, which need not exist: whoever reads it reports that.
    stdin : the stream that ``-`` stands for.

    Returns
    -------
    Paths, and ``stdin`` itself for ``-``.

    Raises
    ------
    OptionError
        A folder, glob or list holds no picture, or a list cannot be read.
    """
    pictures: list[str | BinaryIO] = []
    for argument in arguments:
        if argument == "-":
            pictures.append(stdin)
        elif argument.startswith("@"):
            for line in _list_lines(argument[1:]):
                pictures.extend(_expand(line))
        else:
            pictures.extend(_expand(argument))
    return pictures


def _expand(argument: str) -> list[str]:
    if os.path.isdir(argument):
        found = sorted(_walk(argument))
        if not found:
            raise OptionError(f"{argument}: expected pictures ({', '.join(EXTENSIONS)}) in this folder, found none")
        return found
    if os.path.lexists(argument):
        return [argument]
    import glob

    if not glob.has_magic(argument):
        return [argument]
    found = sorted(path for path in glob.glob(argument, recursive=True) if os.path.isfile(path))
    if not found:
        raise OptionError(f"{argument}: expected files that match this pattern, found none")
    return found


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield os.path.join(parent, name)


def _list_lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = [line.strip("\r\n") for line in file]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(f"@{path}: expected a list of pictures, one per line: {reason}") from error
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise OptionError(f"@{path}: expected a list of pictures, one per line, found no line")
    return lines
