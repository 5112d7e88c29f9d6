"""Pooling over the windows of a map."""
