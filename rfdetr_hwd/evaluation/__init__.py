"""Measuring a model: one pass over a split, COCO metrics."""
