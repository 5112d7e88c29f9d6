"""The end of every micro-kernel: the activation a step asks for, then the only store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from sepcore.kernels import step
from sepcore.kernels.activation import codes
from sepcore.kernels.activation.emit import emit_activation, is_expensive
from sepcore.kernels.emit import FLOAT_BYTES, I64, VOID, Emitter, Loop, i64


def parameters(e: Emitter, step_pointer: Any) -> tuple[Any, Any]:
    """The two activation parameters of a step, each in every lane."""
    at = step.PARAMETERS * step.WORD_BYTES
    return e.broadcast(e.at(step_pointer, at)), e.broadcast(e.at(step_pointer, at + FLOAT_BYTES))


def by_activation(e: Emitter, step_pointer: Any, write: Callable[[int], None]) -> None:
    """Branch on the step's activation code; ``write(code)`` emits each branch."""
    b = e.b
    code = b.load(e.at(step_pointer, step.ACTIVATION * step.WORD_BYTES), align=8, typ=I64)
    done = b.append_basic_block("stored")
    blocks = {c: b.append_basic_block(name) for c, name in {**codes.NAMES, codes.CALL: "call"}.items()}
    switch = b.switch(code, blocks[codes.LINEAR])
    for c, block in blocks.items():
        if c != codes.LINEAR:
            switch.add_case(i64(c), block)
        b.position_at_end(block)
        write(c)
        b.branch(done)
    b.position_at_end(done)


def store_activated(
    e: Emitter,
    step_pointer: Any,
    values: Sequence[Any],
    places: Sequence[Any],
    in_place: Callable[[int], None],
    behind: Callable[[Sequence[Any]], None] = lambda stored: None,
) -> None:
    """Store ``values[i]`` at ``places[i]``, activated; ``behind`` emits what else is done with the stored vectors.

    An expensive activation needs registers that a full tile does not have: the values are stored as they are and
    ``in_place(code)`` emits a loop over the stored tile, and nothing is ``behind``.
    """

    def write(code: int) -> None:
        p, q = parameters(e, step_pointer)
        stored = [value if is_expensive(code) else emit_activation(e, code, value, p, q) for value in values]
        for value, place in zip(stored, places):
            e.store(value, place)
        if is_expensive(code):
            in_place(code)
        else:
            behind(stored)

    by_activation(e, step_pointer, write)


def activate_in_place(
    e: Emitter, step_pointer: Any, code: int, out: Any, count: Any, stride: Any, vectors: int
) -> None:
    """Activation ``code`` over ``count`` rows of ``vectors`` vectors, ``stride`` bytes apart, at ``out``."""
    if code == codes.CALL:
        function = e.b.load(e.at(step_pointer, step.PARAMETERS * step.WORD_BYTES), align=8, typ=I64)
        epilogue = ir.FunctionType(VOID, [I64] * 4).as_pointer()
        arguments = [e.b.ptrtoint(out, I64), count, stride, i64(vectors * e.lanes)]
        e.b.call(e.b.inttoptr(function, epilogue), arguments)
        return
    loop = Loop(e.b, count, 1)
    row = e.at(out, e.b.mul(loop.i, stride))
    for j in range(vectors):
        at = e.at(row, j * e.bytes)
        e.store(emit_activation(e, code, e.load(at), None, None), at)
    loop.end()
