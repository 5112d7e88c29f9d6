"""The rewriting passes, in the order they run: the graph that comes out means what the graph that went in meant.

They must not know files, kernels or plans. A pass is a function named by a verb phrase, in the file of that name.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph
from sepcore.ir.verify import verify as verify_graph
from sepcore.passes.canonicalise_linear import canonicalise_linear
from sepcore.passes.eliminate_identity import eliminate_identity
from sepcore.passes.eliminate_unchanged import eliminate_unchanged
from sepcore.passes.fold_batch_norm import fold_batch_norm
from sepcore.passes.fold_constants import fold_constants
from sepcore.passes.fold_pad import fold_pad
from sepcore.passes.fuse_activation import fuse_activation
from sepcore.passes.fuse_channel_shuffle import fuse_channel_shuffle
from sepcore.passes.fuse_clamp import fuse_clamp
from sepcore.passes.fuse_gelu import fuse_gelu
from sepcore.passes.fuse_hardswish import fuse_hardswish
from sepcore.passes.fuse_residual import fuse_residual
from sepcore.passes.fuse_silu import fuse_silu
from sepcore.passes.lower_batch_norm import lower_batch_norm
from sepcore.passes.lower_gather import lower_gather
from sepcore.passes.lower_where import lower_where
from sepcore.passes.merge_branches import merge_branches
from sepcore.passes.merge_scale import merge_scale
from sepcore.passes.rewrite import Pass
from sepcore.passes.separate_maps import separate_maps

PASSES: tuple[Pass, ...] = (
    eliminate_identity,
    fold_constants,
    # Before merge_scale, which would take the 3 of x + 3 into a bias.
    fuse_clamp,
    fuse_hardswish,
    fuse_silu,
    fuse_gelu,
    fold_batch_norm,
    canonicalise_linear,
    merge_scale,
    fold_pad,
    merge_branches,
    fuse_activation,
)
"""Run once per network, for any input size."""

SHAPE_PASSES: tuple[Pass, ...] = (
    lower_gather,
    lower_where,
    eliminate_unchanged,
    fuse_channel_shuffle,
    fold_constants,
    fold_batch_norm,
    lower_batch_norm,
    separate_maps,
    canonicalise_linear,
    merge_scale,
    fold_pad,
    fuse_residual,
    fuse_activation,
)
"""Run on a graph that :func:`sepcore.ir.infer.specialise` made: they need shapes, or follow up on those that do."""


def run_passes(graph: Graph, verify: bool = False) -> Graph:
    """Run :data:`PASSES` over a verified graph; with ``verify`` the verifier runs after each."""
    return _run(graph, PASSES, verify)


def run_shape_passes(graph: Graph, verify: bool = False) -> Graph:
    """Run :data:`SHAPE_PASSES` over a specialised graph; with ``verify`` the verifier runs after each."""
    return _run(graph, SHAPE_PASSES, verify)


def _run(graph: Graph, passes: tuple[Pass, ...], verify: bool) -> Graph:
    for pass_ in passes:
        graph = pass_(graph)
        if verify:
            verify_graph(graph)
    return graph
