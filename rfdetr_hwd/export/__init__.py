"""Export to stock RF-DETR and the formats of its exporter, with verified numerical parity."""
