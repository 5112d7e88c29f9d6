"""Compiling ahead of time: all that a model calls is there, so that a shipped folder is enough for a bare system."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sepcore import compile as compiling
from sepcore import progress
from sepcore import warmup as warming
from sepcore.cli import main
from sepcore.cli.warmup import CPUS
from sepcore.compile import elf, open_cache
from sepcore.compile.cache import ObjectCache
from sepcore.compile.levels import LEVELS
from sepcore.errors import OptionError
from sepcore.kernels import isa as isas
from sepcore.opening import opened_network, rewritten
from sepcore.options import SessionOptions
from sepcore.runtime.session import Session
from sepcore.warmup import kernels_of, warmup

BATCHES = (1, 5)

# Runs the network as nobody, where root can become that, with all that could compile cut off. The first time it runs as
# who it is, because the interpreter itself may be in a folder that only root can enter.
BARE = """
import os, sys, sepcore
import numpy as np
import sepcore.compile
from sepcore.compile import parallel
from sepcore.runtime import pool
def refuse(*_): raise AssertionError("something is compiled")
parallel.build_rows = refuse
def run():
    net = sepcore.load("digits", num_threads=2)
    for n in (1, 5):
        assert net(np.ones((n, 3, *net.preprocess.input_size), np.float32)).shape == (n, 10)
run()
sepcore.compile._addresses.clear()
pool._shared.clear()
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
run()
print("compiler" if {"numba", "llvmlite"} & set(sys.modules) else "no compiler")
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A folder with what the digits network needs here and on AArch64, which every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        own = next(level for level, isa in LEVELS.items() if isa == isas.chosen())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(warming, "BATCHES", BATCHES)
            done = warmup(["digits"], cpus=dict.fromkeys([own, "aarch64"]), output=Path(name))
        assert (done[0].cpu, done[0].folder) == (own, Path(name) / "kernels")
        entries = ObjectCache(Path(name) / "kernels").entries()
        assert len(entries) == sum(each.kernels for each in done) == sum(each.compiled for each in done)
        yield Path(name)


