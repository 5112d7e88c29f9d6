"""Readers of model files, one module per format; they read bytes, check them, and execute nothing."""
