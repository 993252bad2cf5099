"""The process: ranks, signals, memory, reproducibility, environment."""
