"""What detections get wrong: error types, calibration, object sizes, worst images."""
