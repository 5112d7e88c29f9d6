"""The runtime's native functions as objects: they need nothing from outside, on this machine and on AArch64."""

from __future__ import annotations

import pytest

from sepcore.compile import elf
from sepcore.compile.build import KernelSource, build_assembly, build_object
from sepcore.kernels import isa as isas
from sepcore.kernels.runtime import rows
from sepcore.kernels.spec import KernelSpec

ROWS = [spec for isa in ("portable", "neon") for spec in rows.rows(isa)]


def _source(spec: KernelSpec) -> KernelSource:
    return KernelSource(spec.name, spec.build(), spec.arity)


@pytest.mark.parametrize("spec", ROWS, ids=lambda spec: spec.name)
def test_objects_need_no_symbols(spec: KernelSpec) -> None:
    assert rows.find(spec.name) == spec
    code = build_object([_source(spec)], isas.by_name(spec.isa))
    if elf.is_elf(code):
        assert elf.undefined_symbols(code) == set()


@pytest.mark.parametrize(
    ("isa", "instructions"),
    [("portable", ("stmxcsr", "ldmxcsr", "lock", "pause")), ("neon", ("fpcr", "ldaxr", "stlxr", "ldar", "yield"))],
)
def test_threads_speak_the_machines_own_instructions(isa: str, instructions: tuple[str, ...]) -> None:
    text = build_assembly([_source(rows.find(f"pool_run__{isa}"))], isas.by_name(isa))
    for instruction in instructions:
        assert instruction in text.lower(), instruction


def test_an_unknown_row() -> None:
    with pytest.raises(KeyError):
        rows.find("pool_jump__avx2")
