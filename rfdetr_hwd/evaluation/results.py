"""The files of an evaluation: metrics with their protocol, detections, and the ground truth they were measured on."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.amp import describe_precision
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import shown
from rfdetr_hwd.errors import UserError, writing
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.files import UntrustedFileError, read_json_list, replace_parts, replace_text

PREDICTIONS, METRICS, GROUND_TRUTH = "predictions.json", "metrics.json", "ground_truth.json"
"""Names of the files."""
MAX_RESULTS_BYTES = 2 << 30
"""Largest file of detections: 13 million of them."""
_ROW = '{"image_id": %d, "category_id": %d, "bbox": [%r, %r, %r, %r], "score": %r}'
_CHUNK = 10_000  # detections
_LARGEST_PIXEL = 1e9
"""Largest coordinate of a box: areas of larger ones overflow."""


class ResultsError(UserError):
    """A file of detections that cannot be read or does not fit the ground truth."""


def describe_protocol(evaluation: Evaluation, data: DetectionData) -> dict[str, Any]:
    """Return how metrics were measured: the metric, the images, the precision.

    Args:
        evaluation: The finished evaluation.
        data: The evaluated images.
    """
    return {
        **evaluation.metric.protocol,
        "images_unreadable": sorted(evaluation.unreadable),
        "data": str(data.images),
        "split": data.name,
        "bit_depth": data.options.bit_depth,
        "exif": data.options.exif,
        **describe_precision(evaluation.config, evaluation.device),
    }


def write_results(
    folder: Path,
    metrics: Mapping[str, float | None],
    protocol: Mapping[str, Any],
    detections: Detections,
    data: DetectionData,
) -> None:
    """Write `predictions.json`, `metrics.json` and `ground_truth.json`.

    Args:
        folder: Existing directory of the files.
        metrics: Metrics by name.
        protocol: Protocol of the metrics.
        detections: All detections, without NaN. They are written in COCO's results format.
        data: The evaluated images.

    Raises:
        ConfigError: A file cannot be written.
    """
    with writing("--out", folder):
        replace_parts(folder / PREDICTIONS, _results_text(detections))
        replace_text(folder / METRICS, json.dumps({"metrics": metrics, "protocol": protocol}, indent=2))
        replace_text(folder / GROUND_TRUTH, json.dumps(_describe_truth(data)))


def write_robustness(folder: Path, robustness: Mapping[str, Any]) -> None:
    """Add metrics on shifted and corrupted images to the `metrics.json` that was written before they were measured.

    Raises:
        ConfigError: The file cannot be written.
    """
    with writing("--out", folder):
        written = json.loads((folder / METRICS).read_text())
        replace_text(folder / METRICS, json.dumps({**written, "robustness": robustness}, indent=2))


def _results_text(detections: Detections) -> Iterator[str]:
    """Yield the parts of the JSON text of detections, as `json.dumps` writes it."""
    yield "["
    for start in range(0, len(detections), _CHUNK):
        part = detections[start : start + _CHUNK]
        columns = (part.image_ids, part.category_ids, *part.boxes_xywh.T, part.scores)
        yield ", " if start else ""
        yield ", ".join(map(_ROW.__mod__, zip(*(column.tolist() for column in columns), strict=True)))
    yield "]"


def _describe_truth(data: DetectionData) -> dict[str, Any]:
    """Return the split as a COCO annotation file, with the directory of its images."""
    truth = data.ground_truth()
    pairs = zip(truth["images"], data.file_names.tolist(), strict=True)
    return {**truth, "info": {"root": str(data.images)}, "images": [{**i, "file_name": str(name)} for i, name in pairs]}


def read_results(path: Path, ground_truth: Mapping[str, Any]) -> Detections:
    """Read detections in COCO's results format, of any detector.

    Args:
        path: JSON list of objects with `image_id`, `category_id`, `bbox` (xywh in pixels) and `score`.
        ground_truth: COCO dictionary whose images and categories the detections are of.

    Raises:
        ResultsError: The file cannot be read, a detection lacks a key or has an invalid value, or its image or
            category is not in the ground truth. The message names the first such detection by its place from 0.
    """
    try:
        entries = read_json_list(path, MAX_RESULTS_BYTES)
    except FileNotFoundError:
        raise ResultsError(f"there is no file of detections {path}") from None
    except UntrustedFileError as error:
        raise ResultsError(f"{path} is not a file of detections in COCO's results format: {error}") from None
    return Detections(
        _read_ids(path, entries, "image_id", "images", ground_truth),
        _read_ids(path, entries, "category_id", "categories", ground_truth),
        _read_column(path, entries, "bbox", _read_boxes, "[x, y, width, height] in pixels, the size not negative"),
        _read_column(path, entries, "score", _read_scores, "a number from 0 to 1"),
    )


def _read_ids(path: Path, entries: Sequence[Any], key: str, of: str, truth: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the ids of the detections, which the ground truth knows."""
    known = {entry["id"] for entry in truth[of]}
    ids = _read_column(path, entries, key, _read_whole, "a whole number")
    unknown = set(ids) - known
    if unknown:
        number, first = next((number, value) for number, value in enumerate(ids) if value in unknown)
        raise ResultsError(
            f"{path}: {key} {shown(first)} of detection {number} is not among the {len(known)} {of} of the ground "
            f"truth; unknown ids: {len(unknown)}. Give the annotations that the detections were made for"
        )
    return np.array(ids, np.int64)


