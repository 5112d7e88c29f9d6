"""Pointwise convolution with fewer multiplications: pairs of products as one product of sums."""
