"""Operators of other libraries that users have registered.

It must not know any of them.
"""

from __future__ import annotations

from sepcore.formats.torch_export.call import AtenCall, UnsupportedError, Value
from sepcore.formats.torch_export.ops.row import Row
from sepcore.ir.ops import custom
from sepcore.ir.ops.attributes import INT


def users_row(target: str) -> Row | None:
    """The row of the user's operator that is called ``target``, such as ``mylib.op.default``, if one is registered."""
    library, _, rest = target.partition(".")
    name, _, overload = rest.partition(".")
    user = custom.named(f"{library}::{name}.{overload}", *([f"{library}::{name}"] if overload == "default" else []))
    if user is None:
        return None
    operator = user.operator

    def row(call: AtenCall) -> Value:
        # The library's names for tensors need not be those of the user's function; attributes go by name.
        names = list(call.node.arguments)
        tensors, rest = names[: len(operator.inputs)], names[len(operator.inputs) :]
        for name in rest:
            if name not in operator.attributes:
                raise UnsupportedError(f"argument '{name}' is no attribute of the registered function")
        if len(tensors) < len(operator.inputs):
            raise call.error("arguments", f"{len(operator.inputs)} tensors", str(len(tensors)))
        attributes = {
            name: (call.integer if attribute.kind is INT.kind else call.number)(name, attribute.default)
            for name, attribute in operator.attributes.items()
        }
        return call.emit(operator.name, *map(call.operand, tensors), **attributes)

    return row
