"""Measuring: turns, summaries, limits, who is skipped; clocks and runtimes are fake, so that every figure is known."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sepcore
from sepcore.bench import compare as comparing
from sepcore.bench import worker as working
from sepcore.bench.compare import Case, Effort, compare, engine_files, why_skipped
from sepcore.bench.engines import ENGINES, PEERS
from sepcore.bench.limits import best_rate, cache_sizes, measure_bandwidth, measure_peak, working_sets
from sepcore.bench.measure import Round, Times, take_turns, time_sequence
from sepcore.bench.worker import EngineFailed, Worker
from sepcore.compile import kernels_for
from sepcore.errors import OptionError
from sepcore.kernels import isa as isas
from sepcore.kernels.limits import rows
from sepcore.runtime.session import chosen_isa


class FakeClock:
    """Time passes only when something is called."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def taking(self, *nanoseconds: int) -> Callable[[], None]:
        """A call that takes these times, one after another, over and over."""
        times = itertools.cycle(nanoseconds)

        def call() -> None:
            self.now += next(times)

        return call


class FakeEngine:
    """Loaded at once; every call takes ``milliseconds``; fails in the round ``fails_in``, 0 for while it loads."""

    precision, version = "float32", "1.2"

    def __init__(
        self, name: str, log: list[str], milliseconds: float, fails_in: int | None = None, output: float = 1.0
    ) -> None:
        self.name, self.log, self.fails_in = name, log, fails_in
        self.nanoseconds = int(milliseconds * 1e6)
        self.rounds = 0
        self.closed = False
        self.waits = [0.03, 0.09] if name == "litert" else [0.03, 0.03]
        self.output = np.array([[-1.0, output]], np.float32)

    def wait(self) -> None:
        if self.fails_in == 0:
            raise EngineFailed("cannot read it")

    def round(self, order: Round) -> list[int]:
        self.rounds += 1
        if self.rounds == self.fails_in:
            raise EngineFailed("out of luck")
        self.log.append(self.name)
        return [self.nanoseconds] * order.runs

    def close(self) -> None:
        self.closed = True


def test_engines_take_turns_and_each_is_first_once() -> None:
    log: list[str] = []
    found = take_turns({n: FakeEngine(n, log, 1) for n in "abc"}, Round(3, 1.0), rounds=3)
    assert "".join(log) == "abcbcacab"
    assert {name: len(times) for name, times in found.items()} == {"a": 9, "b": 9, "c": 9}


def test_times_are_summed_up_in_milliseconds() -> None:
    times = Times.of([n * 1_000_000 for n in range(101, 0, -1)])
    assert times == Times(runs=101, median=51.0, least=1.0, p90=91.0, p99=100.0)


def test_sequence_gives_medians_and_does_not_count_the_first_pass() -> None:
    clock = FakeClock()
    # The first time of each is that of the pass that warms up.
    calls = [clock.taking(900, 10, 30, 20), clock.taking(1, 7, 5, 9)]
    assert time_sequence(calls, 3, clock) == [20, 7]


def test_sequence_makes_the_calls_in_order_every_pass() -> None:
    made: list[str] = []
    time_sequence([lambda: made.append("a"), lambda: made.append("b")], 2)
    assert "".join(made) == "ababab"


def test_best_rate_is_that_of_the_fastest_repeat() -> None:
    clock = FakeClock()
    slowness = itertools.cycle((3, 1, 2))

    def call(count: int) -> None:
        clock.now += 1000 * count * next(slowness)

    assert best_rate(call, clock) == pytest.approx(1e6)  # 1 us an iteration


