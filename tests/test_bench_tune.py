"""Tuning: least times by turns, the faster row is found, kept and obeyed, and a planner that chose badly is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from networks import small_graph

from sepcore.bench import networks, tune, tuning
from sepcore.bench.profile import Calls
from sepcore.bench.tune import Timing, confirmed, faster, least_times, time_choices
from sepcore.bench.tuning import check_networks, checked_text, tune_networks
from sepcore.cli.tune import tune as command
from sepcore.options import SessionOptions
from sepcore.plan import bands
from sepcore.plan.program import Program
from sepcore.plan.select import NOTHING_TUNED, Choice
from sepcore.runtime.session import Session

SHAPES = ((1, 3, 64, 64),)


def test_least_times_are_taken_by_turns() -> None:
    now, log = [0], []
    takes = {"a": iter((9, 5, 7)), "b": iter((4, 8, 6)), "c": iter((3, 2, 1))}

    def call(name: str) -> Callable[[], None]:
        def made() -> None:
            log.append(name)
            now[0] += next(takes[name])

        return made

    found = least_times([[call("a"), call("b")], [call("c")]], 3, lambda: now[0])
    assert [list(times) for times in found] == [[5, 4], [1]]
    assert "".join(log) == "abc" + "cab" + "abc"


def test_a_row_is_kept_only_where_it_is_worth_it() -> None:
    timings = [
        Timing("more", "a", {"a": 105_000, "b": 100_000}),
        Timing("noise", "a", {"a": 101_000, "b": 100_000}),
        Timing("planned", "a", {"a": 100_000, "b": 105_000}),
        Timing("too short to tell", "a", {"a": 1_100, "b": 1_000}),
    ]
    assert faster(timings) == {"more": "b"}
    assert timings[0].loss == pytest.approx(0.05)


@pytest.fixture
def slow_kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says which kernels take ten milliseconds, and all others one: times then do not depend on the machine."""
    slow: list[str] = []

    def times(variants: list[Any], passes: int) -> list[Any]:
        programs: list[Program] = [made[id(steps)] for steps in variants]
        return [
            np.array([10_000_000 if step.kernel in slow or step.chain else 1_000_000 for step in program.steps])
            for program in programs
        ]

    made: dict[int, Program] = {}
    kept: list[Calls] = []
    original = tune.program_calls

    def remember(session: Session, shapes: Any) -> Calls:
        calls = original(session, shapes)
        made[id(calls.steps)] = calls.program
        kept.append(calls)  # its id is not to be used again
        return calls

    monkeypatch.setattr(tune, "program_calls", remember)
    monkeypatch.setattr(tune, "least_times", times)
    return slow.append


def choices(session: Session) -> dict[str, tuple[str, Choice[Any]]]:
    steps = session.program(*SHAPES).steps
    return {s.choice.key: (s.kernel, s.choice) for s in steps if s.choice is not None and not s.chain}


def test_the_faster_rows_are_found_and_obeyed(slow_kernel: Callable[[str], None]) -> None:
    session = Session(small_graph(), SessionOptions(1))
    key, (planned, choice) = next((k, c) for k, c in choices(session).items() if k.startswith("pointwise"))
    slow_kernel(planned)
    timings = time_choices(session, SHAPES, NOTHING_TUNED, 5)
    affected = {k for k, (kernel, _) in choices(session).items() if kernel == planned}
    rows = faster(timings)
    assert set(rows) == affected and rows[key] in [name for name, _ in choice.rows][1:5]
    (found,) = [t for t in timings if t.key == key]
    assert len(found.nanoseconds) == min(5, len(choice.rows))
    assert found.loss == pytest.approx(9)
    x = np.random.default_rng(0).standard_normal(SHAPES[0], np.float32)
    expected = session(x)
    session.retune(rows)
    assert choices(session)[key][0] == rows[key]
    np.testing.assert_array_equal(session(x), expected)


def test_a_chain_slower_than_its_layers_is_taken_apart(
    slow_kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 0)
    session = Session(small_graph(), SessionOptions(1))
    before = session.program(*SHAPES)
    assert any(step.chain for step in before.steps)
    rows = faster(time_choices(session, SHAPES, NOTHING_TUNED, 1))
    assert session.program(*SHAPES).kernels() == before.kernels()
    session.retune(rows)
    assert not any(step.chain for step in session.program(*SHAPES).steps)


def test_chains_are_timed_again_too(slow_kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 0)
    session = Session(small_graph(), SessionOptions(1))
    key = next(step.choice.key for step in session.program(*SHAPES).steps if step.chain and step.choice)
    once = [Timing(key, "bands", {"bands": 1_100_000, "layers": 1_000_000})]
    (again,) = confirmed(session, SHAPES, NOTHING_TUNED, once)
    assert again.key == key and again.nanoseconds["bands"] == 10_000_000
    assert any(step.chain for step in session.program(*SHAPES).steps)


