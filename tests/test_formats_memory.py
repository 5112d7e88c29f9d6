"""Reading costs at most twice a file's size and a constant, measured from outside as the process's peak memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import hostile
import numpy as np
import pytest
from torch_layouts import Stored, legacy_file, safetensors_file, storage_id, tensor, zip_file

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")

CONSTANT_BYTES = 8 << 20
EXHAUSTING_BYTES = 64 << 20
"""What half a million opcodes can build, whatever the file's size."""

ELEMENTS = 8 << 20

READ_ALL = """
import sys
from sepcore.errors import FormatError
from sepcore.formats.checkpoint import read_checkpoint

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

warm, *paths = sys.argv[1:]
read_checkpoint(warm)
before = peak()
for path in paths:
    try:
        checkpoint = read_checkpoint(path)
        print(sum(array.nbytes for array in checkpoint.tensors.values()))
    except FormatError:
        print(0)
print(peak() - before)
"""


def growth(warm: Path, paths: Sequence[Path]) -> tuple[list[int], int]:
    """Return the bytes of tensors in each file and the growth of a fresh process's peak memory over all of them."""
    command = [sys.executable, "-c", READ_ALL, str(warm), *map(str, paths)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    *read, grown = map(int, lines)
    return read, grown


def large_file(layout: str) -> bytes:
    if layout == "safetensors":
        entry = {"dtype": "F32", "shape": [ELEMENTS], "data_offsets": [0, 4 * ELEMENTS]}
        return safetensors_file({"weight": entry}, bytes(4 * ELEMENTS))
    if layout == "safetensors bfloat16":
        entry = {"dtype": "BF16", "shape": [ELEMENTS], "data_offsets": [0, 2 * ELEMENTS]}
        return safetensors_file({"weight": entry}, bytes(2 * ELEMENTS))
    kind, item_bytes = ("BFloat16Storage", 2) if "bfloat16" in layout else ("FloatStorage", 4)
    stored = Stored(kind, "0", bytes(item_bytes * ELEMENTS), ELEMENTS)
    legacy = layout.startswith("legacy")
    value = {"weight": tensor(storage_id(stored, legacy=legacy), (ELEMENTS,))}
    return legacy_file(value, [stored]) if legacy else zip_file(value, [stored])


@pytest.mark.parametrize(
    "layout", ["zip", "zip bfloat16", "legacy", "legacy bfloat16", "safetensors", "safetensors bfloat16"]
)
def test_peak_memory_of_large_files(layout: str, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(hostile.SOUND[layout.split()[0]]())
    large.write_bytes(large_file(layout))
    (read,), grown = growth(small, [large])
    assert read == 4 * ELEMENTS
    assert grown + CONSTANT_BYTES >= 4 * ELEMENTS
    assert grown <= 2 * large.stat().st_size + CONSTANT_BYTES


def test_what_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    weight, momentum = (Stored.of(np.zeros(size, np.float32), key) for size, key in ((64, "0"), (ELEMENTS, "1")))
    value = {"state_dict": {"w": tensor(weight, (64,))}, "optimizer": {"momentum": tensor(momentum, (ELEMENTS,))}}
    path = tmp_path / "training.pth"
    path.write_bytes(zip_file(value, [weight, momentum]))
    small = tmp_path / "small"
    small.write_bytes(hostile.sound_zip())
    (read,), grown = growth(small, [path])
    assert read == 64 * 4
    assert grown < CONSTANT_BYTES


def test_peak_memory_of_exhausting_files(tmp_path: Path) -> None:
    paths = []
    for number, (_, content) in enumerate(hostile.exhausting()):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(content)
    small = tmp_path / "small"
    small.write_bytes(hostile.sound_zip())
    read, grown = growth(small, paths)
    assert set(read) == {0}
    assert grown < EXHAUSTING_BYTES
