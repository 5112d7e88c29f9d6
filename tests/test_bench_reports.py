"""Profiles and reports: every step of a real program is there, and each format holds what was measured."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

import sepcore
from sepcore.bench.compare import Comparison, Entry, Skipped
from sepcore.bench.limits import Bandwidth, Limits, cache_sizes
from sepcore.bench.measure import Times
from sepcore.bench.profile import Layer, Profile, input_shapes, profile_model, program_calls
from sepcore.bench.report import comparisons_text, limits_text, markdown_table, profile_text, text_table
from sepcore.bench.roofline import Bound
from sepcore.cli.bench import bench
from sepcore.cli.limits import limits
from sepcore.cli.profile import profile
from sepcore.errors import InputError, OptionError

LIMITS = Limits("avx2", 100.0, tuple(Bandwidth(level, 1, 50.0) for level in (*cache_sizes(), "memory")))

PROFILE = Profile(
    "net.pth",
    "avx2",
    2,
    ((1, 3, 8, 8),),
    (
        Layer("conv.0", "f32_pointwise_4x16__avx2", 6, 5_000_000, 100_000, 2_000_000, Bound(80_000, "multiply-adds")),
        Layer("conv.1+conv.2", "chain__avx2: f32_a__avx2, f32_b__avx2", 2, 0, 300_000, 1_500_000, Bound(30_000, "L2")),
    ),
    250_000,
    Limits("avx2", 100.0, (Bandwidth("L1", 1 << 14, 200.0), Bandwidth("memory", 1 << 27, 20.0))),
)

COMPARISON = Comparison(
    "net.onnx",
    "avx2",
    100.0,
    5_000_000,
    (
        Entry("sepcore", "1.0", "float32", 1, 8, Times(24, 2.0, 1.5, 2.5, 3.0), 4000.0, 1.0, 0.4, 0.01, True),
        Entry("litert", "2.3", "float32", 1, 8, Times(24, 3.0, 2.5, 3.5, 4.0), 2666.7, 1.5, 0.267, 0.123, False),
    ),
    (Skipped("ncnn", 1, 8, "not installed"), Skipped("ncnn", 2, 8, "not installed")),
)


def test_profile_holds_every_step_of_the_program_with_its_time() -> None:
    model = sepcore.load("digits", num_threads=1)
    steps = model.program((1, 3, 32, 32)).steps
    found = profile_model(model, "digits", None, 3, LIMITS)
    assert [(layer.name, layer.macs, layer.tiles) for layer in found.layers] == [
        (s.node, s.macs, s.tiles) for s in steps
    ]
    assert all(layer.nanoseconds > 0 for layer in found.layers)
    assert found.whole_nanoseconds > 0
    assert (found.threads, found.shapes, found.isa) == (1, ((1, 3, 32, 32),), model.isa)


def test_profile_runs_the_steps_it_times() -> None:
    """What the last step wrote after all had run one by one is what the network gives."""
    model = sepcore.load("digits", num_threads=2)
    calls = program_calls(model, ((1, 3, 32, 32),))
    for call in calls.steps:
        call()
    np.testing.assert_array_equal(calls.outputs[0], model(calls.inputs[0]))


def test_profile_of_another_size() -> None:
    model = sepcore.load("digits", num_threads=1)
    assert input_shapes(model, 5, 48) == ((5, 3, 48, 48),)
    assert profile_model(model, "digits", 48, 1, LIMITS).shapes == ((1, 3, 48, 48),)
    with pytest.raises(InputError):
        model.program((1, 4, 32, 32))


def test_profile_table() -> None:
    lines = profile_text(PROFILE, "table").splitlines()
    assert "net.pth, 1x3x8x8, avx2, 2 threads; 20.0 % of the peak of 200 GFLOP/s" in lines[0]
    # 10 MFLOP in 0.1 ms: 100 GFLOP/s, half of what two threads could do; a quarter of the layers' time.
    assert lines[3].split() == [
        "conv.0",
        "pointwise_4x16",
        "100.0",
        "25.0",
        "%",
        "5.00",
        "100.0",
        "20.0",
        "80.0",
        "%",
        "multiply-adds",
    ]
    assert lines[4].split() == [
        "conv.1+conv.2",
        "chain:",
        "a,",
        "b",
        "300.0",
        "75.0",
        "%",
        "0.00",
        "0.0",
        "5.0",
        "10.0",
        "%",
        "L2",
    ]
    assert lines[5].split() == ["all", "in", "one", "call", "250.0", "5.00", "40.0", "14.0", "44.0", "%"]


def test_profile_json() -> None:
    found = json.loads(profile_text(PROFILE, "json"))
    assert found["threads"] == 2
    assert found["layers"][0] == {
        "name": "conv.0",
        "kernel": "f32_pointwise_4x16__avx2",
        "tiles": 6,
        "macs": 5_000_000,
        "nanoseconds": 100_000,
        "bytes": 2_000_000,
        "bound": {"nanoseconds": 80_000, "by": "multiply-adds"},
        "gflops": 100.0,
        "gigabytes_per_second": 20.0,
        "peak_share": 0.5,
        "limit_share": 0.8,
    }


def test_profile_trace_puts_layers_behind_each_other() -> None:
    events = json.loads(profile_text(PROFILE, "trace"))["traceEvents"]
    assert [(e["name"], e["ph"], e["ts"], e["dur"]) for e in events] == [
        ("conv.0", "X", 0.0, 100.0),
        ("conv.1+conv.2", "X", 100.0, 300.0),
    ]
    assert events[0]["args"]["limit_share"] == 0.8
    assert events[1]["args"]["bound_by"] == "L2"


def test_limits_formats() -> None:
    found = Limits("avx2", 123.45, (Bandwidth("L1", 24 << 10, 200.04), Bandwidth("memory", 128 << 20, 30.0)))
    lines = limits_text(found, "table").splitlines()
    assert re.split("  +", lines[1]) == ["avx2 multiply-adds", "123.5 GFLOP/s"]
    assert re.split("  +", lines[2]) == ["L1 read", "200.0 GB/s", "24 KiB"]
    assert json.loads(limits_text(found, "json"))["bandwidths"][1] == {
        "level": "memory",
        "size": 128 << 20,
        "gigabytes_per_second": 30.0,
    }


def test_comparison_formats() -> None:
    table = comparisons_text([COMPARISON], "table")
    assert "net.onnx, 5.0 M multiply-adds an image" in table
    row = next(line for line in table.splitlines() if line.startswith("litert"))
    assert re.split("  +", row) == (
        ["litert 2.3", "float32", "1", "8", "3.000", "2.500", "3.500", "4.000", "1.50x", "2666.7", "26.7 %"]
    )
    assert table.endswith("ncnn left out: not installed (1 threads, batch 8; 2 threads, batch 8)")
    markdown = comparisons_text([COMPARISON], "markdown")
    assert "| sepcore 1.0 | float32 | 1 | 8 | 2.000 |" in markdown
    assert "ncnn left out: not installed" in markdown
    assert "litert waited 12.3 % of its time for a CPU (net.onnx, 1 threads, batch 8)" in table
    assert "sepcore waited" not in table
    assert "litert has other weights: its outputs differ" in table
    (found,) = json.loads(comparisons_text([COMPARISON], "json"))
    assert found["entries"][1]["times"]["p99"] == 4.0
    assert found["skipped"][0]["reason"] == "not installed"


def test_tables_line_up() -> None:
    assert text_table(["a", "b"], [["long", "1"], ["x", "100"]]) == "a       b\nlong    1\nx     100"
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


def test_limits_command() -> None:
    found = json.loads(CliRunner().invoke(limits, ["--format", "json"], catch_exceptions=False).stdout)
    assert found["fma_gflops"] > 0
    assert found["bandwidths"][-1]["level"] == "memory"


def test_profile_command() -> None:
    arguments = ["digits", "--threads", "1", "--passes", "1", "--format", "trace"]
    result = CliRunner().invoke(profile, arguments, catch_exceptions=False)
    assert len(json.loads(result.stdout)["traceEvents"]) == len(
        sepcore.load("digits", num_threads=1).program((1, 3, 32, 32)).steps
    )


def test_bench_command_measures_the_package_and_names_absent_peers() -> None:
    arguments = ["digits", "--against", "ncnn,litert", "--batch", "1,2", "--runs", "4", "--rounds", "2"]
    result = CliRunner().invoke(bench, [*arguments, "--format", "json"], catch_exceptions=False)
    (found,) = json.loads(result.stdout)
    assert [(e["engine"], e["batch"], e["times"]["runs"]) for e in found["entries"]] == [
        ("sepcore", 1, 4),
        ("sepcore", 2, 4),
    ]
    assert {(s["engine"], s["batch"]) for s in found["skipped"]} == {
        (name, batch) for name in ("ncnn", "litert") for batch in (1, 2)
    }


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--batch", "1,x"], ["--peer-file", "litert"]])
def test_bench_command_refuses_what_is_not_a_number_or_a_file(arguments: list[str]) -> None:
    assert CliRunner().invoke(bench, ["digits", *arguments]).exit_code == 2


def test_bench_command_refuses_more_threads_than_cpus() -> None:
    with pytest.raises(OptionError, match="threads: expected at most"):
        CliRunner().invoke(bench, ["digits", "--threads", "100000"], catch_exceptions=False)
