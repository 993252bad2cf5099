"""Detect objects in images and videos: sources, frames, and the files about what was found."""
