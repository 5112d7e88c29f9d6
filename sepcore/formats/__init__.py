"""Readers of model files, one module per format; they read bytes, check them, and execute nothing."""

from __future__ import annotations

from sepcore.formats.checkpoint import Checkpoint, read_checkpoint
from sepcore.formats.sniff import sniff

__all__ = ["Checkpoint", "read_checkpoint", "sniff"]
