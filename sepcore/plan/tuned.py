"""The rows measured to be the fastest on this CPU: a small JSON file in the cache folder. It measures nothing.

The planner obeys the file where it names a row that covers a layer; results are the same bits with and without it.
"""

from __future__ import annotations

import os
import platform
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from sepcore.cache import cache_candidates
from sepcore.digest import sha256

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT, _VERSION = "sepcore tuned rows", 1
_FOLDER = "tuned"
_MOST_BYTES = 1 << 20
_CPUINFO = "/proc/cpuinfo"


def tuned_path(folder: str | os.PathLike[str], isa: str) -> Path:
    """Where a cache folder keeps the rows for this CPU and an instruction set."""
    from pathlib import Path  # not at each start, to find that nothing was tuned

    return Path(folder) / _FOLDER / f"{re.sub('[^a-z0-9]+', '-', cpu_name().lower()).strip('-')}.{isa}.json"


def tuned_rows(isa: str, cache_dir: Path | None = None) -> Mapping[str, str]:
    """Choice -> row (see ``sepcore.plan.select.Choice``) as this CPU was tuned; empty where it was not.

    Warns and gives nothing where the file is broken: what it says only makes runs faster.
    """
    for folder in cache_candidates(cache_dir):
        if not os.path.isdir(os.path.join(folder, _FOLDER)):
            continue
        path = tuned_path(folder, isa)
        try:
            with open(path, "rb") as file:
                return _rows_in(file.read(_MOST_BYTES + 1))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            warnings.warn(f"{path}: not obeyed: {error}; `sepcore tune` makes it anew", RuntimeWarning, stacklevel=2)
    return {}


def tuned_state(isa: str, cache_dir: Path | None = None) -> str:
    """A digest of the file that :func:`tuned_rows` would obey, whatever is in it; empty where there is none."""
    for folder in cache_candidates(cache_dir):
        if not os.path.isdir(os.path.join(folder, _FOLDER)):
            continue
        with suppress(OSError):
            return sha256(tuned_path(folder, isa).read_bytes()).hexdigest()
    return ""


def write_tuned(path: Path, isa: str, rows: Mapping[str, str]) -> None:
    """Keep the rows, in place of what is there; the file appears whole."""
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "cpu": cpu_name(),
        "isa": isa,
        "rows": dict(sorted(rows.items())),
    }
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _rows_in(content: bytes) -> Mapping[str, str]:
    """The rows of a file; ValueError where it is not such a file."""
    if len(content) > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes")
    import json  # not at each start, to find that nothing was tuned

    try:
        fields = json.loads(content)
    except RecursionError as error:
        raise ValueError("expected two levels of JSON, found more than can be read") from error
    if not isinstance(fields, dict) or (fields.get("format"), fields.get("version")) != (_FORMAT, _VERSION):
        raise ValueError(f"expected {_FORMAT!r} of version {_VERSION}")
    rows = fields.get("rows")
    if not isinstance(rows, dict) or not all(isinstance(row, str) for row in rows.values()):
        raise ValueError("rows: expected names of rows")
    return rows


def cpu_name() -> str:
    """The CPU's name as Linux tells it, with its family and model, for names are shared; else what Python knows."""
    found = {}
    with suppress(OSError):
        with open(_CPUINFO, encoding="ascii", errors="replace") as file:
            first = file.read().split("\n\n", 1)[0]
        for line in first.splitlines():
            key, _, text = line.partition(":")
            found[key.strip()] = text.strip()
    if "model name" not in found:
        return platform.processor() or platform.machine()
    return f"{found['model name']} (family {found.get('cpu family')}, model {found.get('model')})"
