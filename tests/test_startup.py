""".sep files, with packed weights or with those that are kept in the cache: mapped and not made, the same bits, refused
where damaged, and never run as they were when the package or the file has changed."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_sep
import numpy as np
import pytest
from PIL import Image

import sepcore
from sepcore import api, opening
from sepcore import warmup as warming
from sepcore.cache import cache_candidates
from sepcore.cli import main
from sepcore.compile.cache import KERNEL, ObjectCache
from sepcore.errors import FormatError, OptionError
from sepcore.formats.sep import read_sep, write_sep
from sepcore.formats.sums import CHUNK_BYTES, chunked, sums
from sepcore.kernels import isa as isas
from sepcore.runtime import planning, seen, startup
from sepcore.runtime.session import chosen_isa

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts are kept on Linux only")

LABELS = [f"the {i}" for i in range(10)]
X = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "digits.sep"
    api.convert("digits", path, pack=["native"], labels=LABELS)
    return path


@pytest.fixture(params=[("native",), ()], ids=["packed", "plain"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "digits.sep"
    api.convert("digits", path, pack=request.param, labels=LABELS)
    return path


LEVELS = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "portable": "x86-64", "neon": "aarch64"}
USABLE = [isa.name for isa in isas.available()]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the kernels of the same network, but nobody's packed weights."""
    with pytest.MonkeyPatch.context() as patch:
        for name in USABLE:
            patch.setenv("SEPCORE_CPU_ISA", name)
            sepcore.load("digits", num_threads=2)(X)
    folder = tmp_path_factory.mktemp("prebuilt")
    shutil.copytree(
        Path(cache_candidates()[0], "kernels"), folder / "kernels", ignore=shutil.ignore_patterns("*.weights")
    )
    return folder


