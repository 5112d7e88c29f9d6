"""Golden networks of every family that is recognised, through the planner and the kernels, against PyTorch's logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import golden_graph

from sepcore.options import SessionOptions
from sepcore.runtime.session import Session

# Those that test_session.py does not run: what they have in common is concat, split, shuffle, resize or branches.
NAMES = (
    "timm__efficientnet_lite0", "timm__ghostnet_100", "timm__mobilenetv4_conv_medium", "timm__mobilenetv4_conv_small",
    "timm__mobileone_s0", "tv__efficientnet_b0", "tv__mnasnet0_5", "tv__mnasnet1_0", "tv__shufflenet_v2_x1_0",
)  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_pytorchs(data_dir: Path, name: str) -> None:
    graph, inputs, logits = golden_graph(data_dir, name)
    shared, alone = (Session(graph, SessionOptions(num_threads=threads)) for threads in (2, 1))
    for x, expected in zip(inputs, logits):
        found = shared(x)
        assert np.abs(found - expected).max() <= 1e-4 * expected.std()
        np.testing.assert_array_equal(found, alone(x))
        np.testing.assert_array_equal(found, np.concatenate([alone(image[None]) for image in x]))
