"""The loops. They know tensors; they know neither COCO nor RF-DETR nor the configuration."""
