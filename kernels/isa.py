"""Instruction sets that kernels are written for, and which of them this CPU has; compiles nothing.

SEPCORE_CPU_ISA forces one: the only environment variable that is read outside sepcore/options.py,
because kernels import nothing from the rest of the package.
"""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from typing import NamedTuple


class Isa(NamedTuple):
    """One instruction set.

    Attributes
    ----------
    name : what rows and SEPCORE_CPU_ISA call it.
    lanes : float32 values in one vector register; channel strides are multiples of it.
    registers : vector registers that a tile may use.
    fma : whether a multiply-add is one instruction with one rounding.
    cpu : the CPU model LLVM compiles for; ``features`` are added to it.
    """

    name: str
    lanes: int
    registers: int
    fma: bool
    cpu: str
    features: str = ""
    machine: str = "x86_64"


# prefer-256-bit is a tuning flag of x86-64-v4 that would split 512-bit vectors in two.
AVX512 = Isa("avx512", 16, 32, True, "x86-64-v4", "-prefer-256-bit")
AVX2 = Isa("avx2", 8, 16, True, "x86-64-v3")
NEON = Isa("neon", 4, 32, True, "generic", "+neon", "aarch64")
PORTABLE = Isa("portable", 4, 16, False, "x86-64")
_ISAS = {isa.name: isa for isa in (AVX512, AVX2, NEON, PORTABLE)}

_NEEDED_FLAGS = {
    "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "bmi2"},
    "avx2": {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"},
}


def by_name(name: str) -> Isa:
    """The instruction set called ``name``; ValueError lists the known ones."""
    if name not in _ISAS:
        raise ValueError(f"instruction set: expected one of {', '.join(_ISAS)}, found {name!r}")
    return _ISAS[name]


def _machine() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


@cache
def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first CPU."""
    found = {}
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:  # the first CPU's are enough: a large machine writes a megabyte
            key, colon, text = line.partition(":")
            if not colon:
                break
            found[key.strip()] = text.strip()
    return found


@cache
def cpu_flags() -> frozenset[str]:
    """Feature names of this CPU as the operating system prints them (Linux, macOS)."""
    if sys.platform == "linux":
        return frozenset((_cpuinfo().get("flags") or _cpuinfo().get("Features", "")).split())
    if sys.platform == "darwin" and _machine() == "x86_64":
        import subprocess

        names = ["machdep.cpu.features", "machdep.cpu.leaf7_features", "machdep.cpu.extfeatures"]
        text = subprocess.run(["sysctl", "-n", *names], capture_output=True, text=True, check=False).stdout
        return frozenset(text.lower().replace(".", "_").split())
    return frozenset()


@cache
def two_passes() -> bool:
    """Whether 512-bit vectors take this CPU two passes through units of 256 bits: so in AMD's Zen 4."""
    info = _cpuinfo() if sys.platform == "linux" else {}
    return info.get("vendor_id") == "AuthenticAMD" and info.get("cpu family") == "25"


def available() -> list[Isa]:
    """The instruction sets this CPU can run, best first."""
    if _machine() == "aarch64":
        return [NEON]
    if _machine() != "x86_64":
        raise ValueError(f"CPU: expected x86-64 or AArch64, found {platform.machine()!r}")
    flags = cpu_flags()
    return [isa for isa in (AVX512, AVX2) if _NEEDED_FLAGS[isa.name] <= flags] + [PORTABLE]


def chosen() -> Isa:
    """The best instruction set of this CPU, or the one that SEPCORE_CPU_ISA names."""
    usable = available()
    name = os.environ.get("SEPCORE_CPU_ISA")
    if not name:
        return usable[0]
    for isa in usable:
        if isa.name == name:
            return isa
    raise ValueError(
        f"SEPCORE_CPU_ISA: expected one this CPU has ({', '.join(i.name for i in usable)}), found {name!r}"
    )
