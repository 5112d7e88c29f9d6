"""Times every step of a network's program by itself, through the pool that runs it; it must not plan or change any."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sepcore.api import Model
from sepcore.bench.limits import Limits, cache_sizes
from sepcore.bench.measure import time_sequence
from sepcore.bench.roofline import Bound, Roofline
from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.runtime import layout
from sepcore.plan.program import Program, Step
from sepcore.runtime.context import Context
from sepcore.runtime.native import pool_for
from sepcore.runtime.session import Session


@dataclass(frozen=True)
class Layer:
    """A step of the program and the time it takes.

    Attributes
    ----------
    name : the graph node it comes from.
    kernel : registry name; for a chain the kernels of its rows, each once, behind it.
    macs : multiply-adds.
    nanoseconds : median, with what one call of the pool costs, some hundred nanoseconds to microseconds.
    bytes : of the maps that it reads and writes and of its weights, each once.
    bound : the least time it can take, and what takes it.
    """

    name: str
    kernel: str
    tiles: int
    macs: int
    nanoseconds: int
    bytes: int
    bound: Bound

    @property
    def gigabytes_per_second(self) -> float:
        return self.bytes / max(1, self.nanoseconds)

    @property
    def limit_share(self) -> float:
        """How near to its limit it is: the least time it can take over the time it takes."""
        return self.bound.nanoseconds / max(1, self.nanoseconds)

    @property
    def gflops(self) -> float:
        """10^9 operations per second, a multiply-add counted as two."""
        return 2 * self.macs / max(1, self.nanoseconds)


@dataclass(frozen=True)
class Profile:
    """The layers of a network for one image.

    Attributes
    ----------
    whole_nanoseconds : median of one call that runs all steps.
    limits : of one thread.
    """

    model: str
    isa: str
    threads: int
    shapes: tuple[tuple[int, ...], ...]
    layers: tuple[Layer, ...]
    whole_nanoseconds: int
    limits: Limits

    @property
    def peak(self) -> float:
        """GFLOP/s that all threads together could reach."""
        return self.limits.fma_gflops * self.threads


@dataclass(frozen=True)
class Calls:
    """A program ready to run: ``whole`` runs all of it, ``steps[i]`` its step i on what the steps before left.

    Attributes
    ----------
    memory : what must live as long as the calls.
    """

    program: Program
    whole: Callable[[], object]
    steps: tuple[Callable[[], object], ...]
    inputs: list[NDArray[np.float32]] = field(repr=False)
    outputs: list[NDArray[np.float32]] = field(repr=False)
    memory: object = field(repr=False)


def profile_model(model: Model, name: str, input_size: int | None, passes: int, limits: Limits) -> Profile:
    """Time every step for one image, in passes over all of them so that each finds the caches as in a real run.

    Parameters
    ----------
    input_size : side of square inputs, where the network takes any; default: the model's own size.
    limits : of one thread, with the bandwidths of all levels.

    Raises
    ------
    InputError : the network does not take inputs of this size.
    """
    shapes = input_shapes(model, 1, input_size)
    calls = program_calls(model, shapes)
    whole_time, *times = time_sequence([calls.whole, *calls.steps], passes)
    program = calls.program
    roofline = Roofline(program, limits, cache_sizes())
    layers = tuple(
        Layer(s.node, _kernels(s), s.tiles, s.macs, time, s.map_bytes + s.weight_bytes, roofline.bound(s))
        for s, time in zip(program.steps, times, strict=True)
    )
    return Profile(name, program.isa, program.threads, shapes, layers, whole_time, limits)


def program_calls(session: Session, shapes: tuple[tuple[int, ...], ...]) -> Calls:
    """Calls that run a session's program for one image, whole and step by step, on inputs of random numbers.

    Raises
    ------
    InputError : the network does not take inputs of these shapes.
    """
    program = session.program(*shapes)
    pool = pool_for(isas.by_name(session.isa))
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape, np.float32) for shape in shapes]
    outputs = [np.empty(spec.shape, np.float32) for spec in program.outputs]
    context = session.prepared(*shapes).new_context()
    context.point_at([a.ctypes.data for a in inputs], [a.ctypes.data for a in outputs])
    requests = [_request(context, i) for i in range(len(program.steps))]
    return Calls(
        program,
        partial(pool.run, context.request, program.threads),
        tuple(partial(pool.run, ctypes.addressof(request), program.threads) for request in requests),
        inputs,
        outputs,
        (context, requests),
    )


def input_shapes(model: Model, batch: int, input_size: int | None) -> tuple[tuple[int, ...], ...]:
    """Shapes to run a model with: lengths it leaves open are those of its pictures, or ``input_size``."""
    picture = model.preprocess.input_size if input_size is None else (input_size, input_size)
    shapes = []
    for value in model.inputs:
        sizes: list[int] = []
        for axis, length in enumerate(value.shape):
            # Height and width of an image; other open lengths have no usual value.
            is_side = len(value.shape) == 4 and axis >= 2
            if axis == 0:
                sizes.append(batch)
            elif is_side and (input_size is not None or not isinstance(length, int)):
                sizes.append(picture[axis - 2])
            else:
                sizes.append(length if isinstance(length, int) else 1)
        shapes.append(tuple(sizes))
    return tuple(shapes)


def _request(context: Context, index: int) -> ctypes.Array[ctypes.c_int64]:
    """A copy of the context's request that runs one step of its table."""
    words = ctypes.c_int64 * layout.REQUEST_WORDS
    request = words(*words.from_address(context.request))
    request[layout.PROGRAM] += index * step.STEP_BYTES
    request[layout.ALONE_PROGRAM] = request[layout.PROGRAM]
    request[layout.STEPS] = request[layout.ALONE_STEPS] = 1
    request[layout.FASTEST] = request[layout.ALONE] = 0
    return request


def _kernels(row: Step) -> str:
    inner = dict.fromkeys(part.kernel for run in row.chain for part in run)
    return f"{row.kernel}: {', '.join(inner)}" if inner else row.kernel
