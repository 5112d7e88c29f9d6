"""Frozen networks: the same bits in an environment with NumPy alone, on the best level; damage is found."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from networks import DIGITS

import sepcore
from sepcore.cli import main
from sepcore.compile import elf, objects_for
from sepcore.errors import CpuError, FormatError, InputError, OptionError
from sepcore.formats.sep import write_sep
from sepcore.formats.sep_manifest import SepNetwork
from sepcore.freeze import THREADS, freeze
from sepcore.freeze.front import PACKAGE
from sepcore.freeze.weights import LaidOutWeights, WeightsFile, nested
from sepcore.freeze.wheel import write_wheel
from sepcore.image.preprocess import Preprocess
from sepcore.ir.graph import GraphBuilder
from sepcore.kernels import isa as isas
from sepcore.kernels import registry
from sepcore.kernels.runtime import rows as runtime_rows
from sepcore.opening import opened_network, rewritten
from sepcore.passes import run_passes
from sepcore.runtime.frozen import MANIFEST, WEIGHTS, Frozen, repack

CPUS = ("x86-64-v4", "x86-64-v3")
LEVELS = [isa.name for isa in isas.available() if isa.cpu in CPUS]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="networks are frozen on Linux alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network, frozen for two levels."""
    return freeze("digits", tmp_path_factory.mktemp("frozen") / "frozen_digits").folder


@pytest.fixture(scope="module")
def numpy_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that has NumPy and no other package."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root / "env", with_pip=False, symlinks=True)
    numpy_at = Path(np.__file__).parent
    (root / "packages").mkdir()
    for part in (numpy_at, numpy_at.with_name("numpy.libs")):
        if part.exists():
            (root / "packages" / part.name).symlink_to(part)
    (site,) = (root / "env" / "lib").glob("python*/site-packages")
    (site / "numpy.pth").write_text(str(root / "packages"), encoding="utf-8")
    return root / "env" / "bin" / "python"


def opened(folder: Path, num_threads: int | None = 1) -> Frozen:
    text = (folder / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r"0x[0-9a-f]{8}", text)
    assert found is not None
    return Frozen(str(folder), int(found[0], 16), num_threads)


def pictures(count: int) -> np.ndarray:
    model = sepcore.load("digits")
    return np.random.default_rng(count).standard_normal((count, 3, *model.preprocess.input_size), np.float32)


RUN = """
import importlib, os, sys
import numpy as np
sys.path.insert(0, os.path.dirname(sys.argv[1]))
package = importlib.import_module(os.path.basename(sys.argv[1]))
with np.load(sys.argv[2]) as given:
    x = given["x"]
net = package.load(num_threads=int(sys.argv[4]))
np.savez(sys.argv[3], y=net(x), one=net(x[:1]), isa=net.isa, threads=net.num_threads)
foreign = {m.split(".")[0] for m in sys.modules} & {"numba", "llvmlite", "PIL", "click", "safetensors", "sepcore"}
assert not foreign, foreign
"""


@pytest.mark.skipif(not LEVELS, reason="this CPU has none of the levels")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", LEVELS)
def test_same_bits_with_numpy_alone(
    isa: str, threads: int, folder: Path, numpy_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEPCORE_CPU_ISA", isa)
    x = pictures(5)
    expected = sepcore.load("digits", num_threads=threads)(x)
    np.savez(tmp_path / "x.npz", x=x)
    command = [numpy_only, "-c", RUN, folder, tmp_path / "x.npz", tmp_path / "y.npz", str(threads)]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "y.npz") as found:
        assert (str(found["isa"]), int(found["threads"])) == (isa, threads)
        assert found["y"].tobytes() == expected.tobytes()
        assert found["one"].tobytes() == expected[:1].tobytes()


def test_network_says_what_it_takes_and_gives(folder: Path) -> None:
    model, net = sepcore.load("digits"), opened(folder)
    side = model.preprocess.input_size[0]
    assert [tuple(spec) for spec in net.inputs] == [(model.inputs[0].name, ("n", 3, side, side))]
    assert [tuple(spec) for spec in net.outputs] == [(model.outputs[0].name, ("n", 10))]
    assert net.labels == [str(i) for i in range(10)]
    assert net.preprocess["mean"] == list(model.preprocess.mean)
    x = pictures(2)
    (y,) = net.run(None, {model.inputs[0].name: x})
    assert y.tobytes() == net(x).tobytes()
    assert net(x[:0]).shape == (0, 10)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((1, 3, 7, 7), np.float32), r"expected shape \(n, 3, .*found \(1, 3, 7, 7\)"),
        (np.zeros((3, 8, 8), np.float32), "expected 4 axes"),
        (np.zeros((1, 3, 8, 8)), "expected float32, found float64"),
        ([1.0], "expected a numpy array, found list"),
    ],
)
def test_wrong_inputs_are_refused(x: np.ndarray, said: str, folder: Path) -> None:
    with pytest.raises(InputError, match=said):
        opened(folder)(x)