def _read_column(path: Path, entries: Sequence[Any], key: str, read: Callable[[list[Any]], Any], form: str) -> Any:
    """Return one value of all detections. Whole columns are checked, which takes a tenth of checking each value.

    Args:
        path: The file, for messages.
        entries: The detections.
        key: Key of the value.
        read: Returns the column of a list of values; `None`: one of them is invalid.
        form: A valid value, for messages.

    Raises:
        ResultsError: A detection is no object, lacks the value or has an invalid one.
    """
    if set(map(type, entries)) <= {dict} and all(key in entry for entry in entries):
        column = read([entry[key] for entry in entries])
        if column is not None:
            return column
    for number, entry in enumerate(entries):
        if type(entry) is not dict:
            raise ResultsError(f"{path}: detection {number} must be an object, not {shown(entry)}")
        if key not in entry:
            raise ResultsError(f"{path}: detection {number} has no {key}. Its keys are {shown(', '.join(entry))}")
        if read([entry[key]]) is None:
            raise ResultsError(f"{path}: {key} of detection {number} must be {form}, not {shown(entry[key])}")
    raise AssertionError(f"a value of {key} is invalid among others only")


def _read_whole(values: list[Any]) -> list[int] | None:
    return values if set(map(type, values)) <= {int} else None


def _read_boxes(values: list[Any]) -> NDArray[np.float64] | None:
    """Return boxes (N, 4), or `None` if one is no list of four numbers, the size not negative."""
    if not set(map(type, values)) <= {list} or not set(map(len, values)) <= {4}:
        return None
    numbers = _read_numbers(list(itertools.chain.from_iterable(values)))
    if numbers is None or (np.abs(numbers) > _LARGEST_PIXEL).any() or (numbers.reshape(-1, 4)[:, 2:] < 0).any():
        return None
    return numbers.reshape(-1, 4)


def _read_scores(values: list[Any]) -> NDArray[np.float64] | None:
    """Return scores (N,), or `None` if one is no number from 0 to 1."""
    numbers = _read_numbers(values)
    return None if numbers is None or (numbers < 0).any() or (numbers > 1).any() else numbers


def _read_numbers(values: list[Any]) -> NDArray[np.float64] | None:
    """Return finite numbers (N,), or `None` if one is no such number."""
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        numbers = np.array(values, np.float64)
    except OverflowError:  # whole numbers of JSON have any length
        return None
    return numbers if np.isfinite(numbers).all() else None
