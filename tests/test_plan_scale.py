"""Squeeze-excite: factors of channels go into the next layer's weights where those are fewer, else into the map."""

from __future__ import annotations

import numpy as np
import pytest
from layers import convolutions

from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.reference import run_reference
from sepcore.options import SessionOptions
from sepcore.plan import bands
from sepcore.runtime.session import Session


def graph(out_channels: int, residual: bool = False, twice: bool = False) -> Graph:
    """A depthwise layer, a squeeze-excite block, a projection; with ``twice`` a second reader of the scaled map."""
    b = GraphBuilder("squeeze")
    conv = convolutions(b)

    x = b.input("input", ("n", 3, "h", "w"))
    x = conv(x, 3, 40, 3)
    y = conv(x, 40, 40, 3, 40, ("silu",))
    s = conv(conv(b.add("reduce_mean", [y], axes=(2, 3), keepdims=True), 40, 8), 8, 40, 1, 1, ("sigmoid",))
    y = b.add("mul", [s, y])
    z = conv(y, 40, out_channels, 1, 1, None, *([x] if residual else []))
    outputs = [conv(conv(z, out_channels, 72, act=("relu",)), 72, 72, 3, 72)]
    return b.build([*outputs, y] if twice else outputs)


def kernels(session: Session, size: int) -> list[str]:
    steps = session.program((1, 3, size, size)).steps
    rows = [row for step in steps for run in step.chain for row in run]
    return [step.kernel.partition("__")[0] for step in (*steps, *rows)]


@pytest.mark.parametrize(
    ("size", "out_channels", "residual", "twice", "scaled"),
    [
        (24, 16, False, False, True),
        (24, 40, True, False, True),
        (24, 184, False, False, True),
        (5, 40, False, False, False),
        (24, 16, False, True, False),
    ],
)
@pytest.mark.parametrize("least", [bands.LEAST_CHAINED_BYTES, 0])
def test_like_the_reference_and_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
    plain_products: None,
    size: int,
    out_channels: int,
    residual: bool,
    twice: bool,
    scaled: bool,
    least: int,
) -> None:
    monkeypatch.setattr(bands, "LEAST_CHAINED_BYTES", least)
    network = graph(out_channels, residual, twice)
    x = np.random.default_rng(1).standard_normal((3, 3, size, size)).astype(np.float32)
    expected = run_reference(network, {network.inputs[0].name: x})
    one = Session(network, SessionOptions(num_threads=1))
    assert ("f32_scale_weights" in kernels(one, size)) == scaled
    assert ("f32_elementwise_mul" in kernels(one, size)) != scaled
    for step in one.program((1, 3, size, size)).steps:
        named = [step, *(row for run in step.chain for row in run)]
        assert all(s.choice is None for s in named if "scale_weights" in s.kernel)
        assert all(s.choice is not None for s in named if s.kernel.startswith("f32_pointwise"))
    results = one.run(None, {network.inputs[0].name: x})
    for result, wanted in zip(results, expected):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4 * float(np.abs(wanted).max()))
    two = Session(network, SessionOptions(num_threads=2))
    for i in range(3):
        for result, whole in zip(two.run(None, {network.inputs[0].name: x[i : i + 1]}), results):
            np.testing.assert_array_equal(result, whole[i : i + 1])
