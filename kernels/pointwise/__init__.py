"""Pointwise (1x1) convolution and linear layers: C = activation(A B + bias + residual)."""
