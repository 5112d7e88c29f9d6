"""Linked programs: the same run, wherever their words are put, and the same after a way through bytes."""

from __future__ import annotations

import numpy as np
import pytest
from networks import small_graph

from sepcore.kernels import step
from sepcore.kernels.runtime import layout
from sepcore.options import SessionOptions
from sepcore.runtime.linked import INPUT, OUTPUT, Linked, from_bytes
from sepcore.runtime.linking import link
from sepcore.runtime.session import Session


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(small_graph(), SessionOptions(num_threads=2))


def linked(session: Session, batch: int) -> Linked:
    return link(session.program((batch, 3, 40, 36)))


@pytest.mark.parametrize("batch", [1, 3])
def test_survives_the_way_through_bytes(session: Session, batch: int) -> None:
    before = linked(session, batch)
    after = from_bytes(before.to_bytes())
    assert after[:6] == before[:6]
    for a, b in zip(after[6:], before[6:]):
        assert isinstance(a, np.ndarray) and a.dtype == np.int64
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch", [1, 3])
def test_holds_no_addresses(session: Session, batch: int) -> None:
    again = Session(small_graph(), SessionOptions(num_threads=2))
    assert linked(session, batch).to_bytes() == linked(again, batch).to_bytes()


def test_who_finds_no_others_runs_the_program_of_one_thread(session: Session) -> None:
    program, one = linked(session, 1), Session(small_graph(), SessionOptions(num_threads=1))
    bases = dict(program.relocations.tolist())
    first, count = program.words[[layout.ALONE_PROGRAM, layout.ALONE_STEPS]]
    assert first != program.words[layout.PROGRAM]
    codes = [bases[first // 8 + i * step.WORDS + step.CODE] for i in range(count)]
    alone = [program.kernels[code - 2 - program.regions] for code in codes]
    assert alone == [row.kernel for row in one.program((1, 3, 40, 36)).steps]
    assert set(program.words[[first // 8 + i * step.WORDS + step.TILES for i in range(count)]]) == {1}


def test_every_base_and_argument_is_one_there_is(session: Session) -> None:
    program = linked(session, 1)
    at, base = program.relocations.T
    assert len(set(at.tolist())) == len(at) and at.max() < program.words.size
    assert base.min() == 0 and base.max() < 2 + program.regions + len(program.kernels)
    assert set(program.arguments[:, 1].tolist()) == {INPUT, OUTPUT}
