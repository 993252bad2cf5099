"""Export to stock RF-DETR and the formats of its exporter, with verified parity; the speed of what is shipped."""
