"""Dense convolution: the first layer, and the general case."""
