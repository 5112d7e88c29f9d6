"""Many processes, threads and accidents over one cache: one build each, right code always, no Numba when it is warm."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_rows

from sepcore import compile as compiling
from sepcore.compile import cache as cache_module
from sepcore.compile import elf, keys, parallel
from sepcore.compile.cache import ObjectCache
from sepcore.errors import CompileError
from sepcore.kernels import isa as isas

ROOT = Path(__file__).resolve().parents[1]
LEVEL = isas.available()[-1].name

# Loads some toy rows, calls each, and says whether a compiler was imported.
SCRIPT = """
import ctypes, sys
import toy_rows
from sepcore.compile import kernels_for
rows = [toy_rows.find(name) for name in sys.argv[2:]]
for name, address in kernels_for(rows, sys.argv[1], registry="toy_rows").items():
    word = ctypes.c_int64(-1)
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(address)(ctypes.addressof(word), 100, 0, 7)
    assert word.value == 100 * toy_rows.find(name).parameters + 7, (name, word.value)
print("compiler" if {"numba", "llvmlite"} & set(sys.modules) else "no compiler")
"""


def names(count: int) -> list[str]:
    return [f"toy_{i}" for i in range(count)]


class Site:
    """A cache folder and a log of what was compiled, for processes to share."""

    def __init__(self, folder: Path) -> None:
        self.cache_dir = folder / "cache"
        self.log = folder / "log"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SEPCORE_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "SEPCORE_CACHE_DIR": str(self.cache_dir),
            "TOY_BUILD_LOG": str(self.log),
        }

    def start(
        self, rows: list[str], before: Callable[[], None] | None = None, **changes: str | None
    ) -> subprocess.Popen[str]:
        environment = {k: v for k, v in {**self.environment, **changes}.items() if v is not None}
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, LEVEL, *rows],
            cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before,
        )  # fmt: skip

    def run(self, rows: list[str], **changes: str | None) -> tuple[str, str]:
        """What the script printed, and its warnings."""
        return finished(self.start(rows, **changes))

    def built(self) -> list[str]:
        return sorted(self.log.read_text(encoding="ascii").split()) if self.log.exists() else []

    @property
    def cache(self) -> ObjectCache:
        return ObjectCache(self.cache_dir / "kernels")


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out.strip(), errors


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def here(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site, used by this process too."""
    monkeypatch.setattr(cache_module, "_warned", set())
    monkeypatch.setenv("TOY_BUILD_LOG", str(site.log))
    monkeypatch.delenv("SEPCORE_PREBUILT_CACHE_DIR", raising=False)
    return site


def objects(site: Site, *rows: toy_rows.ToyRow, **others: object) -> dict[str, bytes]:
    return compiling.objects_for(rows, LEVEL, cache_dir=site.cache_dir, registry="toy_rows", **others)  # type: ignore[arg-type]


def test_compiled_once_and_loaded_without_a_compiler(site: Site) -> None:
    assert site.run(names(3)) == ("no compiler", "")  # it is the workers who import Numba
    assert site.built() == names(3)
    assert site.run(names(3)) == ("no compiler", "")
    assert site.run(names(4)) == ("no compiler", "")
    assert site.built() == names(4)


def test_settings_of_numba_change_nothing(site: Site) -> None:
    settings = {"NUMBA_DISABLE_JIT": "1", "NUMBA_OPT": "0", "NUMBA_DEBUGINFO": "1"}
    assert site.run(names(1), **settings) == ("no compiler", "")
    changed = {path.name: path.read_bytes() for path in (site.cache_dir / "kernels").glob("*.kernel")}
    site.cache.clear()
    assert site.run(names(1)) == ("no compiler", "")
    assert {path.name: path.read_bytes() for path in (site.cache_dir / "kernels").glob("*.kernel")} == changed


def test_many_processes_build_each_kernel_once(site: Site) -> None:
    started = [site.start(names(4)[: 2 + i % 3]) for i in range(16)]
    assert [finished(process) for process in started] == [("no compiler", "")] * 16
    assert site.built() == names(4)
    assert site.cache.damaged() == []


