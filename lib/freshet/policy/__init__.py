"""Decisions as pure functions: metrics in, a decision with its reason and its evidence out."""
