"""What the tables of operators are made of.

It must not know any operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sepcore.formats.torch_export.call import AtenCall, Value

Row = Callable[[AtenCall], "Value | Sequence[Value | None]"]
"""What an operator becomes: from a call to its outputs; None, or nothing at the end, for those not computed."""

Rows = Mapping[str, Row]
"""Operators by name and overload."""
