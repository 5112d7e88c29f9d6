"""Activation functions: codes for steps, vector code for epilogues, numpy twins."""
