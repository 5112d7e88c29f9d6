"""The intermediate representation: graph, operators, verifier, reference interpreter; no files, no kernels."""
