"""Export to stock RF-DETR, ONNX, OpenVINO, ... and verify numerical parity."""
