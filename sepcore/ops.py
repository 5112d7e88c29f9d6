"""Users' own operators: ``@sepcore.op`` takes a Python function into the graph, the planner and the kernels.

It must not compile anything: machine code is made when a network that uses the operator runs first, and kept.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np

from sepcore.errors import OptionError
from sepcore.ir.graph import Array
from sepcore.ir.ops import OPERATORS, custom
from sepcore.ir.ops.attributes import FLOAT, INT, Attribute
from sepcore.ir.ops.operator import Call, Operator, Tensor
from sepcore.kernels.custom import rows, source

Function = TypeVar("Function", bound=Callable[..., Any])

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FILE_NAME = re.compile(r"[\w.-]{1,100}::\w{1,100}(\.\w{1,100})?")
_RANGE = ("first", "last", "out")
_SIGNATURES = "f(x), or f(first, last, out, a) with one to three arrays, then attributes with a number as default"

_lock = threading.Lock()


def op(
    *names: str,
    name: str | None = None,
    shape: Callable[..., Sequence[int]] | None = None,
    axis: int | None = None,
    reference: Callable[..., Any] | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function as an operator.

    A function of one number, ``f(x)``, is applied to every element: it may stand for an activation, and kernels call it
    on what they have just stored. A function ``f(first, last, out, a)`` of one to three arrays writes the part
    ``first ... last`` of ``out``, and is called for several parts at once, in any order; arrays hold one image and are
    flat, or with ``axis`` have their axes, the first of length 1. Parameters behind these, with numbers as
    defaults, are attributes.

    Numba compiles the function as it is now: later changes of its globals or closure do not count. In it floating-point
    numbers are float32, division by zero gives inf or NaN, ``math`` and numpy give the functions that
    ``sepcore.kernels.custom.source.MATHEMATICS`` lists, and nothing may be raised or allocated.

    Parameters
    ----------
    names : what files call it: ``"my.domain::Op"`` in ONNX, ``"mylib::op"`` or ``"mylib::op.overload"`` in PyTorch.
    name : what sepcore calls it; default: the function's name.
    shape : a range kernel's output shape from its inputs' shapes, as tuples; default: the first one's.
    axis : the axis of the output that ``first`` and ``last`` count along; default: elements, of flat arrays.
    reference : what the operator means: from float64 arrays, and attributes by name, to an array. Default: the Python
        function itself, run by Python in float64.

    Returns
    -------
    A decorator that gives the function back as it was.

    Raises
    ------
    OptionError : when the decorator is applied: a name is taken by another function, the signature is neither of the
        two, or the function contains what cannot be compiled, or what a change of would go unnoticed.
    """

    def registered(given: Function) -> Function:
        try:
            _register(_Definition(given, names, name, shape, axis, reference))
        except source.SourceError as error:
            called = name or getattr(given, "__name__", type(given).__name__)
            raise OptionError(f"operator {called!r}{_place(given)}: {error}") from None
        return given

    return registered


def remove(name: str) -> None:
    """Take an operator out, so that another function may have its name; networks that use it cannot be planned again.

    Raises
    ------
    OptionError : no operator has this name.
    """
    with _lock:
        if custom.find(custom.PREFIX + name) is None:
            raise OptionError(f"operator {name!r}: expected one that is registered, found none of that name")
        custom.remove(custom.PREFIX + name)
        rows.forget(name)


def _place(given: Any) -> str:
    code = getattr(getattr(given, "py_func", given), "__code__", None)
    return f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""


