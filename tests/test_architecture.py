"""The rules of the house that can be read off the source: who imports whom, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A package may import those of earlier rows and its own.
_ORDER = (
    {"errors", "options", "environment", "digest"},
    {"cache", "progress", "download"},
    {"kernels"},
    {"ir"},
    {"image", "formats", "labels"},
    {"models", "passes"},
    {"compile", "plan"},
    {"runtime"},
    {"quantize", "hub", "choices"},
    {"opening"},
    {"api", "ops"},
    {"inspection", "verification"},
    {"warmup", "freeze"},
    {"bench", "integrations", "cli", "export"},
)
_RANK = {name: rank for rank, names in enumerate(_ORDER) for name in names}
_MAY_IMPORT_KERNELS = {"kernels", "compile", "plan", "runtime", "bench", "warmup", "freeze", "ops"}


def sources() -> list[Path]:
    found = [p for p in (ROOT / "sepcore").rglob("*.py") if "kernels" not in p.relative_to(ROOT).parts]
    return found + sorted((ROOT / "kernels").rglob("*.py"))


def part_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "kernels" if parts[0] == "kernels" else Path(parts[1]).stem


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    for name in imported(path):
        assert name.split(".")[0] != "kernels", f"{name}: kernels is installed as sepcore.kernels"
        if name.split(".")[0] == "torch":
            assert part == "export"
        if not name.startswith("sepcore.") or name.split(".")[1] in ("__version__",):
            continue
        other = name.split(".")[1]
        assert _RANK[other] <= _RANK[part], f"{path.name} imports {name}"
        if other == "kernels" and name != "sepcore.kernels.isa":
            assert part in _MAY_IMPORT_KERNELS, f"{path.name} imports {name}"
        if part == "kernels":
            assert other == "kernels"


def test_numba_stays_where_it_belongs() -> None:
    for path in sources():
        text = path.read_text("utf-8")
        if path.name != "jit.py" and path.parent.name != "kernels":
            assert "@njit" not in text and "@numba" not in text, path
        assert "pickle.load" not in text, path
        assert "fastmath=True" not in text, path


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


def test_importing_sepcore_is_cheap() -> None:
    heavy = run("import sys, sepcore; print([m for m in ('numpy', 'numba', 'llvmlite', 'PIL') if m in sys.modules])")
    assert heavy == "[]"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io\nfrom sepcore.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): code = main(['--help'])\n"
        "print(code, [m for m in ('numpy', 'numba', 'llvmlite', 'PIL') if m in sys.modules])"
    )
    assert run(code) == "0 []"


def test_registry_imports_no_compiler() -> None:
    assert run("import sys, sepcore.kernels.registry; print('numba' in sys.modules)") == "False"
