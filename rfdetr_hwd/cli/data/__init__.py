"""The verbs of `rfdetr-hwd data`."""
