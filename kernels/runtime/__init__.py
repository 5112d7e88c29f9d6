"""Native functions that walk programs, alone or with a pool of threads: they know steps, never operators."""
