"""The networks of the real-data folder by every route out of PyTorch: its logits, and one program for all routes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routes import GOLDEN, ROUTES, STATE_DICTS, WEIGHTS, Known, export, known
from test_models import GOLDEN as RECIPES

import sepcore
from sepcore.kernels.pointwise import rows as pointwise
from sepcore.passes import run_passes
from sepcore.plan import Program
from sepcore.plan.program import Step
from sepcore.runtime.session import Session

pytestmark = [pytest.mark.torch, pytest.mark.data, pytest.mark.filterwarnings("ignore")]

network = lru_cache(maxsize=1)(known)


def steps(rows: tuple[Step, ...]) -> Iterator[Step]:
    for step in rows:
        yield step
        for row in step.chain:
            yield from steps(row)


def work(program: Program) -> list[tuple[Any, ...]]:
    """What a program does and in how many parts: all but where its operands lie, and so what it prefetches."""
    places = {pointwise.AHEAD, pointwise.PREFETCH_SHIFT}

    def words(step: Step) -> tuple[tuple[int, int], ...]:
        prefetches = "pointwise" in step.kernel or "crossed" in step.kernel
        return tuple(pair for pair in step.words.items() if not prefetches or pair[0] not in places)

    return [(s.kernel, s.macs, s.tiles, words(s)) for s in steps(program.steps)]


def expected_program(name: str, found: Known, data_dir: Path, shape: tuple[int, ...]) -> Program:
    """By the state dict; by the file in the folder where the network is there with its graph alone."""
    if found.state_dict is not None:
        return Session(run_passes(found.state_dict)).program(shape)
    (path,) = (p for p in (data_dir / "weights").iterdir() if p.stem == name)
    return sepcore.load(path).program(shape)


def assert_logits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()


def test_every_network_of_the_folder_is_here(data_dir: Path) -> None:
    assert set(GOLDEN) == set(RECIPES) == {path.stem for path in (data_dir / "golden").glob("*.npz")}
    assert set(WEIGHTS) == {path.stem for path in (data_dir / "reference").glob("m*.npz")}
    assert STATE_DICTS.keys() < set(WEIGHTS)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", [*WEIGHTS, *GOLDEN])
def test_every_route_gives_pytorchs_logits_by_the_same_program(
    name: str, route: str, data_dir: Path, tmp_path: Path
) -> None:
    found = network(name, data_dir)
    x, logits = found.pairs[0]
    net = sepcore.load(export(found.module, x, route, tmp_path))
    assert isinstance(net.inputs[0].shape[0], str)
    assert_logits(net(x), logits)
    shape = (1, *x.shape[1:])
    assert work(net.program(shape)) == work(expected_program(name, found, data_dir, shape))


@pytest.mark.parametrize("route", ROUTES[:2])
@pytest.mark.parametrize("name", ["tv__mobilenet_v3_large", "tv__shufflenet_v2_x1_0", "timm__ghostnet_100"])
def test_graphs_of_open_size_end_in_the_same_program(name: str, route: str, data_dir: Path, tmp_path: Path) -> None:
    found = network(name, data_dir)
    net = sepcore.load(export(found.module, found.pairs[0][0], route, tmp_path, opened=(0, 2, 3)))
    for x, logits in found.pairs:
        assert_logits(net(x), logits)
        shape = (1, *x.shape[1:])
        assert work(net.program(shape)) == work(expected_program(name, found, data_dir, shape))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ["tv__mobilenet_v3_small", "tv__shufflenet_v2_x1_0"])
def test_graphs_of_two_images_end_in_the_same_program(name: str, route: str, data_dir: Path, tmp_path: Path) -> None:
    found = network(name, data_dir)
    x, logits = found.pairs[0]
    assert len(x) == 2
    net = sepcore.load(export(found.module, x, route, tmp_path, opened=()))
    assert_logits(net(x), logits)
    assert_logits(net(x[1:]), logits[1:])
    shape = (1, *x.shape[1:])
    assert work(net.program(shape)) == work(expected_program(name, found, data_dir, shape))
