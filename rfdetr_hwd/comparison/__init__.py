"""Experiments and comparisons: arms, seeds, what matches, intervals, verdicts."""
