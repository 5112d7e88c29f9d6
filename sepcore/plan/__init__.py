"""From a graph to a program: kernel rows, packed weights, memory; no files, no running.

Importing this imports no planner: what runs a program takes some of its modules, and must start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepcore.plan.planner import plan, unsupported
    from sepcore.plan.program import Program
    from sepcore.plan.shapes import for_one_image, plan_at
    from sepcore.plan.tuned import tuned_rows
    from sepcore.plan.weights import WeightStore

__all__ = ["Program", "WeightStore", "for_one_image", "plan", "plan_at", "tuned_rows", "unsupported"]

_HOMES = {
    "Program": "program",
    "WeightStore": "weights",
    "for_one_image": "shapes",
    "plan": "planner",
    "plan_at": "shapes",
    "tuned_rows": "tuned",
    "unsupported": "planner",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
