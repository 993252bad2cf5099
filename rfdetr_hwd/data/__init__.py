"""Datasets: find and read them, prepare images, serve batches."""
