"""The verbs of `rfdetr-hwd benchmark`."""
