"""What detections get wrong: error types, thresholds, calibration, object sizes, worst images."""
