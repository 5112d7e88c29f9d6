"""Rows of users' operators: functions of one element, alone or behind another kernel's store, and range kernels.

``elementwise`` : operands of a step as in strided/rows.py, with the words of ``strided.walk``.
``epilogue`` : not called by a step but by the kernels whose ACTIVATION is CALL, on a tile that they have stored:
``epilogue(address, rows, stride in bytes, floats of a row)``, in place.
``range`` : X, OUT, EXTRA and MORE float32 in C order, with the lengths that stand from LENGTHS on, those of OUT first,
one of each where the function takes flat arrays; UNITS is what the range runs over.
The names of rows hold the digest of what they compute. They are known to the process that registered the function, and
built there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.custom.source import CALLABLE, rebuilt
from sepcore.kernels.spec import KernelSpec
from sepcore.kernels.strided import walk as w

MORE, MORE_IMAGE, UNITS, BLOCKS, LENGTHS = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 5)

INPUTS = (step.X, step.EXTRA, MORE)
"""Words of a range kernel's inputs, in order."""

AXES = 6
"""Axes that an operand of a range kernel may have."""

BUFFER_FLOATS = 1024

Attribute = float | int


@dataclass(frozen=True)
class UserFunction:
    """A user's function as it was when it was registered.

    Attributes
    ----------
    name : of the operator.
    digest : of all that decides its machine code (``source.digest``).
    function : depends on nothing that can change; its last parameters are attributes.
    axis : of the output that a range kernel's range runs over; None for all elements.
    """

    name: str
    digest: str
    function: FunctionType = field(repr=False, compare=False)
    axis: int | None = None


@dataclass(frozen=True)
class Specialised:
    """A user's function with the values of its attributes and the ranks of its operands, OUT first."""

    user: UserFunction
    attributes: tuple[Attribute, ...]
    ranks: tuple[int, ...] = ()


_users: dict[str, UserFunction] = {}
_known: dict[str, KernelSpec] = {}


def register(user: UserFunction) -> None:
    """Have ``user`` called by its name."""
    _users[user.name] = user


def forget(name: str) -> None:
    """Free a name."""
    del _users[name]


def user(name: str) -> UserFunction | None:
    """The function of that name, if there is one."""
    return _users.get(name)


def find(name: str) -> KernelSpec:
    """The row called ``name``, which this process has asked for before; KeyError where it has not."""
    return _known[name]


def elementwise(user: UserFunction, attributes: tuple[Attribute, ...], isa: str) -> KernelSpec:
    """The row that computes a function of one element over tensors of any strides."""
    return _row("elementwise", Specialised(user, attributes), isa, _elementwise)


def epilogue(user: UserFunction, attributes: tuple[Attribute, ...], isa: str) -> KernelSpec:
    """The row that other kernels call to compute a function of one element over a tile that they have stored."""
    return _row("epilogue", Specialised(user, attributes), isa, _epilogue)


def range_kernel(user: UserFunction, attributes: tuple[Attribute, ...], ranks: tuple[int, ...], isa: str) -> KernelSpec:
    """The row of a user's range kernel for operands of these ranks, those of the output first."""
    return _row("range", Specialised(user, attributes, ranks), isa, _range)


def _row(
    kind: str, parameters: Specialised, isa: str, build: Callable[[Specialised, str], Callable[..., None]]
) -> KernelSpec:
    from hashlib import sha256

    user = parameters.user
    digest = sha256(repr(parameters).encode()).hexdigest()[:16]
    name = f"f32_custom_{kind}_{user.name}_{digest}__{isa}"
    spec = KernelSpec(name, f"custom_{kind}", isa, parameters, partial(_built, build), here_only=True)
    return _known.setdefault(name, spec)


def _built(build: Callable[[Specialised, str], Callable[..., None]], spec: KernelSpec) -> Callable[..., None]:
    return build(spec.parameters, spec.isa)


