"""No file, however hostile or broken, may do anything but raise one FormatError within a second; none may run code."""

from __future__ import annotations

import ast
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import hostile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quick import within
from torch_layouts import Raw, zip_file

import sepcore.formats
from sepcore.errors import FormatError
from sepcore.formats.checkpoint import read_checkpoint
from sepcore.formats.sniff import sniff

SECONDS = 1.0


def outcome(path: Path, content: bytes) -> str:
    """Read ``content`` from a file and say "read" or "refused"; any other exception fails the test."""
    path.write_bytes(content)
    try:
        read_checkpoint(path)
    except FormatError as caught:
        error = caught
    else:
        return "read"
    assert error.path == str(path)
    assert error.where and error.expected and error.found
    assert len(str(error)) < 2000
    return "refused"


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file name in a folder of its own; the test fails if reading leaves anything else there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "victim.pth"
    assert [path.name for path in tmp_path.iterdir()] == ["victim.pth"]


@pytest.mark.parametrize("group", hostile.GROUPS, ids=lambda group: group.__name__)
def test_hostile_files_are_refused_within_a_second(
    group: Callable[[], Iterator[tuple[str, bytes]]], victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"a file ran {command!r}"))
    names: list[str] = []
    for name, content in group():
        assert within(SECONDS, partial(outcome, victim, content), name) == "refused", name
        names.append(name)
    assert len(names) == len(set(names)) > 0


@pytest.mark.parametrize("layout", hostile.SOUND)
def test_the_files_that_cases_are_made_from_are_sound(layout: str, victim: Path) -> None:
    assert outcome(victim, hostile.SOUND[layout]()) == "read"


def test_values_beside_the_weights_are_never_walked(victim: Path) -> None:
    laughs = {**hostile.state_dict(), "laughs": Raw(hostile.LAUGHS)}
    assert outcome(victim, zip_file(laughs, hostile.STORAGES)) == "read"


def test_flipped_bits(victim: Path) -> None:
    outcomes = [outcome(victim, content) for _, content in hostile.bit_flips(500)]
    assert outcomes.count("refused") > len(outcomes) // 2


OPCODES = sorted(
    {*b"(01NIJKMGUTXCB]ae)t}suhjqrcRbQ.iodlgpPFSLV2", *range(0x80, 0x99)},
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(OPCODES), st.binary(max_size=4)), max_size=60))
def test_random_programs(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bytes]]) -> None:
    program = b"\x80\x02" + b"".join(bytes([opcode]) + operand for opcode, operand in steps) + b"."
    assert outcome(tmp_path_factory.getbasetemp() / "program.pth", zip_file(Raw(program))) == "refused"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(hostile.SOUND)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 16), st.binary(max_size=16)), min_size=1, max_size=4),
)
def test_random_edits(
    tmp_path_factory: pytest.TempPathFactory, layout: str, edits: list[tuple[float, int, bytes]]
) -> None:
    content = hostile.SOUND[layout]()
    for place, removed, inserted in edits:
        at = int(place * len(content))
        content = content[:at] + inserted + content[at + removed :]
    outcome(tmp_path_factory.getbasetemp() / "edited.pth", content)


def test_pickles_spliced_from_sound_ones(victim: Path) -> None:
    rng = random.Random(1)
    sound = hostile.sound_zip()
    start = sound.index(b"\x80\x02")
    pickle = sound[start : sound.index(b".", sound.index(b"_rebuild_tensor_v2") + 200)]
    for _ in range(500):
        first, second = (rng.randrange(len(pickle)) for _ in range(2))
        outcome(victim, zip_file(Raw(pickle[:first] + pickle[second:] + b"."), hostile.STORAGES))


def test_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_checkpoint, sniff):
        with pytest.raises(FileNotFoundError) as caught:
            read(tmp_path / "missing.pth")
        assert caught.value.filename == str(tmp_path / "missing.pth")


def test_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a folder"):
        read_checkpoint(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FormatError, match="a device, pipe or socket"):
            read_checkpoint(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_a_permission_error(tmp_path: Path) -> None:
    path = tmp_path / "secret.pth"
    path.write_bytes(hostile.sound_zip())
    path.chmod(0)
    with pytest.raises(PermissionError):
        read_checkpoint(path)


def test_the_readers_import_nothing_that_executes() -> None:
    forbidden_modules = {"pickle", "_pickle", "importlib", "marshal", "shelve", "subprocess", "torch", "builtins"}
    forbidden_names = {"eval", "exec", "compile", "__import__", "getattr", "globals"}
    for path in sorted(Path(sepcore.formats.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert forbidden_modules.isdisjoint(alias.name.split(".")[0] for alias in node.names), path
            elif isinstance(node, ast.ImportFrom):
                assert str(node.module).split(".")[0] not in forbidden_modules, path
            elif isinstance(node, ast.Name):
                assert node.id not in forbidden_names, path
