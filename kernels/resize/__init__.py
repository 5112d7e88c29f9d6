"""Maps of another size, by tables of where each output pixel lies in the input."""
