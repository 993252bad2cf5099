"""Make and fix datasets."""