@pytest.mark.parametrize("isa", isas.available(), ids=lambda isa: isa.name)
def test_peak_loop_multiplies_and_adds_in_every_lane(isa: isas.Isa) -> None:
    spec = rows.fma_peak_row(isa.name)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(
        kernels_for([spec], isa.name, registry=rows.__name__)[spec.name]
    )
    constants, count = np.array([0.5, 3.0], np.float32), 5
    result = np.full(rows.result_bytes(isa) // 4, np.nan, np.float32)
    call(count, constants.ctypes.data, result.ctypes.data)
    # After n of x -> x/2 + 3: 6 + (x - 6) / 2^n, exact in float32 for these.
    starts = np.repeat(np.arange(rows.fma_sums(isa)), isa.lanes)
    np.testing.assert_array_equal(result, (6 + (starts - 6) / 2**count).astype(np.float32))


@pytest.mark.parametrize("isa", isas.available(), ids=lambda isa: isa.name)
def test_read_loop_reads_every_byte_every_pass(isa: isas.Isa) -> None:
    spec = rows.read_memory_row(isa.name)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(
        kernels_for([spec], isa.name, registry=rows.__name__)[spec.name]
    )
    memory = np.arange(6 * rows.read_bytes(isa) // 4, dtype=np.float32)
    result = np.zeros(rows.result_bytes(isa) // 4, np.float32)
    call(memory.ctypes.data, memory.nbytes, 3, result.ctypes.data)
    assert result.sum(dtype=np.float64) == 3 * memory.sum(dtype=np.float64)


def test_limits_of_this_machine_are_positive() -> None:
    isa = isas.by_name(chosen_isa().name)
    assert measure_peak(isa) > 0
    found = measure_bandwidth(isa, "L1", 16384)
    assert (found.level, found.size) == ("L1", 16384)
    assert found.gigabytes_per_second > 0


def test_cache_sizes_are_those_of_the_data_caches(tmp_path: Path) -> None:
    for i, (kind, level, size) in enumerate(
        [("Data", "1", "48K"), ("Instruction", "1", "32K"), ("Unified", "2", "1024K"), ("Unified", "3", "32768K")]
    ):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(text + "\n")
    found = cache_sizes(tmp_path)
    assert found == {"L1": 48 << 10, "L2": 1 << 20, "L3": 32 << 20}
    assert working_sets(found) == [("L1", 24 << 10), ("L2", 512 << 10), ("L3", 4 << 20), ("memory", 128 << 20)]


def test_cache_sizes_that_nothing_tells_are_usual_ones(tmp_path: Path) -> None:
    assert list(cache_sizes(tmp_path)) == ["L1", "L2", "L3"]


def test_peers_take_files_of_the_models_stem_unless_told() -> None:
    files = engine_files("nets/v2.pth", ["litert", "openvino", "ncnn", "torch"], {"litert": "other.tflite"})
    assert files == {
        "sepcore": "nets/v2.pth",
        "sepcore-prange": "nets/v2.pth",
        "litert": "other.tflite",
        "openvino": "nets/v2.onnx",
        "ncnn": "nets/v2.param",
        "torch": "nets/v2.pt2",
    }


def test_unknown_peers_are_refused() -> None:
    with pytest.raises(OptionError, match="found 'tvm'"):
        engine_files("a.onnx", ["tvm"], {})
    with pytest.raises(OptionError, match=r"peer-file: expected one of torch, found 'ncnn'"):
        engine_files("a.onnx", ["torch"], {"ncnn": "a.param"})


def test_every_engine_says_what_it_is() -> None:
    assert {e.name for e in PEERS.values()} == {"litert", "onnxruntime", "openvino", "ncnn", "torch"}
    assert all(name == e.name and e.package and e.distribution for name, e in ENGINES.items())


def test_peer_that_is_not_installed_or_has_no_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(comparing, "find_spec", lambda package: None)
    assert why_skipped("litert", "x.tflite") == "not installed (pip install ai-edge-litert)"
    monkeypatch.setattr(comparing, "find_spec", lambda package: object())
    missing = str(tmp_path / "x.tflite")
    assert why_skipped("litert", missing) == f"no file {missing}; name one with --peer-file litert=PATH"
    Path(missing).touch()
    assert why_skipped("litert", missing) is None
    assert why_skipped("sepcore", "a name of a model") is None


def test_comparison_relates_every_engine_to_the_best_and_names_who_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "why_skipped", lambda engine, path: "not here" if engine == "torch" else None)
    log: list[str] = []
    engines = {
        "sepcore": FakeEngine("sepcore", log, 2.0),
        "sepcore-prange": FakeEngine("sepcore-prange", log, 2.5),
        "litert": FakeEngine("litert", log, 3.0, output=1.1),
        "ncnn": FakeEngine("ncnn", log, 1.0, fails_in=2),
        "openvino": FakeEngine("openvino", log, 1.0, fails_in=0),
    }

    def start(engine: str, path: str, threads: int, shape: tuple[int, ...]) -> FakeEngine:
        assert (path, threads, shape) == (f"file of {engine}", 2, (4, 3, 8, 8))
        return engines[engine]

    files = {name: f"file of {name}" for name in (*engines, "torch")}
    # 50 M multiply-adds an image, 4 images in 2 ms: 200 GFLOP/s of 2 threads' 250.
    entries, skipped = compare(files, Case(2, (4, 3, 8, 8)), 50_000_000, 125.0, Effort(6, 3), start)
    assert [(e.engine, e.version, e.threads, e.batch, e.times.runs) for e in entries] == [
        ("sepcore", "1.2", 2, 4, 6),
        ("sepcore-prange", "1.2", 2, 4, 6),
        ("litert", "1.2", 2, 4, 6),
    ]
    ours, other, theirs = entries
    assert [(e.waited, e.disturbed) for e in (ours, theirs)] == [(0.03, False), (pytest.approx(0.06), True)]
    assert (ours.same_weights, other.same_weights, theirs.same_weights) == (True, True, False)
    assert (ours.times.median, ours.ratio, theirs.ratio) == (2.0, 1.0, 1.5)
    assert ours.images_per_second == pytest.approx(2000)
    assert ours.peak_share == pytest.approx(0.8)
    reasons = {s.engine: s.reason for s in skipped}
    assert reasons == {"openvino": "cannot read it", "torch": "not here", "ncnn": "out of luck"}
    assert all(engine.closed for engine in engines.values())


def test_worker_times_the_package_in_a_process_of_its_own() -> None:
    worker = Worker("sepcore", "digits", 1, (2, 3, 32, 32))
    try:
        worker.wait()
        assert worker.precision == "float32"
        assert worker.version
        x = np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)
        np.testing.assert_array_equal(worker.output, sepcore.load("digits", num_threads=2)(x))
        times = worker.round(Round(5, 60.0))
        assert len(times) == 5
        assert min(times) > 0
        assert len(worker.waits) == 1 and worker.waits[0] >= 0
        assert 1 <= len(worker.round(Round(1_000_000, 0.01))) < 1_000_000
    finally:
        worker.close()


def test_worker_gives_the_reason_where_it_cannot_load(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"FileNotFoundError: .*gone\.onnx"):
        Worker("sepcore", str(tmp_path / "gone.onnx"), 1, (1, 3, 32, 32)).wait()


def test_worker_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "_LOAD_SECONDS", 0.001)
    worker = Worker("sepcore", "digits", 1, (1, 3, 32, 32))
    with pytest.raises(EngineFailed, match="no answer within 0 seconds"):
        worker.wait()
    assert not worker._process.is_alive()


