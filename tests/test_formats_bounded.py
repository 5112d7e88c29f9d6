"""Every hostile file of every format, opened as a user opens it: in little memory, in a second, by a typed error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import hostile
import hostile_onnx
import hostile_pt2
import hostile_sep
import pytest
from quick import TRIES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="address space is limited as Linux does it")

SPARE_BYTES = 256 << 20
"""Beyond what the imports take: the largest files of the corpora have 17 MB, and may cost ten times that and 64 MB."""

SECONDS = 1.0

OPEN_ALL = """
import resource, sys, time
import numpy, onnx
import sepcore, sepcore.api, sepcore.formats.onnx, sepcore.formats.torch_export, sepcore.formats.sep
from sepcore.errors import SepcoreError
sepcore.load("digits")
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in map(str.strip, sys.stdin):
    start = time.process_time()
    try:
        sepcore.load(path)
        outcome = "opened"
    except SepcoreError as error:
        outcome = "refused" if str(error) else "refused without a word"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"[:200].replace("\\n", " ")
    print(f"{time.process_time() - start:.3f} {outcome}", flush=True)
"""


Written = tuple[str, Path]


def state_dicts(folder: Path) -> Iterator[Written]:
    cases = (case for group in hostile.GROUPS for case in group())
    yield from written(cases, folder / "victim.pth")


def programs(folder: Path) -> Iterator[Written]:
    cases = (case for group in hostile_pt2.REFUSED for case in group())
    yield from written(cases, folder / "victim.pt2")


def models(folder: Path) -> Iterator[Written]:
    for group in hostile_onnx.GROUPS:
        for position, (name, write) in enumerate(group()):
            inner = folder / f"{group.__name__}{position}"
            inner.mkdir()
            yield name, write(inner)


def containers(folder: Path) -> Iterator[Written]:
    # One value in twelve of every other type, and one cut in twelve: all of them are refused by the reader's own tests.
    for group in hostile_sep.GROUPS:
        step = 12 if group in (hostile_sep.wrong_types, hostile_sep.truncations) else 1
        yield from written(islice(group(), 0, None, step), folder / "victim.sep")


def perhaps_sound(folder: Path) -> Iterator[Written]:
    """Flipped bits, wrong values, and sound files that ask for much."""
    yield from written(hostile.bit_flips(100), folder / "flipped.pth")
    yield from written(hostile_pt2.bit_flips(100), folder / "flipped.pt2")
    yield from written(hostile_pt2.wrong_values(200), folder / "wrong.pt2")
    yield from written(hostile_pt2.exhausting(), folder / "exhausting.pt2")
    yield from written(((str(i), flip) for i, flip in enumerate(hostile_onnx.bit_flips(300))), folder / "flipped.onnx")
    swellings = ((name, proto.SerializeToString()) for name, proto in hostile_onnx.swellings())
    yield from written(swellings, folder / "swelling.onnx")
    sound = hostile_sep.sound()
    for position, bit in hostile_sep.flipped(sound, 100):
        changed = bytearray(sound)
        changed[position] ^= bit
        yield from written([(f"byte {position}, bit {bit}", bytes(changed))], folder / "flipped.sep")


def written(cases: Iterator[tuple[str, bytes]] | list[tuple[str, bytes]], path: Path) -> Iterator[Written]:
    for name, content in cases:
        path.write_bytes(content)
        yield name, path


@pytest.mark.parametrize("corpus", [state_dicts, programs, models, containers, perhaps_sound], ids=lambda c: c.__name__)
def test_opened_in_bounds(corpus: object, tmp_path: Path) -> None:
    assert callable(corpus)
    allowed = {"refused", "opened"} if corpus is perhaps_sound else {"refused"}
    command = [sys.executable, "-c", OPEN_ALL, str(SPARE_BYTES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as child:
        assert child.stdin is not None and child.stdout is not None
        for name, path in corpus(tmp_path):
            spent: list[float] = []
            while not spent or (spent[-1] >= SECONDS and len(spent) < TRIES):
                print(path, file=child.stdin, flush=True)
                seconds, _, outcome = child.stdout.readline().strip().partition(" ")
                assert outcome in allowed, f"{name}: {outcome or 'the process ended'}"
                spent.append(float(seconds))
            assert spent[-1] < SECONDS, f"{name}: {spent}"
        child.stdin.close()
    assert child.returncode == 0
    assert not (tmp_path / "hostile-was-here").exists()
