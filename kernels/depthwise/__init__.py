"""Depthwise convolution: every channel filtered by itself, channels on the vector lanes."""
