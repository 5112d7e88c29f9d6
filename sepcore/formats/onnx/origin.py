"""Find where an exporter says that a node comes from: a source line, a module, or the node's own name.

It must not interpret what it finds, nor hand out more than a line of it.
"""

from __future__ import annotations

import ast
import re
from typing import Any

_LONGEST = 200
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)|^(\S+\.py)\((\d+)\): (\S+)', re.MULTILINE)
"""A line of a stack trace, as the exporter through torch.export writes it, and as the one through TorchScript does."""

_FRAMEWORK = re.compile(r"(^|[/\\])torch[/\\]")


def origin(node: Any) -> str:
    """Where the exporter says that ``node`` (a NodeProto) comes from; "" where it says nothing.

    The exporter through torch.export keeps a stack trace and the names of modules in ``metadata_props``; the one
    through TorchScript a stack trace in ``doc_string`` (where it is asked to) and the module's name in the node's name.
    """
    recorded = {entry.key: entry.value for entry in node.metadata_props}
    module = _module(recorded) or node.name.rpartition("/")[0].strip("/")
    line = _line(recorded.get("pkg.torch.onnx.stack_trace", "") or node.doc_string)
    text = ", ".join(part for part in (module, line) if part) or node.doc_string.partition("\n")[0]
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _module(recorded: dict[str, str]) -> str:
    """The innermost module: the scopes are those of all modules around the node, and last the node's own."""
    text = recorded.get("pkg.torch.onnx.name_scopes", "")
    if not text:
        return ""
    try:
        scopes = ast.literal_eval(text) if len(text) < 10_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if isinstance(scopes, list) and len(scopes) > 1 and isinstance(scopes[-2], str):
        return scopes[-2]
    return ""


def _line(trace: str) -> str:
    """The innermost line of a stack trace that is not the framework's own."""
    if not trace:
        return ""
    frames = [(a or d, b or e, c or f) for a, b, c, d, e, f in _FRAME.findall(trace[:10_000])]
    if not trace.lstrip().startswith("File"):
        frames.reverse()
    own = [frame for frame in frames if not _FRAMEWORK.search(frame[0])] or frames
    return f"{own[-1][0]}:{own[-1][1]} in {own[-1][2]}" if own else ""