class _Definition:
    """An operator as its user defines it, checked."""

    def __init__(
        self,
        given: Callable[..., Any],
        names: tuple[str, ...],
        name: str | None,
        shape: Callable[..., Sequence[int]] | None,
        axis: int | None,
        reference: Callable[..., Any] | None,
    ) -> None:
        function = source.python_function(given)
        self.name = name or function.__name__
        self.names, self.axis = names, axis
        self._check_names()
        self.inputs, self.attributes = _signature(function)
        self.elementwise = len(self.inputs) == 1
        if self.elementwise and (shape is not None or axis is not None):
            raise source.SourceError("shape and axis: expected none for a function of one element, found one")
        if not self.elementwise:
            self.inputs = self.inputs[len(_RANGE) :]
        source.digest(function)
        kept = source.rebuilt(function, lambda value: value)
        self.user = rows.UserFunction(self.name, source.digest(kept), kept, axis)
        self._shape, self._reference = shape, reference
        self._meaning = source.rebuilt(kept, _of_numpy)

    def _check_names(self) -> None:
        from sepcore.models.conventions import ACTIVATIONS

        if not _NAME.fullmatch(self.name):
            raise source.SourceError(f"name: expected up to 40 of a-z, 0-9 and _, found {self.name!r}")
        if self.name in OPERATORS or self.name in ACTIVATIONS:
            raise source.SourceError("name: expected one that sepcore has no operator of, found one of sepcore's own")
        for found in self.names:
            if not _FILE_NAME.fullmatch(found):
                raise source.SourceError(f"names: expected 'domain::Op' or 'library::op.overload', found {found!r}")

    def row(self) -> custom.UserOperator:
        """The operator's row in the graph."""
        operator = Operator(
            custom.PREFIX + self.name, self.inputs, self._infer, self._compute, self.attributes, foldable=False
        )
        return custom.UserOperator(operator, self.elementwise, self.names)

    def _infer(self, call: Call) -> list[Tensor]:
        dtype = call.floating(*self.inputs)
        shapes = call.shapes()
        if self._shape is None:
            return [(shapes[0], dtype)]
        try:
            found = tuple(self._shape(*shapes))
        except Exception as error:
            raise call.error("shape rule", f"a shape for {shapes}", f"{type(error).__name__}: {error}") from error
        if not all(type(length) is int and length > 0 for length in found):
            raise call.error("shape rule", "positive integers", repr(found))
        return [(found, dtype)]

    def _compute(self, call: Call, *arrays: Array) -> Any:
        attributes = {name: call.attr(name) for name in self.attributes}
        if self._reference is not None:
            return self._reference(*arrays, **attributes)
        values = tuple(attributes.values())
        if self.elementwise:
            return np.vectorize(lambda x: self._meaning(x, *values), otypes=[np.float64])(arrays[0])
        ((shape, _),) = self._infer(call)
        out = np.empty(shape, np.float64)
        if self.axis is None:
            self._meaning(0, prod(shape), out.reshape(-1), *(array.reshape(-1) for array in arrays), *values)
        else:
            self._meaning(0, shape[self.axis], out, *arrays, *values)
        return out


def _signature(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Attribute]]:
    """Names of the parameters without default, and the attributes."""
    inputs: list[str] = []
    attributes: dict[str, Attribute] = {}
    for parameter in inspect.signature(function, follow_wrapped=False).parameters.values():
        default = parameter.default
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise source.SourceError(f"signature: expected {_SIGNATURES}; found {parameter.kind.description} parameter")
        if default is parameter.empty:
            inputs.append(parameter.name)
        elif type(default) in (int, float):
            attributes[parameter.name] = (INT if type(default) is int else FLOAT).with_default(default)
        else:
            raise source.SourceError(f"attribute {parameter.name}: expected a number as default, found {default!r}")
    of_range = tuple(inputs[:3]) == _RANGE and 4 <= len(inputs) <= 3 + len(rows.INPUTS)
    if len(inputs) != 1 and not of_range:
        raise source.SourceError(f"signature: expected {_SIGNATURES}; found f({', '.join(inputs)})")
    return tuple(inputs), attributes


def _of_numpy(value: Any) -> Any:
    """What Python runs in place of ``math``: numpy gives inf and NaN where ``math`` raises."""
    called = source.CALLABLE.get(value) if callable(value) else None
    if called is None:
        return value
    return getattr(np, source.NUMPY_NAMES[called]) if called in source.NUMPY_NAMES else value


def _register(definition: _Definition) -> None:
    """Enter an operator; the same function may be entered again, as when a notebook's cell is run twice."""
    row, user = definition.row(), definition.user
    with _lock:
        known = rows.user(definition.name)
        if known is not None and known != user:
            raise source.SourceError("its name is taken by another function; sepcore.ops.remove(name) frees it")
        for name in definition.names:
            other = custom.named(name)
            if other is not None and other.operator.name != row.operator.name:
                own = other.operator.name.removeprefix(custom.PREFIX)
                raise source.SourceError(f"names: {name!r} is what the operator {own!r} is called already")
        if known is not None:
            custom.remove(row.operator.name)
        custom.add(row)
        rows.register(user)