@pytest.mark.parametrize(("declared", "images"), [(2, 2), ("n", 1)])
def test_network_that_mixes_its_images_is_run_as_a_whole(declared: int | str, images: int, tmp_path: Path) -> None:
    b = GraphBuilder("mixing")
    x = b.input("x", (declared, 3, 8, 8))
    y = b.add("reduce_mean", [b.add("relu", [x])], axes=(0,), keepdims=True)
    graph = run_passes(b.build([y]), verify=True)
    write_sep(tmp_path / "mixing.sep", SepNetwork(graph, Preprocess((8, 8)), "test", "mixing", 0, None, "test"))
    net = opened(freeze(tmp_path / "mixing.sep", tmp_path / "mixing", cpus=[CPUS[-1], "x86-64", "aarch64"]).folder)
    assert [tuple(spec.shape) for spec in (*net.inputs, *net.outputs)] == [(images, 3, 8, 8), (1, 3, 8, 8)]
    given = np.random.default_rng(2).standard_normal((images, 3, 8, 8), np.float32)
    expected = np.maximum(given, 0).astype(np.float64).mean(axis=0, keepdims=True)
    np.testing.assert_allclose(net(given), expected, rtol=1e-6)
    with pytest.raises(InputError, match=f"expected a batch of {images}, found 3"):
        net(np.zeros((3, 3, 8, 8), np.float32))


@pytest.mark.parametrize(("asked", "taken"), [(1, 1), (2, 2), (5, 4), (7, 6), (100, THREADS[-1])])
def test_takes_as_many_threads_as_it_may(asked: int, taken: int, folder: Path) -> None:
    assert opened(folder, asked).num_threads == taken


def test_cpu_without_a_level_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isas, "cpu_flags", lambda: frozenset({"sse2"}))
    with pytest.raises(CpuError, match=r"frozen for x86-64-v4 or x86-64-v3: expected .* found one that runs x86-64 "):
        opened(folder)


def test_best_level_that_is_allowed_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if LEVELS:
        assert opened(folder).isa == LEVELS[0]
        monkeypatch.setenv("SEPCORE_CPU_ISA", LEVELS[-1])
        assert opened(folder).isa == LEVELS[-1]
    monkeypatch.setenv("SEPCORE_CPU_ISA", "portable")
    with pytest.raises(CpuError):
        opened(folder)
    monkeypatch.setenv("SEPCORE_CPU_ISA", "sse9")
    with pytest.raises(OptionError, match="sse9"):
        opened(folder)


