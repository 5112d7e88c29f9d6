"""A program as plain lists and numbers, for a file, and back; it must not touch files or know what checks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from sepcore.plan.program import Operand, Program, Space, Step, TensorSpec

_SPACES: tuple[Space, ...] = get_args(Space)


def encoded(program: Program) -> dict[str, Any]:
    """``program`` in what JSON has forms for; kernels are named once."""
    kernels = {name: i for i, name in enumerate(program.kernels())}
    return {
        "name": program.name,
        "isa": program.isa,
        "batch": program.batch,
        "threads": program.threads,
        "bytes": [program.private_bytes, program.shared_bytes, program.scratch_bytes],
        "inputs": [[spec.name, list(spec.shape)] for spec in program.inputs],
        "outputs": [[spec.name, list(spec.shape)] for spec in program.outputs],
        "kernels": list(kernels),
        "image_steps": [_encoded_step(step, kernels) for step in program.image_steps],
        "batch_steps": [_encoded_step(step, kernels) for step in program.batch_steps],
    }


def _encoded_step(step: Step, kernels: Mapping[str, int]) -> list[Any]:
    operands = [
        [word, _SPACES.index(o.space), o.offset, o.index, o.image_bytes] for word, o in sorted(step.operands.items())
    ]
    words = [list(pair) for pair in sorted(step.words.items())]
    chain = [[_encoded_step(row, kernels) for row in run] for run in step.chain]
    return [kernels[step.kernel], step.tiles, words, operands, step.node, step.macs, chain]


def decoded(encoded: Mapping[str, Any]) -> Program:
    """The program that :func:`encoded` was given; only for content that is known to come from there."""
    private_bytes, shared_bytes, scratch_bytes = encoded["bytes"]
    kernels = encoded["kernels"]
    return Program(
        name=encoded["name"],
        isa=encoded["isa"],
        batch=encoded["batch"],
        threads=encoded["threads"],
        image_steps=tuple(_decoded_step(step, kernels) for step in encoded["image_steps"]),
        batch_steps=tuple(_decoded_step(step, kernels) for step in encoded["batch_steps"]),
        inputs=tuple(TensorSpec(name, tuple(shape)) for name, shape in encoded["inputs"]),
        outputs=tuple(TensorSpec(name, tuple(shape)) for name, shape in encoded["outputs"]),
        private_bytes=private_bytes,
        shared_bytes=shared_bytes,
        scratch_bytes=scratch_bytes,
    )


def _decoded_step(encoded: list[Any], kernels: list[str]) -> Step:
    kernel, tiles, words, operands, node, macs, chain = encoded
    return Step(
        kernels[kernel],
        tiles,
        dict(words),
        {word: Operand(_SPACES[space], *rest) for word, space, *rest in operands},
        node,
        macs,
        tuple(tuple(_decoded_step(row, kernels) for row in run) for run in chain),
    )
