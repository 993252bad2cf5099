"""Pascal VOC annotation files."""
