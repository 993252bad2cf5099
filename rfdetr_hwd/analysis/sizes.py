"""Metrics by the size that objects have when the model sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.average_precision import precision_by_class
from rfdetr_hwd.analysis.overlaps import Overlaps
from rfdetr_hwd.evaluation.matching import Matches


@dataclass(frozen=True)
class Sizes:
    """Square roots of box areas in pixels of the model's input.

    Attributes:
        objects: Of each object of `Overlaps`, shape (G,).
        detections: Of each detection of `Matches`, shape (N,).
    """

    objects: NDArray[np.float64]
    detections: NDArray[np.float64]


@dataclass(frozen=True)
class SizeBin:
    """Metrics of the objects of one range of sizes.

    Attributes:
        low: Smallest size in model pixels.
        high: Where the next range begins; for the last range the largest size.
        num_objects: Number of objects.
        recall: Fraction of them that are found at IoU 0.5, by a detection of any score.
        ap: AP over IoU 0.50:0.95, the mean over the classes of these objects.
    """

    low: float
    high: float
    num_objects: int
    recall: float
    ap: float


def read_image_sizes(ground_truth: Mapping[str, Any], matches: Matches) -> NDArray[np.int64]:
    """Return height and width of each image of `matches`, shape (I, 2)."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in ground_truth["images"]}
    return np.array([sizes[image] for image in matches.image_ids.tolist()], np.int64).reshape(-1, 2)


def measure_sizes(
    matches: Matches,
    overlaps: Overlaps,
    image_sizes: NDArray[np.int64],
    resolution: int | None,
    resize: Literal["stretch", "letterbox"],
) -> Sizes:
    """Return the sizes of objects and detections in model pixels.

    Args:
        matches: Matches of the run.
        overlaps: Their overlaps.
        image_sizes: Height and width of each image, shape (I, 2).
        resolution: Width and height of the model's input in pixels; `None`: sizes are in pixels of the image.
        resize: Whether images are stretched to a square, or keep their aspect ratio.
    """
    image_sizes = image_sizes.astype(np.float64)
    sides = np.sqrt(image_sizes.prod(axis=1)) if resize == "stretch" else image_sizes.max(axis=1)
    scale = np.ones(len(sides)) if resolution is None else resolution / sides

    def sizes(boxes_xywh: NDArray[np.float64], image: NDArray[Any]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = np.sqrt(boxes_xywh[:, 2:].clip(0).prod(axis=1)) * scale[image]
        return result

    objects = overlaps.objects
    return Sizes(sizes(objects.boxes_xywh, objects.image), sizes(overlaps.boxes_xywh, matches.image))


def metrics_by_size(matches: Matches, overlaps: Overlaps, sizes: Sizes, num_bins: int = 10) -> list[SizeBin]:
    """Return metrics by deciles of object size.

    As for COCO's area ranges, a detection that finds an object of another range is ignored, and one that finds nothing
    counts in the range of its own size. Other than there, matches stay those of all sizes: an object is not matched
    again by another detection because the range excludes its own. So the objects found add up over the ranges.

    Args:
        matches: Matches of the run.
        overlaps: Their overlaps.
        sizes: Sizes of objects and detections.
        num_bins: Largest number of ranges. Equal sizes share a range, so there can be fewer.

    Returns:
        Ranges from small to large; none without objects.
    """
    num_objects, num_classes = len(sizes.objects), len(matches.category_ids)
    if not num_objects:
        return []
    lows = np.unique(np.sort(sizes.objects)[np.arange(num_bins) * num_objects // num_bins])
    highs = np.append(lows[1:], sizes.objects.max())
    object_bin, own_bin = _bin(sizes.objects, lows), _bin(sizes.detections, lows)

    # The range in which each detection counts, at each IoU threshold; -1: in none.
    ignored, is_true = matches.ignored[0], matches.matched[0] & ~matches.ignored[0]
    counted_bin = np.where(ignored, -1, own_bin)
    lane, detection = np.nonzero(is_true)
    found = overlaps.objects.rows(matches.ground_truth[lane, detection])
    counted_bin[lane, detection] = object_bin[found]
    is_found = np.zeros(num_objects, bool)
    is_found[found[lane == 0]] = True

    bins = []
    for row, (low, high) in enumerate(zip(lows, highs, strict=True)):
        is_counted = counted_bin == row
        rows = np.flatnonzero(is_counted.any(axis=0))
        is_counted = is_counted[:, rows]
        in_bin = object_bin == row
        per_class = np.bincount(overlaps.objects.category[in_bin], minlength=num_classes)
        curves = precision_by_class(matches.category[rows], is_true[:, rows] & is_counted, is_counted, per_class)
        ap = float(curves[per_class > 0].mean())
        bins.append(SizeBin(float(low), float(high), int(in_bin.sum()), float(is_found[in_bin].mean()), ap))
    return bins


def _bin(sizes: NDArray[np.float64], lows: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the range of each size. Sizes below the first range belong to it."""
    return np.maximum(np.searchsorted(lows, sizes, side="right") - 1, 0)
