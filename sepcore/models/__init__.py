"""Network families: a state dict in, the graph of the network it belongs to out; no kernels, no plans."""

from __future__ import annotations

from sepcore.models.recognition import FamilyRow, Recognised, families, recognise

__all__ = ["FamilyRow", "Recognised", "families", "recognise"]
