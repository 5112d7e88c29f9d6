"""How many threads a call may use: what the user says, else the CPUs this process may use; it starts none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from posixpath import join
from typing import NamedTuple, Union

from sepcore.environment import env_num_threads
from sepcore.errors import OptionError
from sepcore.kernels.runtime.layout import MAX_THREADS

# Paths are texts in this file: pathlib would take longer to import than all else that a frozen network needs.
Folder = Union[str, "os.PathLike[str]"]
_ROOT = "/"


class Quota(NamedTuple):
    """CPU time that a control group grants: ``cpus`` seconds per second, as the file ``path`` says."""

    cpus: float
    path: str


def num_threads(requested: int | None = None) -> int:
    """Threads that one call may use: ``requested``, else SEPCORE_NUM_THREADS, else ``default_num_threads``.

    Raises
    ------
    OptionError : not an integer from 1 to 256.
    """
    if requested is not None:
        return _checked("num_threads", requested)
    named = env_num_threads()
    return default_num_threads() if named is None else _checked("SEPCORE_NUM_THREADS", named)


def default_num_threads(root: Folder = _ROOT) -> int:
    """The CPUs this process is bound to, or its control group's quota rounded down if that is less; at least 1.

    A thread more than the quota pays for would be stopped for the rest of each period, while its caller waits for it.

    Parameters
    ----------
    root : folder that stands for ``/``.
    """
    quota = cpu_quota(root)
    granted = MAX_THREADS if quota is None else max(1, int(quota.cpus))
    return min(available_cpus(), granted, MAX_THREADS)


def explain(requested: int | None = None, root: Folder = _ROOT) -> str:
    """One line for each thing that decides the number of threads, and one for the number."""
    quota, named = cpu_quota(root), env_num_threads()
    lines = [
        f"CPUs this process may run on: {available_cpus()} of {os.cpu_count()}",
        "control group's CPU quota: " + ("none" if quota is None else f"{quota.cpus:g} CPUs ({quota.path})"),
        f"SEPCORE_NUM_THREADS: {'not set' if named is None else named}",
    ]
    if requested is not None:
        lines.append(f"threads: {num_threads(requested)}, as asked for")
    elif named is not None:
        lines.append(f"threads: {num_threads()}, as SEPCORE_NUM_THREADS says")
    else:
        lines.append(f"threads: {default_num_threads(root)}")
    return "\n".join(lines)


def available_cpus() -> int:
    """CPUs that the calling thread may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Folder = _ROOT) -> Quota | None:
    """The smallest CPU quota of this process's control group and the groups around it, in version 1 or 2; None without.

    Parameters
    ----------
    root : folder that stands for ``/``.
    """
    quotas = [quota for folder, version in _cpu_groups(root) if (quota := _quota_of(root, folder, version))]
    return min(quotas, key=lambda quota: quota.cpus, default=None)


def _checked(name: str, count: int) -> int:
    if type(count) is not int or not 1 <= count <= MAX_THREADS:
        raise OptionError(f"{name}: expected an integer from 1 to {MAX_THREADS}, found {count!r}")
    return count


def _cpu_groups(root: Folder) -> Iterator[tuple[str, int]]:
    """Folders of the groups that limit this process's CPU time, innermost first, and the version of their files."""
    own = _own_groups(root)
    for version, mounted_group, mount_point in _cpu_mounts(root):
        if version in own:
            inside = [name for name in _inside(own[version], mounted_group).split("/") if name]
            for depth in range(len(inside), -1, -1):
                yield join(mount_point, *inside[:depth]), version


def _inside(group: str, mounted_group: str) -> str:
    """Where a mount shows a group: a container sees its own group as the root of the mount, or, without a namespace
    for groups, by its full name."""
    above = mounted_group.rstrip("/") + "/"
    return group[len(above) :] if group.startswith(above) else ""


def _own_groups(root: Folder) -> dict[int, str]:
    """This process's group for CPU time by version, from /proc/self/cgroup: lines ``id:controllers:/path``."""
    groups = {}
    for line in _lines(join(root, "proc/self/cgroup")):
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        if parts[0] == "0" and parts[1] == "":
            groups[2] = parts[2]
        elif "cpu" in parts[1].split(","):
            groups[1] = parts[2]
    return groups


def _cpu_mounts(root: Folder) -> Iterator[tuple[int, str, str]]:
    """Version, group at the mount's root and mount point, from /proc/self/mountinfo (proc(5))."""
    for line in _lines(join(root, "proc/self/mountinfo")):
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            yield 2, _unescaped(fields[3]), _unescaped(fields[4])
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            yield 1, _unescaped(fields[3]), _unescaped(fields[4])


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _quota_of(root: Folder, folder: str, version: int) -> Quota | None:
    """A group's own quota, None where it sets none."""
    if version == 2:
        path = join(folder, "cpu.max")
        words = " ".join(_lines(_below(root, path))).split()
    else:
        path = join(folder, "cpu.cfs_quota_us")
        period = join(folder, "cpu.cfs_period_us")
        words = " ".join(_lines(_below(root, path)) + _lines(_below(root, period))).split()
    # "max" or -1 says that there is no limit.
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return Quota(int(words[0]) / int(words[1]), path)


def _below(root: Folder, path: str) -> str:
    return join(root, path.lstrip("/"))


def _lines(path: str) -> list[str]:
    """The lines of a file; none where there is no such file or it may not be read, as on systems without groups."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []
