"""The machine code of the tiles: no accumulator leaves its register inside a loop over products."""

from __future__ import annotations

import re

import pytest

from sepcore.compile.build import KernelSource, build_assembly
from sepcore.kernels import isa as isas
from sepcore.kernels import registry
from sepcore.kernels.spec import KernelSpec

_ARITHMETIC = {"avx512": "vfmadd", "avx2": "vfmadd"}
_REGISTER = {"avx512": "%zmm", "avx2": "%ymm"}


def loops(assembly: str) -> list[list[str]]:
    """Bodies of loops that are one basic block: from a label to a jump back to it."""
    found: list[list[str]] = []
    label, body = "", []
    for line in map(str.strip, assembly.splitlines()):
        if match := re.match(r"(\.?LBB\w+):", line):
            label, body = match[1], []
        elif line and not line.startswith((".", "#")):
            body.append(line)
            if re.match(r"j\w+\s", line):
                if label and line.split()[1] == label:
                    found.append(body)
                label, body = "", []
    return found


_TILES = ("pointwise", "pointwise_gathered", "crossed", "winograd", "conv", "stem")


def spec_list(isa: str) -> list[KernelSpec]:
    return [spec for spec in registry.rows(isa) if spec.op in _TILES]


@pytest.mark.parametrize("isa", [i for i in ("avx512", "avx2") if isas.by_name(i) in isas.available()])
def test_no_tile_spills(isa: str) -> None:
    for spec in spec_list(isa):
        assembly = build_assembly([KernelSource(spec.name, spec.build(), spec.arity)], isas.by_name(isa))
        hot = [body for body in loops(assembly) if any(_ARITHMETIC[isa] in line for line in body)]
        assert hot, f"{spec.name}: no loop with products"
        spilled = [
            line
            for body in hot
            for line in body
            if "(%rsp)" in line and _REGISTER[isa] in line and "vbroadcast" not in line
        ]
        # A multiply-add may read a spilled weight, never write: a store to the stack in the loop is a lost register.
        assert not spilled, f"{spec.name}: {spilled}"
