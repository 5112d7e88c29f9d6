"""Pointwise convolution of large layers by Strassen's algorithm: seven products of halves where there were eight."""
