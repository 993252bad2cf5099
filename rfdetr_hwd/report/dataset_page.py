"""Build the HTML page of a dataset: tables of statistics, sheets of images, plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.report import dataset
from rfdetr_hwd.report.lettering import drawable_names
from rfdetr_hwd.report.objects import Objects, count_sizes
from rfdetr_hwd.report.page import Picture, Section, Table, build_page
from rfdetr_hwd.report.plots import render

_CAPTIONS = {
    "labels": "How many objects each class has.",
    "sides": "Each object's square root of box area, on a logarithmic scale. The dashed lines are COCO's boundaries "
    "between small, medium and large objects, 32 and 96 pixels.",
    "input-sides": "The same for the images as they are resized to the model's input, before augmentation.",
    "relative-sizes": "The same sizes relative to the image.",
    "positions": "Where the centres of the boxes lie, over all images.",
    "aspect-ratios": "Width over height of each box, on a logarithmic scale.",
    "objects-per-image": "How many objects the images have; images without objects are background.",
    "image-sizes": "Width and height of the images as annotated.",
}


@dataclass(frozen=True)
class DatasetFacts:
    """Texts about a split.

    Attributes:
        name: Names of the dataset and the split.
        directory: Directory of the images.
        view: Description of the preprocessing.
        findings: Kind, level, count, effect and an example of each kind of finding.
        skipped: Reasons why images of the random sample are not shown.
    """

    name: str
    directory: str
    view: str
    findings: Sequence[tuple[str, str, int, str, str]] = ()
    skipped: Sequence[str] = ()


def draw_plots(objects: Objects, input_sides: NDArray[np.float64]) -> dict[str, Picture]:
    """Return the plots by the names of their files.

    Args:
        objects: The objects of a split.
        input_sides: Shape (M,), from `Objects.input_sides`.
    """
    plots = {
        "labels": dataset.plot_labels(objects),
        "sides": dataset.plot_sides(objects),
        "input-sides": dataset.plot_input_sides(input_sides),
        "relative-sizes": dataset.plot_relative_sizes(objects),
        "positions": dataset.plot_positions(objects),
        "objects-per-image": dataset.plot_per_image(objects),
        "aspect-ratios": dataset.plot_aspect_ratios(objects),
        "image-sizes": dataset.plot_image_sizes(objects),
    }
    return {name: Picture(render(figure), _CAPTIONS[name]) for name, figure in plots.items()}


def build_dataset_page(
    facts: DatasetFacts,
    objects: Objects,
    input_sides: NDArray[np.float64],
    pictures: Mapping[str, Picture],
) -> str:
    """Return the page as HTML.

    Args:
        facts: Texts about the split.
        objects: Its objects.
        input_sides: Shape (M,), from `Objects.input_sides`.
        pictures: The plots of `draw_plots`, and sheets of images under `images-01`, ... and `model-01`, ...
    """

    def named(*starts: str) -> list[Picture]:
        return [picture for name, picture in pictures.items() if name.startswith(starts)]

    # Arrange the sections
    sections = [
        Section("Overview", tables=[_overview(objects)]),
        Section("Images", "A random sample, which --seed determines.", pictures=named("images-")),
        Section("Model input", facts.view, pictures=named("model-")),
        Section("Labels", tables=[_class_table(objects, input_sides)], pictures=named("labels")),
        Section("Object sizes", pictures=named("sides", "input-sides", "relative-sizes")),
        Section("Positions and shapes", pictures=named("positions", "aspect-ratios")),
        Section("Images and their objects", pictures=named("objects-per-image", "image-sizes")),
    ]

    # Put the findings and the skipped images, if any, after the overview
    if facts.findings:
        text = "Problems of the annotations and their effects. `rfdetr-hwd data check` lists all of them."
        table = Table(("kind", "level", "number", "effect", "example"), facts.findings)
        sections.insert(1, Section("Findings", text, tables=[table]))
    if facts.skipped:
        table = Table(("reason",), [(reason,) for reason in facts.skipped])
        text = f"{len(facts.skipped)} images of the random sample cannot be read."
        sections.insert(1, Section("Skipped images", text, tables=[table]))
    return build_page(f"Dataset: {facts.name}", facts.directory, sections)


def _overview(objects: Objects) -> Table:
    small, medium, large = count_sizes(objects.sides)
    heights, widths = (_span(values) for values in objects.image_sizes.T)
    num_images = len(objects.image_sizes)
    most, empty = int(objects.per_image.max()), int((objects.per_image == 0).sum())
    rows = [
        ("images", f"{num_images:,}, of which {empty:,} without objects"),
        ("objects", f"{len(objects):,}, on average {len(objects) / num_images:.1f} per image, at most {most:,}"),
        ("annotations ignored in training", f"{objects.num_ignored:,} (crowd regions, and boxes without area)"),
        ("classes", f"{len(objects.class_names):,}, of which {int((objects.per_class == 0).sum()):,} without objects"),
        ("small, medium, large objects", f"{small:,}, {medium:,}, {large:,} (boundaries 32 and 96 pixels)"),
        ("images on disk", f"width {widths}, height {heights} pixels"),
    ]
    return Table(("statistic", "value"), rows)


def _class_table(objects: Objects, input_sides: NDArray[np.float64]) -> Table:
    """Return a row per class: objects, images, median sizes."""
    rows = []
    drawn = drawable_names(objects.class_names)
    for label, name in enumerate(objects.class_names):
        mine = objects.labels == label
        images = len(np.unique(objects.image_rows[mine]))
        medians = _median(objects.sides[mine]), _median(input_sides[mine])
        shown = name if drawn[label] == name else f"{drawn[label]} {name}"  # as it is called in the pictures
        rows.append((shown, int(mine.sum()), images, *medians))
    header = ("class", "objects", "images with it", "median size, pixels on disk", "at the model's input")
    return Table(header, rows)


def _median(values: NDArray[np.float64]) -> int | None:
    return round(float(np.median(values))) if len(values) else None


def _span(values: NDArray[np.int64]) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
