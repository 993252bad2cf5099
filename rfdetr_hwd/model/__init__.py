"""RF-DETR with a swapped downsampler: build, load, swap."""
