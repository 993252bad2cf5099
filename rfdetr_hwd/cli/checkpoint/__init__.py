"""The verbs of `rfdetr-hwd checkpoint`."""
