"""Sheets of images as stored on disk beside the input of the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.batch import Failure
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.images import ImageError, ReadOptions
from rfdetr_hwd.report.page import Picture
from rfdetr_hwd.report.samples import Sample, draw_sheet

EPOCHS = 4
"""Epochs in which the training images are shown."""

_MAX_SKIPPED = 50  # images that cannot be read before no further one is tried
_ROWS = 6  # images down a sheet
_CELL_SIZE = 272  # pixels of a cell
_PAIRS = ["on disk", "model's input"] * 2


@dataclass(frozen=True)
class View:
    """One image as stored on disk, and as the model input of one epoch or several."""

    on_disk: Sample
    by_model: tuple[Sample, ...]


def read_views(dataset: DetectionDataset, resolution: int, count: int, seed: int) -> tuple[list[View], list[str]]:
    """Return a random sample of images, and the reasons why unreadable ones were replaced by others.

    Args:
        dataset: The dataset as read by training or evaluation.
        resolution: Of the model, in pixels.
        count: Images to return, fewer where there are no more.
        seed: Of the choice.
    """
    views: list[View] = []
    skipped: list[str] = []
    for row in np.random.default_rng(seed).permutation(len(dataset.data)).tolist():
        if len(views) == count or len(skipped) == _MAX_SKIPPED:
            break
        try:
            views.append(_read_view(dataset.data, dataset, row, resolution))
        except ImageError as error:
            skipped.append(str(error))
    return views, skipped


def _read_view(data: DetectionData, dataset: DetectionDataset, row: int, resolution: int) -> View:
    """Read an image once for each way it is shown.

    Raises:
        ImageError: It cannot be read.
    """
    epochs = range(EPOCHS if dataset.augmentation is not None else 1)
    by_model = tuple(sample_as_seen(dataset, SampleKey(row, epoch, resolution)) for epoch in epochs)
    boxes_xyxy, labels = data.objects(row)
    return View(Sample(data.read(row), boxes_xyxy.astype(np.float64), labels, str(data.file_names[row])), by_model)


def sample_as_seen(dataset: DetectionDataset, key: SampleKey) -> Sample:
    """Return the model input of a key as a picture, before the normalisation and with boxes in pixels.

    Raises:
        ImageError: The image cannot be read.
    """
    batch = dataset[key]
    if isinstance(batch, Failure):
        raise ImageError(batch.reason)
    centres, extents = (batch.packed.boxes.double() * key.resolution).numpy().reshape(-1, 2, 2).swapaxes(0, 1)
    corners = np.concatenate([centres - extents / 2, centres + extents / 2], axis=1)
    labels = batch.packed.labels.numpy()
    number = f"{len(labels)} object" + ("" if len(labels) == 1 else "s")
    return Sample(PIL.Image.fromarray(batch.images[0].permute(1, 2, 0).numpy()), corners, labels, number)


def draw_views(views: Sequence[View], class_names: Sequence[str]) -> dict[str, Picture]:
    """Return sheets of the images on disk, and of each image beside its model inputs, by file name."""
    if not views:
        return {}

    # Arrange the columns: disk and epochs, or two pairs
    num_epochs = len(views[0].by_model)
    columns = ["on disk", *(f"epoch {epoch}" for epoch in range(num_epochs))] if num_epochs > 1 else _PAIRS
    on_disk = [[view.on_disk] for view in views]
    by_model = [[view.on_disk, *view.by_model] for view in views]

    # Draw as many sheets as it takes
    pictures = {}
    for name, groups, headings, caption in (
        ("images", on_disk, [""] * 4, "The images and their annotations as stored on disk."),
        ("model", by_model, columns, "Each image as stored on disk, and the input of the model."),
    ):
        step = _ROWS * len(headings) // len(groups[0])
        for start in range(0, len(groups), step):
            samples = [sample for group in groups[start : start + step] for sample in group]
            sheet = draw_sheet(samples, class_names, len(headings), _CELL_SIZE, headings if any(headings) else ())
            pictures[f"{name}-{start // step + 1:02d}"] = Picture(sheet, caption, is_photo=True)
    return pictures


def describe_views(settings: Config, resolution: int, is_augmented: bool, options: ReadOptions) -> str:
    """Return a description of the preprocessing and augmentation."""
    # Describe how any split is read
    fit = {"stretch": "stretched to", "letterbox": "fitted, with its aspect ratio, into"}[settings.model.resize]
    fitted = f"{fit} {resolution} x {resolution} pixels"
    deep = f" Values of 16-bit files are read as {options.bit_depth} bits." if options.bit_depth < 16 else ""
    deep += " EXIF orientations are not applied." if options.exif == "ignore" else ""
    if not is_augmented:
        return f"Each image is {fitted}. This split is not augmented.{deep}"

    # Describe the augmentation of the training split
    varied = " The resolution of each step varies around it (train.multi_scale)." if settings.train.multi_scale else ""
    parts = "; ".join(_describe_parts(settings.data.augment, settings.train.epochs)) or "none"
    return (
        f"The input of a {settings.model.variant} run with train.seed {settings.train.seed}. Each image is augmented "
        f"and {fitted}. Augmentation, preset {settings.data.augment.preset}: {parts}. It differs in each epoch."
        f"{varied}{deep}"
    )


def _describe_parts(augment: AugmentSection, epochs: int) -> Iterator[str]:
    """Yield each part of the augmentation that is on, with its probability."""
    until = f" in the first {augment.mixed_epochs(epochs)} of {epochs} epochs" if augment.unmixed_epochs else ""
    for probability, text in (
        (augment.mosaic, f"mosaic of four images{until}"),
        (augment.mixup, f"mixup with another image{until}"),
        (augment.scale, f"scale by {augment.min_scale:g} to {augment.max_scale:g}"),
        (augment.rotate, f"rotation by up to {augment.max_angle:g} degrees"),
        (augment.turn, "turn by 90, 180 or 270 degrees"),
        (augment.vertical_flip, "vertical flip"),
        (augment.flip, "horizontal flip"),
        (augment.crop, f"crop to at least {augment.min_crop:.0%} of width and height"),
        (augment.colour, "change of brightness, contrast, saturation and hue"),
    ):
        if probability:
            yield f"{text} (probability {probability:g})"
