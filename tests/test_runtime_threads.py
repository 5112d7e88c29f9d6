"""The number of threads: arguments, variable, CPUs, and quotas of control groups as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sepcore.errors import OptionError
from sepcore.runtime import threads

V2_MOUNT = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "33 31 0:29 {group} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cpus", lambda: 16)
    monkeypatch.delenv("SEPCORE_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 16),
        ("100000 100000", 1),
        ("250000 100000", 2),
        ("199999 100000", 1),
        ("50000 100000", 1),
        ("400000 50000", 8),
        ("9900000 100000", 16),
        ("", 16),
        ("nonsense 100000", 16),
        ("100000 0", 16),
    ],
)
def test_version_2(tmp_path: Path, quota: str, expected: int) -> None:
    root = _tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT + "\n",
            "sys/fs/cgroup/cpu.max": quota + "\n",
        },
    )
    assert threads.default_num_threads(root) == expected


@pytest.mark.parametrize(("inner", "outer", "expected"), [(400, 200, 2), (200, 400, 2), (None, 300, 3), (500, None, 5)])
def test_version_2_nested(tmp_path: Path, inner: int | None, outer: int | None, expected: int) -> None:
    def text(percent: int | None) -> str:
        return "max 100000\n" if percent is None else f"{1000 * percent} 100000\n"

    root = _tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/kubepods/pod 7/app:1\n",
            "proc/self/mountinfo": V2_MOUNT + "\n",
            "sys/fs/cgroup/kubepods/cpu.max": text(outer),
            "sys/fs/cgroup/kubepods/pod 7/app:1/cpu.max": text(inner),
        },
    )
    assert threads.default_num_threads(root) == expected
    quota = threads.cpu_quota(root)
    assert quota is not None
    assert quota.path.startswith("/sys/fs/cgroup/kubepods/") and quota.cpus == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 16), ("300000", 3), ("150000", 1), ("10000", 1)])
@pytest.mark.parametrize(
    ("group", "mounted", "folder"),
    [
        ("/", "/", ""),
        ("/docker/abc", "/docker/abc", ""),  # a container without a namespace of its own
        ("/user.slice/one", "/", "user.slice/one/"),
        ("/user.slice/one/two", "/user.slice", "one/"),  # the limit is the parent's
    ],
)
def test_version_1(tmp_path: Path, group: str, mounted: str, folder: str, quota: str, expected: int) -> None:
    base = f"sys/fs/cgroup/cpu,cpuacct/{folder}"
    root = _tree(
        tmp_path,
        {
            "proc/self/cgroup": f"12:cpuset:/elsewhere\n4:cpu,cpuacct:{group}\n0::/other\n",
            "proc/self/mountinfo": f"{V2_MOUNT}\n{V1_MOUNT.format(group=mounted)}\n",
            base + "cpu.cfs_quota_us": quota + "\n",
            base + "cpu.cfs_period_us": "100000\n",
        },
    )
    assert threads.default_num_threads(root) == expected


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    root = _tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a b\n",
            "proc/self/mountinfo": "31 24 0:27 / /my\\040groups rw - cgroup2 cgroup2 rw\nbroken line\n",
            "my groups/a b/cpu.max": "200000 100000\n",
        },
    )
    assert threads.cpu_quota(root) == threads.Quota(2.0, "/my groups/a b/cpu.max")


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert threads.cpu_quota(tmp_path) is None
    assert threads.default_num_threads(tmp_path) == 16


def test_fewer_cpus_than_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cpus", lambda: 2)
    root = _tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT + "\n",
            "sys/fs/cgroup/cpu.max": "800000 100000\n",
        },
    )
    assert threads.default_num_threads(root) == 2


def test_an_argument_wins_over_the_variable_over_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.num_threads() == threads.default_num_threads()
    monkeypatch.setenv("SEPCORE_NUM_THREADS", "3")
    assert threads.num_threads() == 3
    assert threads.num_threads(5) == 5


@pytest.mark.parametrize("count", [0, -1, 257, True, 2.0])
def test_a_bad_argument(count: int) -> None:
    with pytest.raises(OptionError, match=r"num_threads: expected an integer from 1 to 256, found"):
        threads.num_threads(count)


def test_a_bad_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPCORE_NUM_THREADS", "1000")
    with pytest.raises(OptionError, match=r"SEPCORE_NUM_THREADS: expected .* found 1000"):
        threads.num_threads()


def test_explanation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT + "\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
        },
    )
    assert threads.explain(root=root).splitlines() == [
        f"CPUs this process may run on: 16 of {os.cpu_count()}",
        "control group's CPU quota: 1.5 CPUs (/sys/fs/cgroup/cpu.max)",
        "SEPCORE_NUM_THREADS: not set",
        "threads: 1",
    ]
    assert threads.explain(7, root).splitlines()[-1] == "threads: 7, as asked for"
    monkeypatch.setenv("SEPCORE_NUM_THREADS", "2")
    assert threads.explain(root=root).splitlines()[-1] == "threads: 2, as SEPCORE_NUM_THREADS says"


def test_this_machine() -> None:
    assert 1 <= threads.default_num_threads() <= 16