def test_killed_at_any_moment_leaves_nothing_wrong(site: Site) -> None:
    chance = random.Random(3)
    for _ in range(3):
        process = site.start(names(4))
        time.sleep(chance.uniform(0.2, 1.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert site.cache.damaged() == []
    assert site.run(names(4)) == ("no compiler", "")


def test_writer_killed_fifty_times_never_leaves_a_damaged_object(here: Site) -> None:
    """A child keeps objects as fast as it can, new ones and old ones anew, until it is killed in the middle of that."""
    chance = random.Random(4)
    kept = {hashlib.sha256(bytes([i])).hexdigest(): bytes([i]) * 50_000 for i in range(40)}
    whole = 0
    for _ in range(50):
        child = os.fork()
        if child == 0:
            while True:
                for key, code in kept.items():
                    here.cache.put(key, code)
        time.sleep(chance.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert here.cache.damaged() == []
        found = {key: here.cache.get(key) for key in kept}
        assert all(code in (None, kept[key]) for key, code in found.items())
        whole += sum(code is not None for code in found.values())
    assert whole > 0


def test_damaged_files_are_built_again(site: Site) -> None:
    site.run(names(2))
    for entry in site.cache.entries():
        path = site.cache_dir / "kernels" / f"{entry.key}.kernel"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    assert len(site.cache.damaged()) == 2
    assert site.run(names(2)) == ("no compiler", "")
    assert site.built() == sorted(names(2) * 2)
    assert site.cache.damaged() == []


def test_threads_build_once(here: Site) -> None:
    rows = [toy_rows.find(name) for name in names(2)]
    found: list[dict[str, int]] = []

    def load() -> None:
        found.append(compiling.kernels_for(rows, LEVEL, cache_dir=here.cache_dir, registry="toy_rows"))

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and all(each == found[0] for each in found)
    assert here.built() == names(2)


def test_forked_child_of_a_building_process_can_load(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [toy_rows.find("toy_3")]
    wanted = compiling.kernels_for(rows, LEVEL, cache_dir=here.cache_dir, registry="toy_rows")
    with compiling._lock:
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)
                same = compiling.kernels_for(rows, LEVEL, cache_dir=here.cache_dir, registry="toy_rows") == wanted
            finally:
                os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_progress_counts_what_is_built(here: Site) -> None:
    seen: list[tuple[int, int]] = []
    objects(here, toy_rows.find("toy_0"))
    objects(here, *(toy_rows.find(name) for name in names(3)), progress=lambda done, all_: seen.append((done, all_)))
    assert seen == [(0, 2), (1, 2), (2, 2)]
    objects(here, *(toy_rows.find(name) for name in names(3)), progress=lambda *_: pytest.fail("nothing to build"))


def test_other_level_is_built_beside(here: Site) -> None:
    row = toy_rows.find("toy_1")
    codes = {
        isa: compiling.objects_for([row], isa, cache_dir=here.cache_dir, registry="toy_rows")["toy_1"]
        for isa in ("portable", "avx512", "neon")
    }
    assert [elf.parse(codes[isa]).machine for isa in codes] == ["x86_64", "x86_64", "aarch64"]
    assert len(here.cache.entries()) == 3
    assert here.built() == ["toy_1"] * 3


def test_prebuilt_folder_needs_no_building_and_no_folder(site: Site, tmp_path: Path) -> None:
    site.run(names(2))
    shutil.move(site.cache_dir, tmp_path / "image")
    changes = {"SEPCORE_PREBUILT_CACHE_DIR": str(tmp_path / "image"), "SEPCORE_CACHE_DIR": "/proc/none"}
    assert site.run(names(2), **changes) == ("no compiler", "")
    assert site.built() == names(2)


def test_home_that_cannot_be_written_warns_once(site: Site) -> None:
    for variable in ("HOME", "XDG_CACHE_HOME"):
        site.environment[variable] = "/proc/none"
    out, errors = site.run(names(1), SEPCORE_CACHE_DIR=None)
    assert out == "no compiler"
    assert errors.count("RuntimeWarning") == 1 and "compiled kernels are kept in memory only" in errors


def test_full_disk_warns_once_and_runs(site: Site) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    process = site.start(names(2), before=limit, TOY_BUILD_LOG="")
    out, errors = finished(process)
    assert out == "no compiler"
    assert errors.count("RuntimeWarning") == 1 and "compiled kernels are kept in memory only" in errors
    assert "File too large" in errors and site.cache.entries() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_without_a_writable_folder(open_folder: Path, open_package: Path) -> None:
    """Root's cache is good for every user; what is not in it is in memory only, with one warning."""
    shutil.copy(toy_rows.__file__, open_package)
    site = Site(open_folder)
    site.environment["PYTHONPATH"] = str(open_package)
    site.run(names(2))
    # Everything is imported first: the interpreter itself may be in a folder that only root can enter.
    become_nobody = """
import os, toy_rows
from sepcore.compile import build, code, link, loader, objects_for, parallel
from sepcore.kernels import isa
objects_for([toy_rows.find("toy_0")], sys.argv[1], registry="toy_rows")
build.build_object([build.KernelSource("toy_0", toy_rows.find("toy_0").build())], isa.by_name(sys.argv[1]))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""
    head, rows_line, rest = SCRIPT.partition("rows =")
    site.environment["TOY_BUILD_LOG"] = ""
    for rows, warned in ((names(2), 0), (names(4), 1)):
        command = [sys.executable, "-c", head + become_nobody + rows_line + rest, LEVEL, *rows]
        done = subprocess.run(command, cwd="/", env=site.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("compiled kernels are kept in memory only") == warned
        assert len(site.cache.entries()) == 2


@pytest.mark.parametrize("executable", ["", "/usr/sbin/server", "/nonexistent/python3"])
def test_without_workers_this_process_builds(here: Site, monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert set(objects(here, toy_rows.find("toy_5"))) == {"toy_5"}
    assert here.built() == ["toy_5"] and len(here.cache.entries()) == 1


def test_worker_that_does_not_greet_is_not_used(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_START", "print('some other program, that greets at length')")
    assert set(objects(here, toy_rows.find("toy_6"))) == {"toy_6"}
    assert here.built() == ["toy_6"]


def test_what_cannot_be_compiled_is_named(here: Site) -> None:
    with pytest.raises(CompileError, match=r"'toy_unbuildable': .*expected to return int64 or nothing"):
        objects(here, toy_rows.find("toy_unbuildable"))
    assert here.cache.entries() == []


def test_compiler_that_dies_is_named(here: Site) -> None:
    with pytest.raises(CompileError, match="'toy_fatal': the compiling process ended with code -9"):
        objects(here, toy_rows.find("toy_fatal"))


def test_row_that_is_not_the_registrys_is_refused(here: Site) -> None:
    with pytest.raises(CompileError, match="'toy_2': expected parameters 77, found 2 in toy_rows"):
        objects(here, toy_rows.ToyRow("toy_2", 77))
    assert here.cache.entries() == []


def test_sources_that_change_while_a_process_runs_are_noticed(
    here: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "edited_rows.py"
    module.write_text((ROOT / "tests" / "toy_rows.py").read_text(encoding="ascii"), encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    keys.remembered_source_digest("edited_rows")
    with module.open("a", encoding="ascii") as file:
        file.write("ROWS['toy_0'] = ToyRow('toy_0', 0)  # edited\n")
    row = toy_rows.find("toy_0")
    with pytest.raises(CompileError, match="source files changed since this process started"):
        compiling.objects_for([row], LEVEL, cache_dir=here.cache_dir, registry="edited_rows")
    assert here.cache.entries() == []


def test_edited_kernel_never_runs_as_it_was(tmp_path: Path) -> None:
    site = Site(tmp_path)
    shutil.copy(ROOT / "tests" / "toy_rows.py", tmp_path / "toy_rows.py")
    site.environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(tmp_path)])
    assert site.run(["toy_3"]) == ("no compiler", "")
    source = (tmp_path / "toy_rows.py").read_text(encoding="ascii")
    edited = source.replace("factor * tile + image", "factor * tile + image + 1")
    assert edited != source
    (tmp_path / "toy_rows.py").write_text(edited, encoding="ascii")
    with pytest.raises(AssertionError, match=r"\('toy_3', 308\)"):  # the script checks for 307
        site.run(["toy_3"])
    assert site.built() == ["toy_3", "toy_3"]
    (tmp_path / "toy_rows.py").write_text(source, encoding="ascii")
    assert site.run(["toy_3"]) == ("no compiler", "")
    assert site.built() == ["toy_3", "toy_3"]