@pytest.fixture
def shipped(image: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the prebuilt one."""
    monkeypatch.setattr(warming, "BATCHES", BATCHES)
    monkeypatch.setenv("SEPCORE_PREBUILT_CACHE_DIR", str(image))
    return image


def test_a_shipped_folder_is_enough_without_home_or_anything_to_write_to(image: Path, open_package: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SEPCORE_", "XDG_"))}
    environment |= {
        "PYTHONPATH": str(open_package), "HOME": "/proc/none", "TMPDIR": "/proc/none",
        "SEPCORE_PREBUILT_CACHE_DIR": str(image),
    }  # fmt: skip
    command = [sys.executable, "-W", "error", "-c", BARE]
    ran = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "no compiler", "")


def test_every_kernel_of_every_batch_is_among_them() -> None:
    network = rewritten(opened_network("digits", None, None, None, None, None, {}))
    session = Session(network.graph, SessionOptions(num_threads=3))
    names = set(kernels_of(network, session.isa))
    for batch in (1, 2, 3, 5, 9, 10, 11, 17, 31, 40):
        program = session.program((batch, 3, *network.preprocess.input_size))
        assert set(program.kernels()) <= names, batch


def test_other_levels_are_for_their_machine(image: Path) -> None:
    cache = ObjectCache(image / "kernels")
    machines = [elf.parse(bytes(cache.get(entry.key) or b"")).machine for entry in cache.entries()]
    assert "aarch64" in machines and LEVELS["aarch64"].machine == "aarch64"
    if isas.chosen().machine == "x86_64":
        assert "x86_64" in machines


def test_what_a_prebuilt_folder_has_is_copied_to_the_output(shipped: Path, tmp_path: Path) -> None:
    (done,) = warmup(["digits"], output=tmp_path)
    keys = {entry.key for entry in ObjectCache(tmp_path / "kernels").entries()}
    assert done.compiled == 0 and len(keys) == done.kernels
    assert keys <= {entry.key for entry in ObjectCache(shipped / "kernels").entries()}


def test_folder_that_cannot_be_written_is_an_error(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["warmup", "digits", "--output", str(tmp_path / "file" / "below")]) == 1
    assert "Not a directory" in capsys.readouterr().err
    assert main(["warmup", "digits", "--output", "/proc/none"]) == 1
    assert "No such file" in capsys.readouterr().err


def test_the_command_offers_every_level() -> None:
    assert tuple(LEVELS) == CPUS


def test_nothing_to_compile_for_is_refused() -> None:
    with pytest.raises(OptionError, match="expected the model to compile for"):
        warmup([])
    with pytest.raises(OptionError, match=r"cpu: expected one of x86-64-v4, .* found 'i386'"):
        warmup(["digits"], cpus=["i386"])


def test_command_says_what_it_kept(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup", "digits", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert re.match(rf"\S+: \d+ kernels in {re.escape(str(tmp_path))}/kernels, 0 of them compiled now\n", said.out)
    assert said.err == ""
    assert main(["warmup"]) == 2
    assert main(["warmup", str(tmp_path / "missing.pth")]) == 3


def test_session_tells_how_far_compiling_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cold cache both the pool's functions and the network's kernels are counted."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(compiling, "_build", lambda rows, level, registry, keys, cache, progress: _told(progress, rows))

    def _told(progress: compiling.Progress, rows: object) -> dict[str, bytes]:
        progress(0, 7)
        raise KeyboardInterrupt

    from sepcore.runtime import planning as module

    class Counted:
        def __enter__(self) -> object:
            return lambda done, total: seen.append((done, total))

        def __exit__(self, *_: object) -> None:
            seen.append((-1, -1))

    monkeypatch.setattr(module, "counting", lambda label: Counted())
    monkeypatch.setattr(compiling, "_addresses", {})
    from sepcore.runtime import pool

    monkeypatch.setattr(pool, "_shared", [])
    with pytest.raises(KeyboardInterrupt):
        Session(rewritten(opened_network("digits", None, None, None, None, None, {})).graph,
                SessionOptions(cache_dir=tmp_path))  # fmt: skip
    assert seen == [(0, 7), (-1, -1)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_counts_kernels_on_a_terminal_and_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.0)
    with progress.counting("compiling kernels") as show:
        show(0, 4)
        show(3, 4)
    drawn = terminal.getvalue().split("\r\x1b[K")
    assert re.fullmatch(r"compiling kernels  \[#{22}\.{8}\]  3 of 4", drawn[2])
    assert drawn[-1] == "" and drawn[1].endswith("0 of 4")
    with progress.counting("compiling kernels"):
        assert terminal.getvalue().endswith("\x1b[K")  # nothing to do, nothing drawn


# --- sepcore cache ----------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectCache:
    """A cache with two objects, beside a prebuilt folder with one."""
    monkeypatch.setenv("SEPCORE_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("SEPCORE_PREBUILT_CACHE_DIR", str(tmp_path / "image"))
    for digit in "ab":
        open_cache().put(digit * 64, b"code")
    ObjectCache(tmp_path / "image" / "kernels").put("c" * 64, b"more code")
    return open_cache()


def test_cache_info_counts(kept: ObjectCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"prebuilt: {kept.prebuilt}" in lines and f"cache: {kept.folder}" in lines
    assert lines.index(f"cache: {kept.folder}") + 1 == lines.index("  2 kernels, 0.0 MB")
    assert "  1 kernels, 0.0 MB" in lines


def test_cache_verify_names_what_is_damaged(kept: ObjectCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "verify"]) == 0
    assert "2 whole, 0 unusable" in capsys.readouterr().out
    assert kept.folder is not None
    path = Path(kept.folder) / f"{'a' * 64}.kernel"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["cache", "verify"]) == 1
    said = capsys.readouterr().out
    assert "1 whole, 1 unusable" in said and "a" * 64 in said and "b" * 64 not in said


def test_cache_clear_deletes_the_caches_kernels_alone(kept: ObjectCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == "2 files deleted\n"
    assert kept.entries() == [] and kept.get("c" * 64) == b"more code"
