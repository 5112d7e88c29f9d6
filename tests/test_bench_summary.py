"""The table for a README: who is best where, who wins, whose weights are other ones, and where it is put."""

from __future__ import annotations

import datetime
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from sepcore.bench.compare import Comparison, Entry, Skipped
from sepcore.bench.measure import Times
from sepcore.bench.separable import Pair, Separable, Shape, measure_separable, plot_svg, separable_text
from sepcore.bench.summary import BEGIN, END, replaced, summary_text
from sepcore.cli.bench import bench
from sepcore.errors import OptionError


def entry(engine: str, median: float, best: float, threads: int = 1, same: bool = True) -> Entry:
    return Entry(
        engine,
        "1.0",
        "float32",
        threads,
        1,
        Times(240, median, 1, 9, 9),
        1e3 / median,
        median / best,
        0.8,
        0.05 if same else 0.0,
        same,
    )


COMPARISONS = [
    Comparison(
        "nets/one.onnx", "avx2", 250.0, 5_000_000,
        (entry("sepcore", 2.0, 2.0), entry("litert", 3.0, 2.0, same=False), entry("torch", 5.0, 2.0),
         entry("sepcore", 1.0, 1.0, 2), entry("sepcore-prange", 1.25, 1.0, 2), entry("litert", 1.5, 1.0, 2, False)),
        (Skipped("ncnn", 1, 1, "not installed"), Skipped("ncnn", 2, 1, "not installed")),
    ),
    Comparison("two.pt2", "avx2", 250.0, 5_000_000, (entry("sepcore", 4.0, 3.0), entry("torch", 3.0, 3.0)), ()),
]  # fmt: skip


def test_summary_has_a_row_for_each_case_and_says_who_wins() -> None:
    caption, table, verdict = summary_text(COMPARISONS, datetime.date(2026, 1, 2)).split("\n\n")
    assert table.splitlines() == [
        "| network | threads | sepcore | sepcore-prange | litert | torch | best peer / sepcore | of peak |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| one | 1 | **2.00** |  | 3.00 | 5.00 | 1.50 | 80 % |",
        "| one | 2 | **1.00** | 1.25 | 1.50 |  | 1.50 | 80 % |",
        "| two | 1 | 4.00 |  |  | **3.00** | 0.75 | 80 % |",
    ]
    # The cube root of 1.5 * 1.5 * 0.75.
    assert verdict == (
        "Best peer / sepcore: 1.19 in the geometric mean, 0.75 at least. "
        "torch wins two at 1 threads, batch 1, 1.33x."
    )  # fmt: skip
    assert "medians of 240 calls" in caption and "2026-01-02" in caption and "250 GFLOP/s a thread" in caption
    assert "sepcore 1.0, litert 1.0, torch 1.0." in caption
    assert "The files of litert have other weights" in caption and "ncnn left out: not installed." in caption
    assert "The files of torch" not in caption
    assert (
        "Other work on the machine disturbed " in caption and "torch with one (1 threads), two (1 threads)" in caption
    )


def test_summary_says_when_no_peer_wins_or_takes_part() -> None:
    assert summary_text(COMPARISONS[:1], datetime.date.today()).endswith("No peer is ahead anywhere.")
    alone = Comparison("a", "avx2", 1.0, 1, (entry("sepcore", 4.0, 4.0),), ())
    assert summary_text([alone], datetime.date.today()).endswith("No peer took part.")
    with pytest.raises(OptionError, match="could be measured, found none"):
        summary_text([Comparison("a", "avx2", 1.0, 1, (), ())], datetime.date.today())


def test_what_stands_between_the_marks_is_replaced() -> None:
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    for text in ("", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(OptionError, match="into: expected one line"):
            replaced(text, "new")


def test_command_writes_the_summary_into_a_file(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"# Speed\n{BEGIN}\nold\n{END}\nend\n", "utf-8")
    arguments = ["digits", "digits", "--runs", "4", "--rounds", "2", "--into", str(file)]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    text = file.read_text("utf-8")
    assert text == f"# Speed\n{BEGIN}\n{result.stdout}{END}\nend\n"
    assert text.count("| digits | 1 |") == 2


def test_command_refuses_before_it_measures(tmp_path: Path) -> None:
    (tmp_path / "plain.md").write_text("no marks", "utf-8")
    for arguments, words in (
        (["digits", "--into", str(tmp_path / "plain.md")], "into: expected one line"),
        (["digits", "digits", "--peer-file", "litert=a"], "--peer-file: expected one MODEL, found 2"),
        (["digits", "--separable"], "expected no MODEL, found digits"),
        (["digits", "--plot", "a.svg"], "--plot: expected --separable"),
    ):
        with pytest.raises(OptionError, match=words):
            CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert CliRunner().invoke(bench, []).exit_code == 2


def test_separable_counts_multiplications_and_times_both_ways() -> None:
    found = measure_separable(1, 3, [Shape(16, 32, 14, 2)])
    (pair,) = found.pairs
    assert (pair.separable_macs, pair.dense_macs) == (7 * 7 * 16 * (9 + 32), 7 * 7 * 16 * 32 * 9)
    assert min(pair.separable_ns, pair.dense_ns) > 0


PAIR = Pair(Shape(8, 16, 7, 1), 100, 800, 50, 200)


def test_separable_reports() -> None:
    found = [Separable("avx2", 1, (PAIR, PAIR)), Separable("avx2", 2, (PAIR, PAIR))]
    lines = separable_text(found, "table").splitlines()
    assert lines[3].split()[-6:] == ["0.1", "0.2", "8.00x", "4.00x", "50", "%"]
    assert lines[-1].split() == ["all", "of", "these", "2", "0.1", "0.4", "8.00x", "4.00x", "50", "%"]
    assert json.loads(separable_text(found, "json"))[1]["pairs"][0]["dense_macs"] == 800
    bars = ET.fromstring(plot_svg(found)).findall("{http://www.w3.org/2000/svg}rect")
    heights = [float(bar.attrib["height"]) for bar in bars[1:] if float(bar.attrib["width"]) == 12]
    assert heights == [8 * 32, 4 * 32, 4 * 32] * 2


def test_separable_command_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sepcore.bench import separable

    monkeypatch.setattr(separable, "measure_separable", lambda threads, runs: Separable("avx2", threads, (PAIR,)))
    plot = tmp_path / "plot.svg"
    result = CliRunner().invoke(bench, ["--separable", "--threads", "1,2", "--plot", str(plot)], catch_exceptions=False)
    assert "8 to 16, 7x7, stride 1" in result.stdout
    ET.fromstring(plot.read_text("utf-8"))
