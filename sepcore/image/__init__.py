"""Pictures in, tensors out: reading, resizing and normalising as in training; knows nothing about networks."""
