"""All that a user's function is made of: held against what may be in it, digested, and rebuilt with other values in it.

It must not run the function, nor import numba. The digest is taken from bytecode and values, not from a file, which may
have changed since the function was made.
"""

from __future__ import annotations

import builtins
import dis
import hashlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

MATHEMATICS = (
    "exp", "expm1", "log", "log1p", "tanh", "erf", "sqrt", "fabs", "floor", "ceil", "pow", "sin", "cos",
)  # fmt: skip
"""Functions of ``math`` and numpy, by the name in ``math``, that kernels have code for."""

NUMPY_NAMES = {name: {"pow": "power"}.get(name, name) for name in MATHEMATICS if name != "erf"}
"""What numpy calls them; it has no erf."""

_BUILTINS = frozenset({abs, bool, float, int, len, max, min, range})
_DTYPES = frozenset({np.float32, np.float64, np.int32, np.int64})
_REFUSED = {
    "IMPORT_NAME": "an import",
    "STORE_GLOBAL": "an assignment to a global",
    "LOAD_BUILD_CLASS": "a class",
    "RAISE_VARARGS": "a raise statement: a kernel has nobody to raise to",
}
_MOST_ELEMENTS = 1 << 16  # of arrays among a function's values: they become part of its machine code

CALLABLE: dict[Any, str] = {
    **{getattr(math, name): name for name in MATHEMATICS},
    **{getattr(np, spelled): name for name, spelled in NUMPY_NAMES.items()},
    np.absolute: "fabs",
}
"""Functions of ``math`` and numpy that kernels have code for, and their names in MATHEMATICS."""


class SourceError(ValueError):
    """A function that cannot be an operator; the text says what is in it."""


@dataclass(frozen=True)
class _Reference:
    """A value from outside of the function: ``name`` of a global or closure variable, ``attribute`` of a module's."""

    name: str
    attribute: str
    value: Any
    enclosed: bool

    @property
    def text(self) -> str:
        return f"{self.name}.{self.attribute}" if self.attribute else self.name


def python_function(given: Any) -> FunctionType:
    """The Python function that was decorated; Numba's dispatchers hold theirs."""
    function = getattr(given, "py_func", given)
    if not isinstance(function, FunctionType):
        raise SourceError(f"expected a Python function, found {type(given).__name__}")
    return function


def digest(function: FunctionType) -> str:
    """Hexadecimal digest of the function's code and of every value that it takes from outside.

    Raises
    ------
    SourceError : something in it cannot be told from other values of its kind, so that a change would go unnoticed.
    """
    total = hashlib.sha256(f"{sys.implementation.cache_tag}".encode())
    for part in _parts(function, ()):
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()


def rebuilt(function: FunctionType, replace: Callable[[Any], Any], defaults: tuple[Any, ...] = ()) -> FunctionType:
    """The function with ``replace`` applied to every value in it; it then depends on nothing that may change.

    Parameters
    ----------
    replace : from a constant or a value from outside to what takes its place; functions are rebuilt before.
    defaults : values of the last parameters.
    """
    return _rebuilt(function, replace, {}, defaults)


def _rebuilt(
    function: FunctionType, replace: Callable[[Any], Any], made: dict[int, FunctionType], defaults: tuple[Any, ...] = ()
) -> FunctionType:
    if id(function) in made:
        return made[id(function)]
    scope: dict[str, Any] = {"__builtins__": builtins, "__name__": function.__module__}
    cells: dict[str, Any] = {}
    for reference in _references(function):
        value = reference.value
        if isinstance(getattr(value, "py_func", value), FunctionType):
            value = replace(_rebuilt(python_function(value), replace, made))
        else:
            value = replace(value.copy() if isinstance(value, np.ndarray) else value)
        target = cells if reference.enclosed else scope
        if reference.attribute:
            setattr(target.setdefault(reference.name, ModuleType(reference.name)), reference.attribute, value)
        else:
            target[reference.name] = value
    code = _replaced_constants(function.__code__, replace)
    closure = tuple(CellType(cells[name]) for name in code.co_freevars)
    values = defaults or tuple(replace(value) for value in function.__defaults__ or ())
    made[id(function)] = FunctionType(code, scope, function.__name__, values, closure)
    return made[id(function)]


def _replaced_constants(code: CodeType, replace: Callable[[Any], Any]) -> CodeType:
    def replaced(constant: Any) -> Any:
        if isinstance(constant, CodeType):
            return _replaced_constants(constant, replace)
        return tuple(map(replaced, constant)) if isinstance(constant, tuple) else replace(constant)

    return code.replace(co_consts=tuple(map(replaced, code.co_consts)))