def _compiled(parameters: Specialised, isa: str) -> Any:
    """The user's function for Numba: floating-point numbers are float32, mathematics is that of the kernels."""
    import numpy as np
    from numba.extending import register_jitable

    from sepcore.kernels.custom.mathematics import functions

    known = functions(isas.by_name(isa))

    def replace(value: Any) -> Any:
        if isinstance(value, FunctionType):
            return register_jitable(error_model="numpy")(value)
        if isinstance(value, float):
            return np.float32(value)
        return known[CALLABLE[value]] if callable(value) and value in CALLABLE else value

    attributes = tuple(replace(value) for value in parameters.attributes)
    return register_jitable(error_model="numpy")(rebuilt(parameters.user.function, replace, attributes))


def _in_place(parameters: Specialised, isa: str) -> Any:
    """``apply(address, count)``: the function over floats, in one loop that LLVM can make vector code of."""
    from numba.extending import register_jitable

    from sepcore.kernels.custom.memory import floats

    function = _compiled(parameters, isa)

    @register_jitable(error_model="numpy")
    def apply(address: int, count: int) -> None:
        x = floats(address, count)
        for i in range(count):
            x[i] = function(x[i])

    return apply


def _elementwise(parameters: Specialised, isa: str) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.custom.memory import copier
    from sepcore.kernels.words import load_float, load_word, store_float

    apply, copy = _in_place(parameters, isa), copier(isas.by_name(isa))
    count, extent, place = w.walk()

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        x_row, x_column = load_word(at + 8 * (w.X_STRIDES + w.ROW)), load_word(at + 8 * (w.X_STRIDES + w.COLUMN))
        out_row = load_word(at + 8 * (w.OUT_STRIDES + w.ROW))
        units, blocks = count(at), load_word(at + 8 * w.BLOCKS)
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            rows, columns = extent(at, unit)
            source, target = x + place(at, unit, w.X_STRIDES), out + place(at, unit, w.OUT_STRIDES)
            for r in range(rows):
                a, b = source + r * x_row, target + r * out_row
                if x_column == 0:
                    for c in range(columns):
                        store_float(b + 4 * c, load_float(a))
                elif a != b:
                    copy(a, b, columns)
                apply(b, columns)

    return kernel


def _epilogue(parameters: Specialised, isa: str) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.custom.memory import copier, stack_floats

    apply, copy = _in_place(parameters, isa), copier(isas.by_name(isa))

    def kernel(address: int, rows: int, stride: int, floats: int) -> None:
        # Short rows that are apart are brought together: the loop over them all is a long one.
        buffer = stack_floats(BUFFER_FLOATS)
        apart = stride != 4 * floats
        most = BUFFER_FLOATS // floats if apart else rows
        while rows > 0:
            count, place = min(most, rows), buffer if apart else address
            if apart:
                for r in range(count):
                    copy(address + r * stride, buffer + 4 * r * floats, floats)
            apply(place, count * floats)
            if apart:
                for r in range(count):
                    copy(buffer + 4 * r * floats, address + r * stride, floats)
            address, rows = address + count * stride, rows - count

    return kernel


def _range(parameters: Specialised, isa: str) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.custom.memory import array_of
    from sepcore.kernels.words import load_word

    function, (out_rank, *ranks) = _compiled(parameters, isa), parameters.ranks
    starts = [LENGTHS + out_rank + sum(ranks[:i]) for i in range(len(ranks))]
    out_of, operands = array_of(out_rank), _operands(list(zip(INPUTS, ranks, starts)))

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        units, blocks = load_word(at + 8 * UNITS), load_word(at + 8 * BLOCKS)
        first, last = index * units // blocks, (index + 1) * units // blocks
        function(first, last, out_of(out, at + 8 * LENGTHS), *operands(at, image))

    return kernel


def _operands(inputs: Sequence[tuple[int, int, int]]) -> Any:
    """``operands(at, image)``: a step's input arrays, each given by its word, its rank and the word of its lengths."""
    from numba.extending import register_jitable

    from sepcore.kernels.custom.memory import array_of
    from sepcore.kernels.words import load_word

    (word, rank, lengths), *rest = inputs
    array: Any = array_of(rank)

    @register_jitable(error_model="numpy")
    def one(at: int, image: int) -> Any:
        return (array(load_word(at + 8 * word) + image * load_word(at + 8 * word + 8), at + 8 * lengths),)

    if not rest:
        return one
    others = _operands(rest)

    @register_jitable(error_model="numpy")
    def several(at: int, image: int) -> Any:
        return one(at, image) + others(at, image)

    return several
