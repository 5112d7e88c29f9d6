"""Asserts that a network gives the reference's results, and the same bits however it is run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sepcore.ir.graph import Graph
from sepcore.ir.reference import run_reference
from sepcore.options import SessionOptions
from sepcore.runtime.session import Session


def assert_same_however_run(network: Graph, one: Session, x: Any, rows: Iterable[str]) -> None:
    """The images ``x`` by one thread, by several image by image, and by each of the kernel ``rows`` in place of others.

    Parameters
    ----------
    one : a session of ``network`` with one thread, which is left tuned.
    """
    (expected,) = run_reference(network, {"input": x})
    (result,) = one.run(None, {"input": x})
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    for threads in (2, 3, 5):
        session = Session(network, SessionOptions(num_threads=threads))
        for i in range(len(x)):
            (found,) = session.run(None, {"input": x[i : i + 1]})
            np.testing.assert_array_equal(found, result[i : i + 1])
    steps = one.program((1, *x.shape[1:])).steps
    layers = [layer for step in steps for layer in (step, *(layer for run in step.chain for layer in run))]
    choices = {layer.choice.key: layer.choice for layer in layers if layer.choice is not None}
    for name in rows:
        one.retune({key: name for key, choice in choices.items() if name in dict(choice.rows)})
        np.testing.assert_array_equal(one.run(None, {"input": x})[0], result)