@pytest.fixture
def cold(tmp_path: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A cache folder in which nothing was ever started; the kernels are found in another."""
    monkeypatch.setenv("SEPCORE_PREBUILT_CACHE_DIR", str(kernels))
    return str(tmp_path / "cache")


@pytest.fixture
def no_planner(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, makes every further plan fail the test."""

    def forbid() -> None:
        monkeypatch.setattr(planning.Planner, "__init__", lambda *_, **__: pytest.fail("planned again"))

    return forbid


def test_the_second_start_plans_nothing_and_gives_the_same_bits(
    file: Path, cold: str, no_planner: Callable[[], None]
) -> None:
    expected = sepcore.load("digits", num_threads=2, cache_dir=cold)(X)
    first = sepcore.load(file, num_threads=2, cache_dir=cold)
    np.testing.assert_array_equal(first(X), expected)
    no_planner()
    second = sepcore.load(file, num_threads=2, cache_dir=cold)
    np.testing.assert_array_equal(second(X), expected)
    assert (second.num_threads, second.isa) == (2, chosen_isa().name)


def test_what_was_not_kept_is_planned_when_it_is_asked_for(file: Path, cold: str) -> None:
    sepcore.load(file, num_threads=2, cache_dir=cold)
    plain, quick = (sepcore.load(name, num_threads=2, cache_dir=cold) for name in ("digits", file))
    for shape in ((3, 3, 32, 32), (1, 3, 40, 36), (0, 3, 32, 32)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(quick(x), plain(x))
    for name in ("inputs", "outputs", "preprocess", "family", "arch", "num_classes"):
        assert getattr(quick, name) == getattr(plain, name), name
    assert list(quick.labels or ()) == LABELS
    with pytest.raises(sepcore.InputError, match="expected float32, found float64"):
        quick(X.astype(np.float64))
    with pytest.raises(sepcore.InputError, match="expected 1, found 2"):
        quick(X, X)


def test_options_are_obeyed_on_a_quick_start(file: Path, cold: str) -> None:
    sepcore.load(file, cache_dir=cold)
    names = [f"number {i}" for i in range(10)]
    net = sepcore.load(file, cache_dir=cold, labels=names, input_size=64)
    assert net.labels == names and net.preprocess.input_size == (64, 64)
    with pytest.raises(OptionError, match="10"):
        sepcore.load(file, cache_dir=cold, labels=["one"])
    with pytest.raises(OptionError, match="arch says what"):
        sepcore.load(file, cache_dir=cold, arch="mobilenet_v2")


def fresh(code: str, cache: str) -> str:
    environment = {**os.environ, "SEPCORE_CACHE_DIR": cache}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


_MODULES = """
import sys
import numpy as np
import sepcore
y = sepcore.load({path!r}, num_threads=2)(np.zeros((1, 3, 32, 32), np.float32))
print(sorted(m for m in sys.modules if m.split(".")[0] in ("numba", "llvmlite", "PIL")))
print([m for m in ("sepcore.passes", "sepcore.models", "sepcore.plan.planner", "sepcore.kernels.registry",
                   "sepcore.ir.graph", "sepcore.opening") if m in sys.modules])
"""


def test_a_quick_start_imports_no_compiler_planner_or_reader(file: Path, cold: str) -> None:
    code = _MODULES.format(path=str(file))
    fresh(code, cold)
    assert fresh(code, cold).splitlines() == ["[]", "[]"]


def test_naming_a_picture_imports_little(file: Path, cold: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "black.jpg")
    heavy = ("pathlib", "shutil", "csv", "glob", "hashlib", "sepcore.formats.sep_manifest", "sepcore.ir.graph")
    code = (
        "import sys, numpy, PIL.Image, PIL.JpegImagePlugin, click; theirs = set(sys.modules)\n"
        "from sepcore.cli import main\n"
        f"main(['infer', '--model', {str(file)!r}, {str(tmp_path / 'black.jpg')!r}])\n"
        f"print([m for m in {heavy} if m in sys.modules and m not in theirs])"
    )
    fresh(code, cold)
    assert fresh(code, cold).splitlines()[-1] == "[]"


def damaged(path: Path, count: int, seed: int) -> Any:
    rng = random.Random(seed)
    content = path.read_bytes()
    for _ in range(count):
        if rng.random() < 0.2:
            yield content[: rng.randrange(len(content))]
            continue
        at = rng.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def test_every_damage_is_refused_on_a_quick_start_too(file: Path, cold: str, tmp_path: Path) -> None:
    sepcore.load(file, cache_dir=cold)(X)
    victim = tmp_path / "victim.sep"
    for content in damaged(file, 1000, 0):
        victim.write_bytes(content)
        with pytest.raises(FormatError) as caught:
            sepcore.load(victim, cache_dir=cold)
        assert caught.value.path == str(victim)
    victim.write_bytes(file.read_bytes())
    sepcore.load(victim, cache_dir=cold)(X)


def test_a_damaged_entry_is_made_again(file: Path, cold: str) -> None:
    expected = sepcore.load(file, cache_dir=cold)(X)
    made = list(Path(cold, "kernels").glob("*.kernel"))
    assert made
    for path in made:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    np.testing.assert_array_equal(sepcore.load(file, cache_dir=cold)(X), expected)


def kept_weights(cache: str) -> Path:
    (path,) = Path(cache, "kernels").glob("*.weights")
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.sep"
    api.convert("digits", path, labels=LABELS)
    return path


def test_damaged_or_lost_weights_are_made_again(plain: Path, cold: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = sepcore.load(plain, num_threads=2, cache_dir=cold)(X)
    path, isa = kept_weights(cold), chosen_isa().name
    whole = path.read_bytes()
    rng = random.Random(0)
    for hurt in (*(rng.randrange(len(whole)) for _ in range(20)), None):
        if hurt is None:
            path.unlink()
        else:
            path.write_bytes(whole[:hurt] + bytes([whole[hurt] ^ 1 << rng.randrange(8)]) + whole[hurt + 1 :])
            assert ObjectCache(Path(cold, "kernels")).damaged() == [path.name]
        assert startup.find(plain, isa, 2, Path(cold)) is None
        np.testing.assert_array_equal(sepcore.load(plain, num_threads=2, cache_dir=cold)(X), expected)
        assert path.read_bytes() == whole
        assert startup.find(plain, isa, 2, Path(cold)) is not None
    path.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(sepcore.load(plain, num_threads=2, cache_dir=cold)(X), expected)


def test_weights_that_others_can_write_are_not_used(plain: Path, cold: str) -> None:
    expected = sepcore.load(plain, num_threads=2, cache_dir=cold)(X)
    kept_weights(cold).chmod(0o666)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert startup.find(plain, chosen_isa().name, 2, Path(cold)) is None
        np.testing.assert_array_equal(sepcore.load(plain, num_threads=2, cache_dir=cold)(X), expected)


def test_weights_are_kept_once_for_any_number_of_threads(plain: Path, cold: str) -> None:
    for threads in (1, 2, 3):
        sepcore.load(plain, num_threads=threads, cache_dir=cold)
    assert kept_weights(cold).stat().st_size > 0


def test_weights_go_before_kernels_where_too_much_is_kept(plain: Path, cold: str) -> None:
    sepcore.load(plain, num_threads=2, cache_dir=cold)
    cache = ObjectCache(Path(cold, "kernels"))
    kernels = [entry for entry in cache.entries() if entry.kind == KERNEL]
    for entry in kernels:
        os.utime(Path(cold, "kernels", entry.key + entry.kind), (0, 0))
    cache.trim(sum(entry.size for entry in kernels))
    assert cache.entries() != [] and {entry.kind for entry in cache.entries()} == {KERNEL}
    assert len(cache.entries()) == len(kernels)


def test_a_file_that_takes_anothers_place_while_it_is_opened_is_not_taken_for_it(
    plain: Path, cold: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = read_sep(plain)
    hurt = {name: array * 2 if array.dtype == np.float32 else array for name, array in network.graph.constants.items()}
    for array in hurt.values():
        array.flags.writeable = False
    other = tmp_path / "other.sep"
    write_sep(other, type(network)(**{**vars(network), "graph": network.graph.with_(constants=hurt)}))
    expected = sepcore.load(other, num_threads=2, cache_dir=cold)(X)
    opened = opening.opened_network

    def opened_and_replaced(model: Any, *arguments: Any) -> Any:
        found = opened(model, *arguments)
        os.replace(shutil.copy(other, tmp_path / "new.sep"), model)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(opening, "opened_network", opened_and_replaced)
        sepcore.load(plain, num_threads=2, cache_dir=cold)
    np.testing.assert_array_equal(sepcore.load(plain, num_threads=2, cache_dir=cold)(X), expected)


def test_where_nothing_can_be_kept_it_is_planned_once_and_nothing_is_said(
    file: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEPCORE_PREBUILT_CACHE_DIR", str(kernels))
    (tmp_path / "no_folder").write_bytes(b"")
    planned = []
    program = planning.Planner.program
    monkeypatch.setattr(
        planning.Planner, "program", lambda self, shapes: planned.append(shapes) or program(self, shapes)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is compiled that could be lost
        y = sepcore.load(file, num_threads=2, cache_dir=tmp_path / "no_folder" / "cache")(X)
    assert planned == [((1, 3, 32, 32),)]
    np.testing.assert_array_equal(y, sepcore.load("digits", num_threads=2)(X))


def test_a_warmed_folder_has_what_starts_take(
    file: Path, cold: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "BATCHES", (1,))
    expected = sepcore.load(file, num_threads=2, cache_dir=cold)(X)
    image = tmp_path / "image"
    warming.warmup([file], output=image)
    monkeypatch.setenv("SEPCORE_PREBUILT_CACHE_DIR", str(image))
    (tmp_path / "no_folder").write_bytes(b"")
    nowhere = tmp_path / "no_folder" / "cache"
    assert fresh(_MODULES.format(path=str(file)), str(nowhere)).splitlines() == ["[]", "[]"]
    for threads in (1, 2, 4, 8):
        assert startup.find(file, chosen_isa().name, threads, nowhere) is not None
        np.testing.assert_array_equal(sepcore.load(file, num_threads=threads, cache_dir=nowhere)(X), expected)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old enough to be told from what is written next as soon as they are a moment old."""
    monkeypatch.setattr(seen, "_SETTLED_NS", 20_000_000)
    time.sleep(0.05)


def no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every further look at the bytes of a model or of weights fail the test."""
    monkeypatch.setattr(startup, "sums", lambda *_: pytest.fail("checked again"))
    monkeypatch.setattr(startup, "read_manifest", lambda *_: pytest.fail("read again"))


def rewritten(path: Path, content: bytes) -> None:
    """Other content of the same length, with the old times as far as they can be set."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def test_what_was_checked_is_not_checked_again_until_it_changes(
    file: Path, cold: str, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, folder, isa = sepcore.load(file, num_threads=2, cache_dir=cold)(X), Path(cold), chosen_isa().name
    time.sleep(0.05)
    assert startup.find(file, isa, 2, folder) is not None
    with monkeypatch.context() as patch:
        no_check(patch)
        for _ in range(2):
            np.testing.assert_array_equal(sepcore.load(file, num_threads=2, cache_dir=cold)(X), expected)
    whole = file.read_bytes()
    rewritten(file, flipped(whole, len(whole) - 5000))
    with pytest.raises(FormatError):
        startup.find(file, isa, 2, folder)
    rewritten(file, whole)
    np.testing.assert_array_equal(sepcore.load(file, num_threads=2, cache_dir=cold)(X), expected)


def test_a_file_that_takes_the_place_of_a_checked_one_is_not_mapped(
    packed: Path, cold: str, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the file's state and the mapping: of the same size, but never checked."""
    isa, folder = chosen_isa().name, Path(cold)
    sepcore.load(packed, num_threads=2, cache_dir=cold)
    time.sleep(0.05)
    assert startup.find(packed, isa, 2, folder) is not None
    other = packed.with_name("other.sep")
    other.write_bytes(flipped(packed.read_bytes(), packed.stat().st_size - 5000))
    told = startup._Start._told

    def told_and_replaced(start: Any) -> str:
        found = told(start)
        os.replace(other, packed)
        return found

    monkeypatch.setattr(startup._Start, "_told", told_and_replaced)
    with pytest.raises(FormatError, match="does not change while it is opened"):
        startup.find(packed, isa, 2, folder)


def test_weights_that_change_after_they_were_checked_are_not_used(
    plain: Path, cold: str, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, isa = sepcore.load(plain, num_threads=2, cache_dir=cold)(X), chosen_isa().name
    time.sleep(0.05)
    assert startup.find(plain, isa, 2, Path(cold)) is not None
    with monkeypatch.context() as patch:
        no_check(patch)
        assert startup.find(plain, isa, 2, Path(cold)) is not None
    path = kept_weights(cold)
    rewritten(path, flipped(path.read_bytes(), 1000))
    assert startup.find(plain, isa, 2, Path(cold)) is None
    np.testing.assert_array_equal(sepcore.load(plain, num_threads=2, cache_dir=cold)(X), expected)


@pytest.mark.parametrize("change", ["source", "boot", "compiler", "tuned"])
def test_what_was_checked_is_checked_again_where_anything_else_changes(
    change: str, file: Path, cold: str, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sepcore.load(file, num_threads=2, cache_dir=cold)
    time.sleep(0.05)
    folder, isa, checks = Path(cold), chosen_isa().name, []
    monkeypatch.setattr(startup, "sums", lambda chunks: checks.append(1) or sums(chunks))
    startup.find(file, isa, 2, folder)
    before = len(checks)
    startup.find(file, isa, 2, folder)
    assert len(checks) == before > 0
    if change == "source":
        sources = startup._sources()
        other = Path(cold) / "other.py"
        other.write_bytes(b"")
        monkeypatch.setattr(startup, "_sources", lambda: [*sources[:-1], (sources[-1][0], other.stat())])
    elif change == "boot":
        monkeypatch.setattr(startup, "boot", lambda: b"another")
    elif change == "compiler":
        monkeypatch.setattr(startup, "compiler_identity", lambda: "numba=another")
    else:
        monkeypatch.setattr(startup, "tuned_state", lambda *_: "another")
    found = startup.find(file, isa, 2, folder)
    assert (found is None) == (change in ("compiler", "tuned"))
    assert found is None or len(checks) > before


def test_what_is_too_new_to_be_told_from_what_is_written_next_is_checked_each_time(
    file: Path, cold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sepcore.load(file, num_threads=2, cache_dir=cold)
    checks: list[int] = []
    monkeypatch.setattr(startup, "sums", lambda chunks: checks.append(1) or sums(chunks))
    for count in (1, 2, 3):
        os.utime(file)
        assert startup.find(file, chosen_isa().name, 2, Path(cold)) is not None
        assert len(checks) == 3 * count


def test_another_file_threads_or_sources_have_another_key(file: Path, cold: str, tmp_path: Path) -> None:
    isa = chosen_isa().name
    sepcore.load(file, num_threads=2, cache_dir=cold)
    assert startup.find(file, isa, 2, Path(cold)) is not None
    assert startup.find(file, isa, 3, Path(cold)) is None
    other = tmp_path / "other.sep"
    api.convert("digits", other, pack=["native"], labels=[f"number {i}" for i in range(10)])
    assert startup.find(other, isa, 2, Path(cold)) is None
    assert startup.find(shutil.copy(file, tmp_path / "copy.sep"), isa, 2, Path(cold)) is not None


@pytest.mark.parametrize("changed", ["kernels/step.py", "plan/planner.py", "ir/infer.py", "runtime/linking.py"])
def test_a_changed_source_is_never_run_as_it_was(changed: str, cold: str, tmp_path: Path) -> None:
    """The digest of a copy of the package, before and after an edit that keeps the file's length."""
    root = tmp_path / "package"
    shutil.copytree(ROOT / "sepcore", root / "sepcore", symlinks=False, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "from pathlib import Path; from sepcore.compile.cache import open_cache; from sepcore.runtime import startup\n"
        f"print(startup.__file__, startup._sources_digest(open_cache(Path({cold!r})), startup._sources()))"
    )

    def digest() -> str:
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
        file, found = run.stdout.split()
        assert Path(file).is_relative_to(root)
        return found

    before = digest()
    assert digest() == before
    path = root / "sepcore" / changed
    text = path.read_text("utf-8")
    path.write_text(text.replace("e", "E", 1), "utf-8")
    after = digest()
    assert after != before
    path.write_text(text, "utf-8")
    assert digest() == before


def test_weights_packed_otherwise_are_said_once_and_not_used(packed: Path, cold: str) -> None:
    isa = chosen_isa().name
    network = read_sep(packed)
    weights = network.packed[isa]
    content = weights.content.copy()
    content[next(iter(weights.blocks.values()))[0]] ^= 1
    stale = packed.with_name("stale.sep")
    write_sep(stale, type(network)(**{**vars(network), "packed": {isa: weights._replace(content=content)}}))
    with pytest.warns(RuntimeWarning, match="convert it again") as caught:
        y = sepcore.load(stale, cache_dir=cold)(X)
    assert len(caught) == 1
    np.testing.assert_array_equal(y, sepcore.load("digits", cache_dir=cold)(X))
    assert startup.find(stale, isa, 2, Path(cold)) is None


def test_other_levels_can_be_packed_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.sep"
    assert main(["convert", "digits", str(path), "--pack=x86-64-v3", "--pack", "x86-64-v4"]) == 0
    assert "packed for avx2, avx512" in capsys.readouterr().out
    network = read_sep(path)
    assert list(network.packed) == ["avx2", "avx512"]
    assert network.packed["avx2"].shapes == ((1, 3, 32, 32),)
    assert main(["convert", "digits", str(tmp_path / "b.sep"), "--pack=x86-64-v9"]) == 2
    assert "x86-64-v3" in capsys.readouterr().err


def test_the_weights_of_each_level_are_those_that_are_used(
    tmp_path: Path, cold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.sep"
    api.convert("digits", path, pack=[LEVELS[name] for name in USABLE], labels=LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in USABLE:
            monkeypatch.setenv("SEPCORE_CPU_ISA", name)
            expected = sepcore.load("digits", cache_dir=cold)(X)
            for _ in range(2):
                net = sepcore.load(path, cache_dir=cold)
                assert net.isa == name
                np.testing.assert_array_equal(net(X), expected)
            assert startup.find(path, name, net.num_threads, Path(cold)) is not None


def test_hostile_packed_weights_cannot_change_a_result(cold: str, tmp_path: Path) -> None:
    """Blocks that are too short, and hold something else, are not taken for what their keys say."""
    path = tmp_path / "digits.sep"
    api.convert("digits", path, pack=["native"], labels=LABELS)
    isa, network = chosen_isa().name, read_sep(path)
    weights = network.packed[isa]
    short = {key: (64 * i, 64) for i, key in enumerate(weights.blocks)}
    content = np.zeros(64 * len(short) + 4096, np.uint8)
    packed = {isa: weights._replace(blocks=short, content=content)}
    write_sep(path, type(network)(**{**vars(network), "packed": packed}))
    with pytest.warns(RuntimeWarning, match="convert it again"):
        y = sepcore.load(path, cache_dir=cold)(X)
    np.testing.assert_array_equal(y, sepcore.load("digits", cache_dir=cold)(X))


def words(count: int) -> Any:
    return np.random.default_rng(3).integers(0, 1 << 63, count, np.uint64)


def total(table: Any, length: int | None = None) -> str:
    return sums(chunked(table.view(np.uint8)[:length]))


@pytest.mark.parametrize("count", [1, 512, 513, 4000, CHUNK_BYTES // 8, 3 * CHUNK_BYTES // 8 + 77])
def test_sums_tell_any_damage_to_three_words(count: int) -> None:
    table = words(count)
    before = total(table)
    assert total(table) == before
    rng = random.Random(count)
    for _ in range(60):
        hurt = table.copy()
        for at in rng.sample(range(count), min(count, rng.randint(1, 3))):
            hurt[at] ^= np.uint64(1 << rng.randrange(64))
        assert total(hurt) != before


def test_sums_tell_swapped_words_lengths_and_order() -> None:
    table = words(4000)
    before = total(table)
    for a, b in ((0, 1), (0, 512), (5, 700), (512, 1024)):
        hurt = table.copy()
        hurt[[a, b]] = table[[b, a]]
        assert total(hurt) != before
    pages = table[: 7 * 512].reshape(7, 512)
    assert total(pages[[1, 0, *range(2, 7)]].reshape(-1).copy()) != total(pages.reshape(-1).copy())
    assert total(np.append(table, np.zeros(8, np.uint64))) != before
    assert total(table, -8) != before
    zeros = np.zeros(1024, np.uint64)
    assert total(zeros) != total(zeros[:1023]) != total(zeros[:0])


def test_a_file_by_hand_without_the_right_weights_still_opens(tmp_path: Path, cold: str) -> None:
    path = tmp_path / "by_hand.sep"
    content = json.loads(json.dumps(hostile_sep.manifest()))
    path.write_bytes(hostile_sep.signed(content))
    with pytest.raises(sepcore.UnsupportedModelError):
        sepcore.load(path, cache_dir=cold)


def test_a_quick_start_imports_little(file: Path, cold: str) -> None:
    """Each of these takes a good part of what a start takes beside NumPy and the network."""
    heavy = ("tempfile", "numpy.typing", "pathlib", "urllib.parse", "dataclasses", "hashlib", "_hashlib", "subprocess")
    code = (
        f"import sys, numpy; numpys = set(sys.modules)\n{_MODULES.format(path=str(file))}"
        f"print([m for m in {heavy} if m in sys.modules and m not in numpys])"
    )
    fresh(code, cold)
    assert fresh(code, cold).splitlines()[2] == "[]"
