"""The CPU levels that machine code is made for, by the names that compilers know them by; it compiles nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sepcore.errors import OptionError
from sepcore.kernels import isa as isas
from sepcore.kernels.isa import Isa

LEVELS: Mapping[str, Isa] = MappingProxyType(
    {"x86-64-v4": isas.AVX512, "x86-64-v3": isas.AVX2, "x86-64": isas.PORTABLE, "aarch64": isas.NEON}
)


def at_level(level: str) -> Isa:
    """The instruction set of a CPU level.

    Raises
    ------
    OptionError : there is no such level; names those there are.
    """
    if level not in LEVELS:
        raise OptionError(f"cpu: expected one of {', '.join(LEVELS)}, found {level!r}")
    return LEVELS[level]
