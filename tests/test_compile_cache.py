"""Keys that cover all an object is made from, and a store that never gives out what was not put in."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from toy_rows import ToyRow

from sepcore.compile import cache as cache_module
from sepcore.compile import keys
from sepcore.compile.cache import ObjectCache, open_cache
from sepcore.kernels import isa as isas

ROOT = Path(__file__).resolve().parents[1]
KEY = hashlib.sha256(b"a kernel").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
CODE = bytes(range(256)) * 3


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectCache:
    """A cache in a folder of its own; warnings are given anew."""
    monkeypatch.setattr(cache_module, "_warned", set())
    return ObjectCache(tmp_path / "kernels")


def file_of(cache: ObjectCache, key: str = KEY) -> Path:
    assert cache.folder is not None
    return Path(cache.folder, f"{key}.kernel")


@contextmanager
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_what_is_put_is_got(cache: ObjectCache) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, CODE)
    cache.put(OTHER, b"")
    assert cache.get(KEY) == CODE
    assert cache.get(OTHER) == b""
    assert sorted(e.key for e in cache.entries()) == sorted([KEY, OTHER])
    cache.put(KEY, b"newer")
    assert cache.get(KEY) == b"newer"
    assert cache.damaged() == []


def test_file_is_magic_version_key_length_checksum_and_object(cache: ObjectCache) -> None:
    cache.put(KEY, CODE)
    parts = (b"SEPKOBJ\0", struct.pack("<Q", 2), bytes.fromhex(KEY), struct.pack("<Q", len(CODE)))
    assert file_of(cache).read_bytes() == b"".join(parts) + _checksum(CODE) + CODE
    assert file_of(cache).stat().st_mode & 0o7777 == 0o644 & ~_umask()
    assert [p.name for p in file_of(cache).parent.iterdir()] == [f"{KEY}.kernel"]


def _checksum(content: bytes) -> bytes:
    """SHA-256 of the sums of the rows and columns of a table of 64-bit words, 512 to a row, and of the length."""
    padded = content + bytes(-len(content) % 4096)
    words = struct.unpack(f"<{len(padded) // 8}Q", padded)
    rows = [sum(words[at : at + 512]) for at in range(0, len(words), 512)]
    columns = [sum(words[i::512]) for i in range(512)]
    sums = b"".join(struct.pack("<Q", total % 2**64) for total in rows + columns)
    return hashlib.sha256(sums + struct.pack("<Q", len(content))).digest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_thousand_damaged_files_are_refused(cache: ObjectCache) -> None:
    cache.put(KEY, CODE)
    whole = file_of(cache).read_bytes()
    chance = random.Random(5)
    for i in range(1000):
        damaged = bytearray(whole)
        if i % 4 == 0:
            del damaged[chance.randrange(len(damaged)) :]
        elif i % 4 == 1:
            damaged += bytes(chance.randint(1, 100))
        else:
            for _ in range(chance.randint(1, 3)):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        if damaged == whole:  # two flips of one bit
            continue
        file_of(cache).write_bytes(damaged)
        assert cache.get(KEY) is None
    assert cache.damaged() == [f"{KEY}.kernel"]
    cache.put(KEY, CODE)
    assert cache.get(KEY) == CODE


def test_object_under_another_name_is_refused(cache: ObjectCache) -> None:
    cache.put(KEY, CODE)
    shutil.copy(file_of(cache), file_of(cache, OTHER))
    assert cache.get(OTHER) is None


def test_what_is_no_plain_file_is_refused(cache: ObjectCache, tmp_path: Path) -> None:
    cache.put(OTHER, CODE)
    file_of(cache).mkdir()
    assert cache.get(KEY) is None
    file_of(cache).rmdir()
    file_of(cache).touch()
    assert cache.get(KEY) is None
    file_of(cache).unlink()
    os.mkfifo(file_of(cache))
    assert cache.get(KEY) is None
    file_of(cache).unlink()
    cache.put(KEY, CODE)
    file_of(cache).rename(tmp_path / "elsewhere")
    file_of(cache).symlink_to(tmp_path / "elsewhere")
    assert cache.get(KEY) is None
    with no_warnings():
        cache.put(KEY, CODE)  # replaces the link, and leaves what it points to
    assert cache.get(KEY) == CODE
    assert not file_of(cache).is_symlink()


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_file_that_others_can_write_is_refused(cache: ObjectCache, mode: int) -> None:
    cache.put(KEY, CODE)
    file_of(cache).chmod(mode)
    with pytest.warns(RuntimeWarning, match=f"expected that only its owner can write, found mode {mode:o}"):
        assert cache.get(KEY) is None
    with no_warnings():
        assert cache.get(KEY) is None


def test_folder_that_others_can_write_is_refused(cache: ObjectCache) -> None:
    cache.put(KEY, CODE)
    file_of(cache).parent.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="kernels: expected that only its owner can write, found mode 777"):
        assert cache.get(KEY) is None
    with pytest.warns(RuntimeWarning, match="kept in memory only.*found mode 777"):
        cache.put(OTHER, CODE)
    assert not file_of(cache, OTHER).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("given", ["file", "folder"])
def test_what_another_user_owns_is_refused(cache: ObjectCache, given: str) -> None:
    cache.put(KEY, CODE)
    os.chown(file_of(cache) if given == "file" else file_of(cache).parent, 12345, -1)
    with pytest.warns(RuntimeWarning, match="expected user 0 or root as the owner, found user 12345"):
        assert cache.get(KEY) is None


def test_prebuilt_folder_is_searched_first_and_never_written(cache: ObjectCache, tmp_path: Path) -> None:
    prebuilt = ObjectCache(tmp_path / "prebuilt")
    prebuilt.put(KEY, b"prebuilt")
    both = ObjectCache(cache.folder, prebuilt.folder)
    both.put(KEY, b"own")
    both.put(OTHER, CODE)
    assert both.get(KEY) == b"prebuilt"
    assert both.get(OTHER) == CODE
    assert [e.key for e in prebuilt.entries()] == [KEY]
    assert both.clear() == 2
    assert both.get(KEY) == b"prebuilt"


def test_folders_are_those_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPCORE_CACHE_DIR", str(tmp_path / "set"))
    monkeypatch.delenv("SEPCORE_PREBUILT_CACHE_DIR", raising=False)
    assert (open_cache().folder, open_cache().prebuilt) == (str(tmp_path / "set" / "kernels"), None)
    assert open_cache(tmp_path / "given").folder == str(tmp_path / "given" / "kernels")
    monkeypatch.setenv("SEPCORE_PREBUILT_CACHE_DIR", str(tmp_path / "image"))
    assert open_cache().prebuilt == str(tmp_path / "image" / "kernels")


def test_full_disk_warns_once_and_leaves_nothing(cache: ObjectCache) -> None:
    cache.put(OTHER, CODE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.warns(RuntimeWarning, match="kept in memory only: .*kernels: File too large"):
            cache.put(KEY, CODE)
        with no_warnings():
            cache.put(KEY, CODE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert cache.get(KEY) is None
    assert [p.name for p in file_of(cache).parent.iterdir()] == [f"{OTHER}.kernel"]


def test_no_folder_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_warned", set())
    nowhere = ObjectCache(None)
    with pytest.warns(RuntimeWarning, match="kept in memory only: there is no cache folder"):
        nowhere.put(KEY, CODE)
    with no_warnings():
        nowhere.put(KEY, CODE)
    with nowhere.build_lock():
        assert nowhere.get(KEY) is None
    nowhere.trim()
    assert nowhere.entries() == []


def test_folder_that_cannot_be_made_warns_and_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_warned", set())
    (tmp_path / "file").touch()
    below = ObjectCache(tmp_path / "file" / "kernels")
    with pytest.warns(RuntimeWarning, match="kept in memory only: .*: Not a directory"):
        below.put(KEY, CODE)
    with below.build_lock():
        assert below.get(KEY) is None


def test_trim_drops_what_was_not_used_for_the_longest_time(cache: ObjectCache) -> None:
    names = [hashlib.sha256(bytes([i])).hexdigest() for i in range(5)]
    for age, name in enumerate(names):
        cache.put(name, CODE)
        os.utime(file_of(cache, name), (0, time.time() - 1000 * age))
    size = file_of(cache, names[0]).stat().st_size
    cache.trim(3 * size + 1)
    assert sorted(e.key for e in cache.entries()) == sorted(names[:3])
    cache.trim(3 * size)
    assert len(cache.entries()) == 3


def test_trim_drops_lost_temporaries_and_nothing_foreign(cache: ObjectCache) -> None:
    cache.put(KEY, CODE)
    lost, fresh, foreign = (file_of(cache).parent / n for n in (".0123.1.ab", ".0124.1.ab", "notes.txt"))
    for path in (lost, fresh, foreign):
        path.touch()
    for path in (lost, foreign):
        os.utime(path, (0, time.time() - 7200))
    cache.trim(0)
    assert sorted(p.name for p in file_of(cache).parent.iterdir()) == [".0124.1.ab", "notes.txt"]


def test_use_keeps_an_object_from_being_trimmed(cache: ObjectCache) -> None:
    cache.put(KEY, CODE)
    os.utime(file_of(cache), (0, time.time() - 3 * 86400))
    assert cache.get(KEY) == CODE
    assert time.time() - cache.entries()[0].used < 60


def test_lock_is_given_up_waiting_for(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_LOCK_SECONDS", 0.2)
    order = []
    with cache.build_lock():
        started = time.monotonic()
        with cache.build_lock():
            order.append("second")
        assert 0.2 <= time.monotonic() - started < 5
    with cache.build_lock():
        assert order == ["second"]


# --- keys -------------------------------------------------------------------------------------------------------------

ROW = ToyRow("toy", (14, 2))


def test_equal_things_have_equal_keys() -> None:
    assert keys.object_key(ROW, isas.AVX512, "s", "c") == keys.object_key(ToyRow("toy", (14, 2)), isas.AVX512, "s", "c")


def test_every_part_of_a_key_matters() -> None:
    isa = isas.AVX512
    all_keys = [
        keys.object_key(ROW, isa, "s", "c"),
        keys.object_key(ToyRow("toy", (14, 3)), isa, "s", "c"),
        keys.object_key(ToyRow("toy2", (14, 2)), isa, "s", "c"),
        keys.object_key(ToyRow("toy", (14, 2), arity=3), isa, "s", "c"),
        keys.object_key(ROW, isas.AVX2, "s", "c"),
        keys.object_key(ROW, isa._replace(features=""), "s", "c"),
        keys.object_key(ROW, isa._replace(cpu="x86-64-v3"), "s", "c"),
        keys.object_key(ROW, isa._replace(machine="aarch64"), "s", "c"),
        keys.object_key(ROW, isa, "s2", "c"),
        keys.object_key(ROW, isa, "s", "c2"),
        keys.object_key(ROW, isa, "sc", ""),
    ]
    assert len(set(all_keys)) == len(all_keys)
    assert all(len(bytes.fromhex(key)) == 32 for key in all_keys)


def in_python(code: str, *path: Path, **environment: str) -> str:
    """What ``code`` prints in a fresh process that searches ``path`` for modules."""
    wanted = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=path[0], env=wanted, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_editing_any_kernel_source_changes_the_key(tmp_path: Path) -> None:
    for part in ("compile", "kernels"):
        shutil.copytree(ROOT / "sepcore" / part, tmp_path / "sepcore" / part)
    for part in ("__init__.py", "errors.py", "environment.py", "cache.py", "digest.py"):
        shutil.copy(ROOT / "sepcore" / part, tmp_path / "sepcore" / part)
    kernels = tmp_path / "sepcore" / "kernels"
    measure = "from sepcore.compile.keys import source_digest as d; print(d('sepcore.kernels.registry'))"
    seen = [in_python(measure, tmp_path)]
    assert in_python(measure, tmp_path) == seen[0]

    for edited in (kernels / "emit.py", kernels / "pointwise" / "tile.py", tmp_path / "sepcore/compile/numba_abi.py"):
        edited.write_text(edited.read_text(encoding="utf-8") + "#", encoding="utf-8")
        seen.append(in_python(measure, tmp_path))
    (kernels / "activation" / "more.py").touch()
    seen.append(in_python(measure, tmp_path))
    (kernels / "activation" / "more.py").rename(kernels / "more.py")
    seen.append(in_python(measure, tmp_path))
    assert len(set(seen)) == len(seen)

    # What no kernel is made from changes nothing.
    (tmp_path / "sepcore" / "errors.py").open("a", encoding="utf-8").write("#")
    (kernels / "notes.txt").touch()
    assert in_python(measure, tmp_path) == seen[-1]


def test_registry_of_ones_own_is_part_of_the_key(tmp_path: Path) -> None:
    module = tmp_path / "own_rows.py"
    measure = "from sepcore.compile.keys import source_digest as d; print(d('own_rows'))"
    module.write_text("FACTOR = 2\n", encoding="ascii")
    first = in_python(measure, ROOT, tmp_path)
    module.write_text("FACTOR = 3\n", encoding="ascii")
    assert in_python(measure, ROOT, tmp_path) != first


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_another_release_of_the_compiler_changes_the_key(package: str, tmp_path: Path) -> None:
    measure = (
        "import sys; from sepcore.compile.keys import compiler_identity; print(compiler_identity());"
        "assert not {'numba', 'llvmlite'} & set(sys.modules)"
    )
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise ImportError('not to be imported')", encoding="ascii")
    seen = [in_python(measure, ROOT)]
    for release in ("0.70.0", "0.70.1"):
        (tmp_path / package / "_version.py").write_text(f"version = '{release}'", encoding="ascii")
        seen.append(in_python(measure, tmp_path, ROOT))
    assert len(set(seen)) == 3
