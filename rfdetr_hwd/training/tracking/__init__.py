"""Experiment trackers of others behind the protocol of `rfdetr_hwd.training.trackers`."""
