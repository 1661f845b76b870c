"""Numerical kernels: pure functions of numpy arrays, no clock, file, log or global randomness."""
