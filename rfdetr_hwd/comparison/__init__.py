"""Compare two arms of runs: paired differences, their intervals, and verdicts."""
