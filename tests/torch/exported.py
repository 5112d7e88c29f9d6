"""Export modules with torch.export, read the files, and hold what the graphs compute against the modules.

It must not know single operators.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepcore.formats.torch_export import read_pt2
from sepcore.ir.graph import Graph
from sepcore.ir.reference import run_reference

Tensor = torch.Tensor


class Wrapped(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def export(module: torch.nn.Module, inputs: Sequence[Tensor], dynamic: Any = None) -> torch.export.ExportedProgram:
    """The exported program, with the given lengths dynamic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(module, tuple(inputs), dynamic_shapes=dynamic)


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program in terms of PyTorch's core operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions()


def save(program: torch.export.ExportedProgram, path: Path) -> Path:
    """Write the program as a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


def targets(program: torch.export.ExportedProgram) -> set[str]:
    """The operators of a program, named as in a file."""
    found = set()
    for node in program.graph.nodes:
        if node.op == "call_function":
            target = node.target
            overload = isinstance(target, torch._ops.OpOverload)
            found.add(str(target) if overload else f"{target.__module__}.{target.__name__}")
    return found


def flat(outputs: Any) -> list[np.ndarray]:
    """What a module returns, as arrays in the order of the file's outputs."""
    leaves = torch.utils._pytree.tree_leaves(outputs)
    return [np.asarray(leaf.detach() if isinstance(leaf, Tensor) else leaf) for leaf in leaves if leaf is not None]


def assert_same(
    graph: Graph, module: torch.nn.Module, inputs: Sequence[Tensor], rtol: float = 2e-5, atol: float = 2e-6
) -> None:
    """Assert that the graph gives what the module gives; the tolerance is relative to the largest magnitude."""
    feeds = {value.name: np.array(given.numpy()) for value, given in zip(graph.inputs, inputs, strict=True)}
    with torch.inference_mode():
        expected = flat(module(*(given.clone() for given in inputs)))
    found = run_reference(graph, feeds)
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.shape == b.shape
        assert a.dtype == (np.float32 if b.dtype == np.float16 else b.dtype)
        scale = max(float(np.abs(b[np.isfinite(b)]).max(initial=0)), 1.0) if b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * scale)


def larger(graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Other inputs, on which every length that the graph leaves open has twice the size."""
    generator = torch.Generator().manual_seed(7)
    made = []
    for value, given in zip(graph.inputs, inputs, strict=True):
        shape = [2 * size if isinstance(length, str) else size for length, size in zip(value.shape, given.shape)]
        fresh = torch.randn(shape, generator=generator) if given.is_floating_point() else torch.ones(shape)
        made.append((fresh.abs() + 0.1 if bool((given > 0).all()) else fresh).to(given.dtype))
    return made


def read_back(program: torch.export.ExportedProgram, tmp_path: Path) -> Graph:
    """The program by way of a file."""
    return read_pt2(save(program, tmp_path / "exported.pt2"))


__all__ = ["Wrapped", "assert_same", "decomposed", "export", "flat", "larger", "read_back", "save", "targets"]
