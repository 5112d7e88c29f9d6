"""From a graph to a program: kernel rows, packed weights, memory; no files, no running."""

from __future__ import annotations

from sepcore.plan.planner import plan, unsupported
from sepcore.plan.program import Program
from sepcore.plan.shapes import for_one_image, plan_at
from sepcore.plan.tuned import tuned_rows
from sepcore.plan.weights import WeightStore

__all__ = ["Program", "WeightStore", "for_one_image", "plan", "plan_at", "tuned_rows", "unsupported"]