def test_a_turn_of_slow_calls_ends_after_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(working.time, "perf_counter_ns", clock)
    slow = clock.taking(400_000_000)
    assert working._timed(slow, Round(30, 1.0)) == [400_000_000] * 3
    assert working._timed(slow, Round(2, 1.0)) == [400_000_000] * 2
    assert working._timed(slow, Round(30, 0.1)) == [400_000_000]


def test_a_pause_is_not_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = FakeClock(), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += int(1e9 * seconds)

    monkeypatch.setattr(working.time, "perf_counter_ns", clock)
    monkeypatch.setattr(working.time, "sleep", sleep)
    assert working._timed(clock.taking(1000), Round(3, 0.004, pause=0.005)) == [1000] * 3
    assert slept == [0.005] * 3


def test_one_thread_is_shared_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    files = engine_files("digits", [], {})
    entries, skipped = compare(files, Case(1, (1, 3, 8, 8)), 1, 1.0, Effort(2, 1), lambda *a: FakeEngine(a[0], log, 1))
    assert ([e.engine for e in entries], skipped) == (["sepcore"], [])


def test_same_numbers_allow_for_rounding_alone() -> None:
    ours = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    assert comparing.same_numbers(ours.reshape(2, 1000, 1, 1) + np.float32(1e-3), ours)
    assert not comparing.same_numbers(ours + np.float32(0.02), ours)
    assert not comparing.same_numbers(ours[:1], ours)
    assert not comparing.same_numbers(np.full_like(ours, np.nan), ours)