def test_frozen_for_another_machine(tmp_path: Path) -> None:
    """What can be seen of AArch64 code from elsewhere: it is linked, and nothing here takes it for its own."""
    made = freeze("digits", tmp_path / "digits_arm", cpus=["aarch64"])
    (level,) = json.loads((made.folder / MANIFEST).read_text(encoding="ascii"))["levels"]
    assert (level["machine"], level["isa"]) == ("aarch64", "neon")
    assert set(level["native"]) >= {"pool_run", "walk_alone"} and any(
        "pointwise" in name for name in level["functions"]
    )
    rows = [spec for spec in (*registry.rows("neon"), *runtime_rows.rows("neon")) if spec.name in level["functions"]]
    assert len(rows) == len(level["functions"])
    code = (made.folder / level["code"]).read_bytes()
    native = [spec for spec in rows if spec.op == "runtime"]
    objects = objects_for([spec for spec in rows if spec.op != "runtime"], "neon")
    objects |= objects_for(native, "neon", registry=runtime_rows.__name__)
    for name, content in objects.items():
        parsed = elf.parse(content)
        symbol = next(symbol for symbol in parsed.symbols if symbol.name == name)
        assert symbol.section is not None
        text, at = parsed.sections[symbol.section].content, level["functions"][name] - symbol.value
        before, after = (np.frombuffer(part, np.uint32) for part in (text, code[at : at + len(text)]))
        referring = {offset // 4 for offset, _, _ in parsed.relocations.get(symbol.section, [])}
        assert set(np.flatnonzero(before != after).tolist()) <= referring
    if isas.available()[0] is not isas.NEON:
        with pytest.raises(CpuError, match="frozen for aarch64"):
            opened(made.folder)


def test_every_damage_to_a_file_is_found(folder: Path, tmp_path: Path) -> None:
    """Flipped bits, lost ends and added bytes in all that is not Python."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    net = opened(copy)
    level = net.isa
    used = [MANIFEST, WEIGHTS, f"{level}.code", f"{level}.1.program"]
    chance = random.Random(11)
    for i in range(1000):
        path = copy / used[i % len(used)]
        whole = path.read_bytes()
        content = bytearray(whole)
        if i % 5 == 0:
            del content[chance.randrange(len(content)) :]
        elif i % 5 == 1:
            content += bytes(chance.randint(1, 9))
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        with pytest.raises(FormatError, match=re.escape(str(path))):
            opened(copy)
        path.write_bytes(whole)
    assert opened(copy)(pictures(1)).tobytes() == opened(folder)(pictures(1)).tobytes()


def test_missing_file_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(WEIGHTS)):
        opened(tmp_path / "copy")


def test_front_is_this_packages_own_code(folder: Path) -> None:
    """Every file differs from its original in nothing but the names of imports, and imports nothing of sepcore's."""
    root = Path(sepcore.__file__).parent
    copies = [path for path in (folder / PACKAGE).rglob("*.py") if path.name != "__init__.py"]
    assert {"frozen.py", "pool.py", "code.py", "context.py"} <= {path.name for path in copies}
    for path in copies:
        original = (root / path.relative_to(folder / PACKAGE)).read_text(encoding="utf-8").splitlines()
        text = path.read_text(encoding="utf-8").splitlines()
        assert len(text) == len(original)
        for copied, written in zip(text, original):
            if copied != written:
                assert written.lstrip().startswith("from sepcore") and copied.lstrip().startswith("from .")
        for node in ast.walk(ast.parse("\n".join(text))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("sepcore") for alias in node.names), path
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert not (node.module or "").startswith("sepcore"), path


def test_the_order_of_levels_does_not_matter(folder: Path, tmp_path: Path) -> None:
    """Weights are packed for the best, whichever is named first."""
    again = freeze("digits", tmp_path / "frozen_digits", cpus=CPUS[::-1]).folder
    files = [folder / WEIGHTS, *folder.glob("*.copies")]
    assert len(files) == 2
    for path in files:
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_weights_are_there_once(folder: Path) -> None:
    network = rewritten(opened_network("digits", None, None, None, None, None, {}))
    raw = sum(array.nbytes for array in network.graph.constants.values())
    assert (folder / WEIGHTS).stat().st_size < 1.5 * raw + (64 << 10)


@pytest.mark.data
def test_mobilenet_v2_fits_and_gives_the_same_bits(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = data_dir / "weights" / "mobilenet_v2.pth"
    made = freeze(file, tmp_path / "mobilenet_v2", cpus=CPUS)
    assert sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file()) <= 16_000_000
    x = np.random.default_rng(1).standard_normal((2, 3, 224, 224), np.float32)
    for isa in LEVELS:
        monkeypatch.setenv("SEPCORE_CPU_ISA", isa)
        assert opened(made.folder, 2)(x).tobytes() == sepcore.load(file, num_threads=2)(x).tobytes()


# --- weights of one level from another's ------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns_here", "columns_there"), [(32, 16), (16, 48), (112, 24), (40, 40)])
def test_few_copies_turn_one_packing_into_another(columns_here: int, columns_there: int) -> None:
    def pack(values: np.ndarray, columns: int) -> np.ndarray:
        rows, width = values.shape
        full = np.zeros((rows, -(-width // columns) * columns), values.dtype)
        full[:, :width] = values
        return full.reshape(rows, -1, columns).transpose(1, 0, 2).ravel()

    ids = np.arange(1, 1 + 65 * 120).reshape(65, 120)
    here, there = pack(ids, columns_here), pack(ids, columns_there)
    places = np.full(ids.max() + 1, -1)
    places[here] = np.arange(here.size)
    places[0] = -1
    copies = nested(places[there])
    assert len(copies) <= 4 * (120 // min(columns_here, columns_there) + 1)
    rows = [[to, at, *([1, 0, 0] * (4 - len(loops))), *(n for loop in loops for n in loop)] for to, at, loops in copies]
    target = np.zeros(there.size, np.uint32)
    repack(here.astype(np.uint32).view(np.uint8), np.array(rows, np.int64), target.view(np.uint8))
    np.testing.assert_array_equal(target, there)


def test_what_cannot_be_copied_is_appended() -> None:
    """Packing that computes, tables, and blocks of nodes that the first level does not have."""
    weight = np.arange(1, 9, dtype=np.float32)
    first, other = LaidOutWeights(), LaidOutWeights()
    first.reserve(("a", 1), np.copy, weight)
    first.reserve(("t", 1), lambda: np.arange(4))
    for key, make, arguments in (
        (("a", 2), lambda w: w[::-1], (weight,)),
        (("b", 2), lambda w: w * w, (weight,)),
        (("c", 2), np.sqrt, (weight,)),
        (("t", 2), lambda: np.arange(4), ()),
        (("u", 2), lambda: np.arange(5), ()),
        (("zeros", 2), lambda: np.zeros(99, np.float32), ()),
    ):
        other.reserve(key, make, *arguments)
    file = WeightsFile(first)
    copies = file.copies(other)
    content = file.content()
    assert content[: first.bytes].tobytes() == first.content().tobytes()
    assert first.bytes < content.size < first.bytes + other.bytes
    target = np.zeros(other.bytes, np.uint8)
    repack(content, copies.reshape(-1), target)
    assert target.tobytes() == other.content().tobytes()


def test_copies_stay_inside() -> None:
    source, target = np.zeros(64, np.uint8), np.zeros(64, np.uint8)
    for row in ([0, 15, *[1, 0, 0] * 3, 2, 1, 1], [15, 0, *[1, 0, 0] * 3, 2, 1, 1], [0, -1, *[1, 0, 0] * 3, 1, 1, 1]):
        with pytest.raises((ValueError, TypeError)):
            repack(source, np.array(row, np.int64), target)


# --- the wheel, the folder and the command ----------------------------------------------------------------------------


def test_wheel_holds_the_folder_and_its_checksums(tmp_path: Path) -> None:
    contents = {"__init__.py": b"x = 1\n", "weights.bin": bytes(range(256)), "sub/__init__.py": b""}
    path = write_wheel(tmp_path, "net", contents, ["aarch64", "x86_64"])
    assert re.fullmatch(r"net-1\.0\+[0-9a-f]{12}-py3-none-linux_aarch64\.linux_x86_64\.whl", path.name)
    with zipfile.ZipFile(path) as wheel:
        assert {n: wheel.read(f"net/{n}") for n in contents} == contents
        info = path.name.split("-py3")[0] + ".dist-info"
        rows = list(csv.reader(io.StringIO(wheel.read(f"{info}/RECORD").decode())))
        assert {row[0] for row in rows} == set(wheel.namelist())
        for name, checksum, size in rows:
            if name != f"{info}/RECORD":
                digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest()).decode().rstrip("=")
                assert (checksum, int(size)) == (f"sha256={digest}", len(wheel.read(name)))
        assert "Tag: py3-none-linux_x86_64" in wheel.read(f"{info}/WHEEL").decode().splitlines()
        assert "Requires-Dist: numpy>=1.26" in wheel.read(f"{info}/METADATA").decode().splitlines()
    first = path.read_bytes()
    assert write_wheel(tmp_path, "net", contents, ["aarch64", "x86_64"]).read_bytes() == first
    assert write_wheel(tmp_path, "net", contents | {"weights.bin": b""}, ["x86_64"]).name[:18] != path.name[:18]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("not-a-name", "the name of a Python package"),
        ("class", "the name of a Python package"),
        ("none/net", "expected a folder"),
        ("there", "expected a name that is free"),
    ],
)
def test_folders_that_cannot_be_are_refused_first(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(OptionError, match=said):
        freeze("no such model", tmp_path / name)
    with pytest.raises(OptionError, match="expected a frozen network to replace"):
        freeze("no such model", tmp_path / "there", overwrite=True)
    with pytest.raises(OptionError, match=r"cpu: expected one of .* found 'z80'"):
        freeze("no such model", tmp_path / "new", cpus=["z80"])
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_command_writes_and_replaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net"
    assert main(["freeze", str(DIGITS), str(out), "--cpu", "x86-64-v3", "--wheel"]) == 0
    said = capsys.readouterr().out
    assert "x86-64-v3" in said and ".whl" in said
    assert main(["freeze", str(DIGITS), str(out)]) == 2
    assert "expected a name that is free" in capsys.readouterr().err
    (out / "extra").touch()
    assert main(["freeze", str(DIGITS), str(out), "--cpu", "x86-64-v3", "--force"]) == 0
    assert not (out / "extra").exists()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".whl"]
    assert main(["freeze", str(tmp_path / "missing.pth"), str(tmp_path / "other")]) == 3
