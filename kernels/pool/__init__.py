"""Pooling over a map."""
