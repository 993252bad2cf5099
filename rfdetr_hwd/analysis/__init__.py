"""What detections and labels get wrong: error types, calibration, object sizes, worst images, label errors."""