def _parts(function: FunctionType, within: tuple[FunctionType, ...]) -> Iterator[bytes]:
    """What the digest is taken of; ``within`` are the functions that are being looked at."""
    if function in within:
        raise SourceError(f"{function.__name__} calls itself: kernels have no stack to recurse on")
    yield from _code_parts(function.__code__)
    for value in function.__defaults__ or ():
        yield from _value_parts(value, "a default", within)
    for reference in _references(function):
        yield f"{reference.text} {reference.enclosed}".encode()
        yield from _value_parts(reference.value, reference.text, (*within, function))


def _code_parts(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_names)
    yield repr((shape, code.co_varnames, code.co_freevars, code.co_cellvars)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant)
        else:
            yield from _value_parts(constant, "a constant", ())


def _value_parts(value: Any, name: str, within: tuple[FunctionType, ...]) -> Iterator[bytes]:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        yield f"{type(value).__name__} {value!r}".encode()
    elif isinstance(value, np.generic) and value.dtype.kind in "biuf":
        yield value.dtype.str.encode() + value.tobytes()
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.size <= _MOST_ELEMENTS:
        yield f"{value.dtype.str} {value.shape}".encode() + value.tobytes()
    elif isinstance(value, (tuple, frozenset)):
        yield f"{type(value).__name__} {len(value)}".encode()
        for item in value if isinstance(value, tuple) else sorted(value, key=repr):
            yield from _value_parts(item, name, within)
    elif _hashable(value) and value in CALLABLE:
        yield f"mathematics {CALLABLE[value]}".encode()
    elif _hashable(value) and (value in _BUILTINS or value in _DTYPES):
        yield f"known {value.__name__}".encode()
    elif isinstance(getattr(value, "py_func", value), FunctionType):
        yield b"function"
        yield from _parts(python_function(value), within)
    else:
        raise SourceError(f"{name}: {_refusal(value)}")


def _hashable(value: Any) -> bool:
    return isinstance(value, (BuiltinFunctionType, np.ufunc, type))


def _refusal(value: Any) -> str:
    if isinstance(value, ModuleType):
        return f"the module {value.__name__} as a value; take the function that you need from it"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}[{value.size}]; expected numbers, at most {_MOST_ELEMENTS}"
    if isinstance(value, (BuiltinFunctionType, np.ufunc)):
        return f"{value.__name__} has no kernel code; expected one of {', '.join(MATHEMATICS)}"
    return (
        f"{type(value).__name__}: expected numbers, arrays, tuples of them or functions of such; a change to anything "
        "else would go unnoticed, and old machine code would run"
    )


def _references(function: FunctionType) -> list[_Reference]:
    """The values that a function takes from outside, each once."""
    closure = function.__closure__ or ()
    enclosed = dict(zip(function.__code__.co_freevars, closure))
    found: dict[tuple[str, str], _Reference] = {}
    for operation, name, attribute in _loads(function.__code__):
        if operation == "LOAD_GLOBAL":
            value = _global(function, name)
        elif name in enclosed:
            try:
                value = enclosed[name].cell_contents
            except ValueError:
                raise SourceError(f"{name} has no value yet where the operator is registered") from None
        else:
            continue  # a variable of the function around an inner one
        if not isinstance(value, ModuleType):
            attribute = ""
        elif attribute:
            if not hasattr(value, attribute):
                raise SourceError(f"{name}.{attribute}: the module {value.__name__} has no such name")
            value = getattr(value, attribute)
        found[name, attribute] = _Reference(name, attribute, value, operation != "LOAD_GLOBAL")
    return list(found.values())


def _global(function: FunctionType, name: str) -> Any:
    if name in function.__globals__:
        return function.__globals__[name]
    if hasattr(builtins, name):
        return getattr(builtins, name)
    raise SourceError(f"{name} has no value yet where the operator is registered")


def _loads(code: CodeType) -> Iterator[tuple[str, str, str]]:
    """Operation, name and, where one is taken from it, attribute of every load from outside, inner functions' too."""
    instructions = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
    for instruction, following in zip(instructions, [*instructions[1:], instructions[-1]]):
        operation = instruction.opname
        if operation in _REFUSED:
            raise SourceError(f"{_REFUSED[operation]} (in {code.co_name})")
        if operation in ("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF"):
            attribute = following.argval if following.opname in ("LOAD_ATTR", "LOAD_METHOD") else ""
            yield operation, str(instruction.argval), attribute
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loads(constant)
