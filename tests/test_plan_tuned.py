"""Tuned rows: the planner obeys the file of this CPU, the bits stay the same, and a broken file is said and left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import small_graph

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.kernels import isa as isas
from sepcore.options import SessionOptions
from sepcore.plan import bands, tuned, tuned_rows
from sepcore.plan.program import Program, Step
from sepcore.plan.tuned import tuned_path, write_tuned
from sepcore.runtime.session import Session, chosen_isa


def random(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that tuned rows are looked for in; kernels stay where they are compiled already."""
    monkeypatch.setattr(tuned, "cache_candidates", lambda chosen: [tmp_path])
    return tmp_path


def session(folder: Path, graph: Graph, threads: int, rows: dict[str, str] | None = None) -> Session:
    path = tuned_path(folder, chosen_isa().name)
    path.unlink(missing_ok=True)
    if rows is not None:
        write_tuned(path, chosen_isa().name, rows)
    return Session(graph, SessionOptions(threads))


def every_step(program: Program) -> list[Step]:
    return [row for step in program.steps for row in (step, *(r for run in step.chain for r in run))]


def choices(program: Program) -> dict[str, tuple[str, ...]]:
    """Key -> names of the rows, the cheapest first, of every choice in a program."""
    steps = every_step(program)
    return {s.choice.key: tuple(name for name, _ in s.choice.rows) for s in steps if s.choice is not None}


def layers_of_all_kinds() -> Graph:
    """A stem, depthwise layers of all sizes, pointwise layers with a rest of eight channels, and a grouped one."""
    rng = np.random.default_rng(1)
    b = GraphBuilder("layers")

    def conv(x: str, ic: int, oc: int, k: int, s: int = 1, g: int = 1, act: Any = None, residual: str = "") -> str:
        weight = (rng.standard_normal((oc, ic // g, k, k)) / np.sqrt(ic // g * k * k)).astype(np.float32)
        inputs = [x, b.constant("w", weight), b.constant("b", rng.standard_normal(oc).astype(np.float32))]
        return b.add(
            "conv2d", inputs + ([residual] if residual else []), strides=(s, s), padding=(k // 2,) * 4,
            dilation=(1, 1), groups=g, activation=act,
        )  # fmt: skip

    y = conv(b.input("input", ("n", 3, "h", "w")), 3, 40, 3, 2, act=("silu",))
    for size in (3, 5, 7):
        z = conv(conv(y, 40, 72, 1, act=("hardswish",)), 72, 72, size, 1, 72, ("silu",))
        y = conv(z, 72, 40, 1, residual=y)
        y = conv(conv(y, 40, 40, size, 2, 40, ("clamp", 0.0, 6.0)), 40, 40, 1, act=("silu",))
    return b.build([conv(y, 40, 64, 3, 1, 2, ("relu",))])


@pytest.mark.parametrize("isa", [i.name for i in isas.available()])
def test_every_row_of_a_choice_gives_the_same_bits(isa: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("SEPCORE_CPU_ISA", isa)
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 0)
    graph, x = layers_of_all_kinds(), random(1, 3, 101, 117)
    usual = session(folder, graph, 1)
    expected, asked = usual(x), choices(usual.program(x.shape))
    assert {key.split()[0] for key in asked} == {"chain", "stem", "depthwise", "pointwise", "conv"}
    taken: set[str] = set()
    for turn in range(max(map(len, asked.values()))):
        other = session(folder, graph, 1, {key: rows[turn % len(rows)] for key, rows in asked.items()})
        np.testing.assert_array_equal(other(x), expected)
        taken |= {step.kernel for step in every_step(other.program(x.shape))}
    assert taken >= {row for key, rows in asked.items() if not key.startswith("chain") for row in rows}


def test_the_planner_obeys_and_keeps_threads_apart(folder: Path) -> None:
    x = random(1, 3, 32, 32)
    asked = choices(session(folder, small_graph(), 2).program(x.shape))
    key = next(key for key, rows in asked.items() if key.endswith(" by 2") and len(rows) > 2)
    wanted = asked[key][-1]
    two = session(folder, small_graph(), 2, {key: wanted, "pointwise 1x2x3": "gone", "stem x": wanted})
    took = {s.choice.key: s.kernel for s in every_step(two.program(x.shape)) if s.choice is not None}
    assert took[key] == wanted
    assert all(row == asked[other][0] for other, row in took.items() if other != key)
    one = session(folder, small_graph(), 1)
    took = {s.choice.key: s.kernel for s in every_step(one.program(x.shape)) if s.choice is not None}
    assert took[key.removesuffix(" by 2")] == asked[key][0]


def test_a_row_that_does_not_cover_the_layer_is_not_taken(folder: Path) -> None:
    x = random(1, 3, 32, 32)
    asked = choices(session(folder, small_graph(), 1).program(x.shape))
    swapped = dict(zip(asked, [rows[0] for rows in list(asked.values())[1:]] + ["chain"]))
    found = choices(session(folder, small_graph(), 1, swapped).program(x.shape))
    assert found == asked
    np.testing.assert_array_equal(session(folder, small_graph(), 1, swapped)(x), session(folder, small_graph(), 1)(x))


def test_the_file_is_small_readable_and_named_after_the_cpu(tmp_path: Path) -> None:
    path = tuned_path(tmp_path, "avx2")
    write_tuned(path, "avx2", {"b": "row", "a": "row"})
    assert path.parent == tmp_path / "tuned"
    assert json.loads(path.read_text("utf-8")) == {
        "format": "sepcore tuned rows", "version": 1, "cpu": tuned.cpu_name(), "isa": "avx2",
        "rows": {"a": "row", "b": "row"},
    }  # fmt: skip
    assert tuned_rows("avx2", tmp_path) == {"a": "row", "b": "row"}
    assert tuned_rows("avx512", tmp_path) == {}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"{", b"[]", b"[" * 100_000, b'{"format": "sepcore tuned rows", "version": 2, "rows": {}}',
        b'{"format": "sepcore tuned rows", "version": 1}',
        b'{"format": "sepcore tuned rows", "version": 1, "rows": {"a": 1}}',
        b'{"format": "sepcore tuned rows", "version": 1, "rows": {}}' + b" " * (1 << 20),
    ],
)  # fmt: skip
def test_a_broken_file_is_said_and_left(tmp_path: Path, content: bytes) -> None:
    path = tuned_path(tmp_path, "avx2")
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match=r"\.avx2\.json: not obeyed: .*`sepcore tune` makes it anew"):
        assert tuned_rows("avx2", tmp_path) == {}


def test_cpus_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: Some CPU (R)\n\nmodel name\t: other\n"
    )
    monkeypatch.setattr(tuned, "_CPUINFO", info)
    assert tuned.cpu_name() == "Some CPU (R) (family 26, model 2)"
    assert tuned_path(tmp_path, "avx2").name == "some-cpu-r-family-26-model-2.avx2.json"
    monkeypatch.setattr(tuned, "_CPUINFO", tmp_path / "none")
    assert tuned.cpu_name()
