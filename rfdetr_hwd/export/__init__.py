"""Export to stock RF-DETR and other formats, with verified parity; quantization with a gate; speed."""
