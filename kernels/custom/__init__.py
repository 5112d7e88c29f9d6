"""Kernels of users' own operators: functions that were written as Python and given to Numba."""
