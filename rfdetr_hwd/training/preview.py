"""Read a split as a run of a configuration would read it, without a run."""

from contextlib import suppress
from dataclasses import replace

from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.augmentation import Augmentation
from rfdetr_hwd.data.dataset import DetectionDataset
from rfdetr_hwd.data.decoding_threads import measure_split
from rfdetr_hwd.data.detect import read_options
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.data.layout import Layout
from rfdetr_hwd.data.read import scan_split
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.training.validation_split import hold_out, refuse_val_split


def scan_as_run(config: Config, layout: Layout, role: Role, findings: Findings) -> DetectionData:
    """Return a split: the dataset's own, or that part of the training images.

    Args:
        config: The configuration.
        layout: The dataset.
        role: Role of the split.
        findings: Receives the problems of the split.

    Raises:
        ConfigError: Images are to be held out, but the dataset has a validation split.
        DatasetError: The split cannot be read or divided.
    """
    if config.data.val_fraction is None or role == "test":
        data = scan_split(layout.split(role), findings, read_options(config.data))
    else:
        refuse_val_split(layout, config.data)
        parts = hold_out(scan_split(layout.split("train"), findings, read_options(config.data)), config.data, None)
        data = parts.train if role == "train" else parts.val
    return replace(data, options=_find_options(config, layout, data, role))


def _find_options(config: Config, layout: Layout, data: DetectionData, role: Role) -> ReadOptions:
    """Return how a run of the configuration would read images. Its training split decides the bit depth."""
    if config.data.bit_depth != "auto":
        return read_options(config.data)
    if role != "train":
        with suppress(DatasetError):  # the dataset may have no training split
            data = scan_split(layout.split("train"), Findings(), read_options(config.data))
    return replace(read_options(config.data), bit_depth=measure_split(data, config.train.seed).bit_depth)


def preview_dataset(config: Config, data: DetectionData, role: Role) -> DetectionDataset:
    """Return the dataset that the data loader would read. Training images are augmented."""
    augmentation = Augmentation.of_run(config.data.augment, config.train.seed, config.train.epochs)
    return DetectionDataset(data, augmentation if role == "train" else None, config.model.resize)


def find_resolution(config: Config) -> int:
    """Return the configured resolution, or else the variant's own."""
    if config.model.resolution:
        return config.model.resolution
    from rfdetr_hwd.model.rfdetr import build_stock_model  # late: it takes seconds

    return build_stock_model(config.model.variant, 1, doubled_stem=config.downsample.site == "stem").resolution
