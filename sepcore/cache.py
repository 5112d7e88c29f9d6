"""Folders in which sepcore keeps what can be made or fetched again; never deletes anything in them.

Paths are texts here: to import pathlib takes a good part of a start.
"""

from __future__ import annotations

import os
import stat
import sys
import warnings
from os.path import join

from sepcore.environment import env_cache_dir


def cache_candidates(cache_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Folders to look for cached files in, best first.

    Parameters
    ----------
    cache_dir : the user's choice; None takes SEPCORE_CACHE_DIR.

    Returns
    -------
    The chosen folder alone, where one was chosen; else the platform's cache folder for this user (XDG_CACHE_HOME or
    ``~/.cache``; ``~/Library/Caches`` on macOS) if there is a home, and this user's own folder among the temporary
    files. None of them need exist.
    """
    chosen = cache_dir if cache_dir is not None else env_cache_dir()
    if chosen is not None:
        return [os.fspath(chosen)]
    return [folder for folder in (_user_cache_dir(), _temporary_dir()) if folder is not None]


def first_writable(candidates: list[str], purpose: str) -> str | None:
    """The first folder that files can be written to, made if it is not there; None where there is none.

    Warns, naming ``purpose``, if it is neither a chosen folder nor the user's cache folder: temporary files go away.
    """
    temporary = _temporary_dir()
    for folder in candidates:
        if not _is_writable(folder, private=folder == temporary):
            continue
        if folder == temporary:
            warnings.warn(
                f"no cache folder of this user can be written; {purpose} is kept in {folder}. "
                "Set SEPCORE_CACHE_DIR to a folder that lasts",
                RuntimeWarning,
                stacklevel=3,
            )
        return folder
    return None


def _user_cache_dir() -> str | None:
    if sys.platform == "darwin":
        home = _home()
        return None if home is None else join(home, "Library", "Caches", "sepcore")
    # The XDG specification has relative paths ignored.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):
        return join(xdg, "sepcore")
    home = _home()
    return None if home is None else join(home, ".cache", "sepcore")


def _home() -> str | None:
    # Where HOME is not set and the user has no entry in the user database, as in many containers, there is none.
    home = os.path.expanduser("~")
    return home if os.path.isabs(home) else None


def _temporary_dir() -> str | None:
    # As tempfile.gettempdir does, which takes a good part of a start to import.
    for parent in (os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp"):
        if os.path.isabs(parent) and os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK):
            folder = join(parent, f"sepcore-{os.getuid()}")
            return folder if not os.path.exists(folder) or _is_private(folder) else None
    return None


def _is_private(folder: str) -> bool:
    # The name among the temporary files can be guessed, and anyone may make folders there.
    status = os.lstat(folder)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _is_writable(folder: str, private: bool) -> bool:
    try:
        os.makedirs(folder, mode=0o700 if private else 0o777, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK) and (not private or _is_private(folder))
