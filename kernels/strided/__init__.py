"""Copies and functions of single elements over tensors of any strides."""
