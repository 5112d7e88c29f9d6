"""Say in one line where the exporter found an operation: the module, and the line of source.

It must not hand out more than a line, nor anything unprintable.
"""

from __future__ import annotations

import re

from sepcore.formats.torch_export.fields import Field

_LONGEST = 200
_LONGEST_TRACE = 20_000
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+), in (\S+)(?:\n[ \t]*([^\n]*))?')
_FRAMEWORK = re.compile(r"(^|[/\\])torch[/\\]")
_MADE_UP = "_empty_nn_module_stack_from_metadata_hook"


def origin(metadata: Field) -> str:
    """The module's path and the innermost line of the user's code; "" where neither is recorded."""
    module = _module(_recorded(metadata, "nn_module_stack"))
    line = _line(_recorded(metadata, "stack_trace"))
    text = ", ".join(part for part in (module, line) if part)
    text = "".join(letter if letter.isprintable() else " " for letter in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _recorded(metadata: Field, name: str) -> str:
    """The end of a record: the innermost module and frame come last."""
    found = metadata.optional(name)
    if found is None:
        return ""
    if not isinstance(found.value, str):
        raise found.error("a text")
    return found.value[-_LONGEST_TRACE:]


def _module(stack: str) -> str:
    """The path in the last of the entries ``key,path,class``; the key may hold commas, path and class do not."""
    entry = stack.rpartition(";")[2].rsplit(",", 2)
    return entry[1] if len(entry) == 3 and entry[1] != _MADE_UP else ""


def _line(trace: str) -> str:
    """The innermost frame that is not PyTorch's own, with its code."""
    frames = _FRAME.findall(trace)
    own = [frame for frame in frames if not _FRAMEWORK.search(frame[0])] or frames
    if not own:
        return ""
    path, number, function, code = own[-1]
    where = f"{path}:{number} in {function}"
    return f"{where}: {code.strip()}" if code.strip() else where
