"""Whether files that were checked were written to since, as far as the file system tells; it must not read them.

This is what Python goes by for its compiled files, and more: beside size and time of writing, a file's number and the
time of its last change of any kind, which nobody can set.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence

_STATE = struct.Struct("<QQQqq")
# A second write in the same tick of the file system's clock might leave a file's state as it was.
_SETTLED_NS = 2_000_000_000


def states(files: Sequence[os.stat_result]) -> bytes:
    """What changes when one of the files is written to; for what was asked before the files were read."""
    return b"".join(
        [_STATE.pack(f.st_dev, f.st_ino, f.st_size, f.st_mtime_ns, f.st_ctime_ns) for f in files],
    )


def settled(files: Sequence[os.stat_result]) -> bool:
    """Whether any write from now on will change what :func:`states` says."""
    return time.time_ns() - max(max(f.st_mtime_ns, f.st_ctime_ns) for f in files) > _SETTLED_NS


def boot() -> bytes | None:
    """The machine's present run; None where the system has no name for it.

    What a file system wrote shortly before a loss of power may be gone though the file's state tells nothing of it.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None
