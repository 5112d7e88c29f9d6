"""Walks a program: every image through every step, one call per tile; on the calling thread alone.

It must not synchronise threads: a step whose tiles are images is how several of them share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.runtime import layout
from sepcore.kernels.spec import KernelSpec

# Words of a step of the kernel ``walk_images``.
FIRST_TABLE, TABLE_BYTES, TABLE_STEPS, TABLE_IMAGES = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 4)


def images_step(code: int, first_table: int, table_bytes: int, steps: int, images: int) -> dict[int, int]:
    """Words of a step that takes ``images`` through the ``steps`` of another table, each on one thread.

    Parameters
    ----------
    code : address of the kernel ``walk_images``.
    first_table, table_bytes : thread t walks the table at ``first_table + t * table_bytes``.
    """
    return {
        step.CODE: code,
        step.TILES: min(images, layout.MAX_TILES),
        FIRST_TABLE: first_table,
        TABLE_BYTES: table_bytes,
        TABLE_STEPS: steps,
        TABLE_IMAGES: images,
    }


def walk_alone_row(isa: str) -> KernelSpec:
    """``walk_alone(pool, request)``: run the request on this thread, counted among the pool's calls in flight."""
    return KernelSpec(f"walk_alone__{isa}", "runtime", isa, None, _walk_alone, arity=2)


def walk_images_row(isa: str) -> KernelSpec:
    """The kernel of a step that takes images through a program, a copy of its table for each thread."""
    return KernelSpec(f"walk_images__{isa}", "runtime", isa, None, _walk_images)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    yield walk_alone_row(isa)
    yield walk_images_row(isa)


def _walker() -> Any:
    """``walk(program, steps, thread, first_image, last_image)`` for other Numba code."""
    from numba.extending import register_jitable

    from sepcore.kernels.runtime.prim import call_kernel
    from sepcore.kernels.words import load_word

    @register_jitable(error_model="numpy")
    def walk(program: int, steps: int, thread: int, first_image: int, last_image: int) -> None:
        for image in range(first_image, last_image):
            at = program
            for _ in range(steps):
                code = load_word(at + 8 * step.CODE)
                for tile in range(load_word(at + 8 * step.TILES)):
                    call_kernel(code, at, tile, thread, image)
                at += step.STEP_BYTES

    return walk


def _walk_alone(spec: KernelSpec) -> Callable[[int, int], None]:
    from sepcore.kernels.runtime.clock import now
    from sepcore.kernels.runtime.prim import atomic_add, float_modes_of
    from sepcore.kernels.words import load_word, store_word

    float_mode, set_float_mode, run_mode = float_modes_of(isas.by_name(spec.isa).machine)
    walk = _walker()

    def walk_alone(pool: int, request: int) -> None:
        atomic_add(pool + 8 * layout.CALLS, 1)
        callers_mode = float_mode()
        set_float_mode(run_mode)
        shared, begin = load_word(request + 8 * layout.THREADS) > 1, 0
        if shared:
            begin = now(pool, request)
        walk(
            load_word(request + 8 * layout.ALONE_PROGRAM),
            load_word(request + 8 * layout.ALONE_STEPS),
            load_word(request + 8 * layout.THREAD_BLOCKS),
            0,
            load_word(request + 8 * layout.IMAGES),
        )
        if shared:  # whether it shall be again is judged by this
            took, alone = now(pool, request) - begin, load_word(request + 8 * layout.ALONE)
            if alone == 0 or took < alone:
                store_word(request + 8 * layout.ALONE, took)
        set_float_mode(callers_mode)
        atomic_add(pool + 8 * layout.CALLS, -1)

    return walk_alone


def _walk_images(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.words import load_word

    walk = _walker()

    def walk_images(at: int, tile: int, thread: int, image: int) -> None:
        index = load_word(thread + 8 * step.THREAD_INDEX)
        table = load_word(at + 8 * FIRST_TABLE) + index * load_word(at + 8 * TABLE_BYTES)
        images, tiles = load_word(at + 8 * TABLE_IMAGES), load_word(at + 8 * step.TILES)
        first, last = tile * images // tiles, (tile + 1) * images // tiles
        walk(table, load_word(at + 8 * TABLE_STEPS), thread, first, last)

    return walk_images
