"""Arithmetic on whole tensors, and copies between layouts."""