def test_a_row_of_a_chain_is_timed_there(slow_kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 0)
    session = Session(small_graph(), SessionOptions(1))
    chains = [step for step in session.program(*SHAPES).steps if step.chain]
    row = next(row for row in chains[0].chain[0] if row.choice and len(row.choice.rows) > 1)
    assert row.choice
    other = next(name for name, _ in row.choice.rows if name != row.kernel)
    once = [Timing(row.choice.key, row.kernel, {row.kernel: 1_100_000, other: 1_000_000})]
    (again,) = confirmed(session, SHAPES, NOTHING_TUNED, once)
    # A chain takes as long with either row, says the clock.
    assert again.loss == 0 and again.nanoseconds == {row.kernel: 1_100_000, other: 1_100_000}


def test_what_is_kept_is_taken_by_the_next_session(
    slow_kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuning, "NETWORKS", {"small": small_graph})
    usual = Session(small_graph(), SessionOptions(1))
    program = usual.program((1, 3, 224, 224))
    planned = next(s.kernel for s in program.steps if s.choice and s.choice.key.startswith("pointwise"))
    slow_kernel(planned)
    monkeypatch.setattr(tuning, "time_sequence", lambda calls, passes: [2_000_000, 1_000_000])
    said: list[str] = []
    kept = tune_networks([], [1, 2], tmp_path, said.append)
    assert said == ["small, 1 threads", "small, 2 threads"]
    assert any(key.endswith(" by 2") for key in kept.rows) and not all(key.endswith(" by 2") for key in kept.rows)
    assert json.loads(Path(kept.path).read_text("utf-8"))["rows"] == kept.rows
    assert [(n.name, n.threads) for n in kept.networks] == [("small", 1), ("small", 2)]
    monkeypatch.setattr("sepcore.plan.tuned.cache_candidates", lambda chosen: [tmp_path])
    taken = Session(small_graph(), SessionOptions(1)).program((1, 3, 224, 224))
    assert planned not in [s.kernel for s in taken.steps]
    # What was kept for other layers stays; what these networks' layers no longer want goes.
    Path(kept.path).write_text(
        json.dumps({"format": "sepcore tuned rows", "version": 1, "rows": {**kept.rows, "pointwise 1x1x1": "other"}})
    )
    again = tune_networks([], [1], tmp_path, said.append)
    assert again.rows == {**kept.rows, "pointwise 1x1x1": "other"}


def test_a_network_that_is_no_faster_keeps_nothing(
    slow_kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuning, "NETWORKS", {"small": small_graph})
    program = Session(small_graph(), SessionOptions(1)).program((1, 3, 224, 224))
    slow_kernel(next(s.kernel for s in program.steps if s.choice and s.choice.key.startswith("pointwise")))
    monkeypatch.setattr(tuning, "time_sequence", lambda calls, passes: [1_000_000, 1_000_001])
    kept = tune_networks([], [1], tmp_path, lambda name: None)
    assert kept.rows == {} and (kept.networks[0].before, kept.networks[0].after) == (1_000_000, 1_000_000)


def test_check_names_what_the_planner_chose_badly(
    slow_kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuning, "NETWORKS", {"small": small_graph})
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", 1 << 60)
    fine = CliRunner().invoke(command, ["--check", "--threads", "1", "--cache-dir", str(tmp_path)])
    assert (fine.exit_code, "none loses more than 5 %" in fine.output) == (0, True)
    program = Session(small_graph(), SessionOptions(1)).program((1, 3, 224, 224))
    planned = next(s.kernel for s in program.steps if s.choice and s.choice.key.startswith("pointwise"))
    slow_kernel(planned)
    slow = check_networks([], [1], 0.05, tmp_path, lambda name: None)
    assert {t.planned for _, t in slow.timings} == {planned}
    bad = CliRunner().invoke(command, ["--check", "--threads", "1", "--cache-dir", str(tmp_path)])
    assert (bad.exit_code, bad.output.strip()) == (1, checked_text(slow))
    assert "900.0 %" in bad.output
    assert not any(tmp_path.iterdir())


def test_tuning_measures_for_real(tmp_path: Path) -> None:
    arguments = ["digits", "--threads", "1", "--cache-dir", str(tmp_path), "--format", "json"]
    found = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert found["networks"][0]["before"] > 0 and found["networks"][0]["after"] > 0
    assert Path(found["path"]).is_relative_to(tmp_path) and Path(found["path"]).is_file()


# Multiply-adds as PyTorch's definitions of torchvision (V1 and V4: timm) have them, counted by hooks on its layers.
MACS = {
    "mobilenet_v1": 568_740_352, "mobilenet_v2": 300_774_272, "mobilenet_v3_large": 216_589_760,
    "mobilenet_v3_small": 56_510_400, "mnasnet1_0": 314_415_872, "efficientnet_b0": 385_814_752,
    "mobilenetv4_conv_small": 186_005_568,
}  # fmt: skip


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_reference_networks_are_those_of_the_papers(name: str) -> None:
    program = Session(networks.NETWORKS[name](), SessionOptions(1)).program((1, 3, 224, 224))
    assert sum(step.macs for step in program.steps) == MACS[name]
