"""Build the HTML page of an audit: likely label errors with pictures, small objects, differences of the splits."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rfdetr_hwd.analysis.audit import BADLY_PLACED, DUPLICATE, OVERLOOKED, SUGGESTION_KINDS, SWAPPED, Suggestion
from rfdetr_hwd.analysis.split_distance import LEAST_DISTANCE, LEVEL, PERMUTATIONS
from rfdetr_hwd.console import digits
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.images import ImageError
from rfdetr_hwd.report.audit import Audit, AuditInputs, Ranked, lead, overview
from rfdetr_hwd.report.page import Picture, Section, Table, build_page
from rfdetr_hwd.report.small_objects import SMALLEST_SIDE
from rfdetr_hwd.report.suggestion_pictures import LEGEND, draw_suggestion

_NUM_SHOWN = 12  # suggestions that are seen without a click
_QUALITY = 80

_KINDS = {
    OVERLOOKED: ("a detection at the place of no annotation", "confidence * (1 - highest IoU with an annotation)"),
    SWAPPED: ("a detection of another class at the place of an annotation", "confidence * (1 - agreement)"),
    BADLY_PLACED: (
        "an annotation that is not found, and a detection of its class with an IoU from 0.1 to 0.5",
        "confidence * (1 - agreement) * (1 - IoU with another annotation)",
    ),
    DUPLICATE: ("two annotations of one class with an IoU of 0.8 or more; needs no model", "IoU"),
}
"""What is seen of each kind, and its score."""


def build_audit_page(inputs: AuditInputs, found: Audit, limit: int) -> str:
    """Return the page as HTML.

    Args:
        inputs: What was audited.
        found: What was found.
        limit: Largest number of suggestions that are shown with a picture.
    """
    header, rows = overview(inputs, found)
    sections = [
        Section("Overview", tables=[Table(header, rows, numeric=("AP of the model",))]),
        _suggestions(found.suggestions, limit),
        _scores(),
        _small_objects(inputs, found),
        _differences(found),
        _protocol(inputs),
    ]
    text = "A suggestion is a question, not a finding: look at the picture. "
    if any(judge.has_trained for split in inputs.splits for judge in split.judges):
        text += (
            "A model agrees with the mistakes of its own training images, so it finds fewer of them there than in "
            "images that it was not trained on. To judge these images by models that were not trained on them, repeat "
            "the audit with --folds 5."
        )
    else:
        text += "Each image was judged by a model that was not trained on it."
    return build_page(f"Label audit: {Path(inputs.protocol['data']).name}", text, sections, lead(inputs, found))


def describe(ranked: Ranked) -> str:
    """Return what a suggestion is about: rank, kind, classes, score; the file; the boxes."""
    one, data = ranked.suggestion, ranked.split.data
    row = int(np.flatnonzero(data.image_ids == one.image_id)[0])
    names = dict(zip(data.category_ids, data.class_names, strict=True))
    judge = f", judged by {ranked.split.judge_of(one.image_id).name}" if len(ranked.split.judges) > 1 else ""
    lines = [
        f"{ranked.rank}. {_name(one, names)}, score {one.score:.2f}",
        f"{ranked.split.role}: {data.file_names[row]}{judge}",
    ]
    for label, what in ((one.old, "annotated"), (one.new, "suggested")):
        if label is not None:
            confidence = f", confidence {one.confidence:.2f}" if label is one.new else ""
            x, y, width, height = (f"{value:.0f}" for value in label.box_xywh)
            lines.append(f"{what}: {names[label.category_id]}, {width} x {height} at {x}, {y}{confidence}")
    return "\n".join([*lines, "suggested: remove it"] if one.new is None else lines)


def _name(one: Suggestion, names: Mapping[int, str]) -> str:
    old, new = (names[label.category_id] if label else "" for label in (one.old, one.new))
    return f"{one.kind}: {old} annotated, {new} detected" if one.kind == SWAPPED else f"{one.kind}: {old or new}"


def _suggestions(ranked: Sequence[Ranked], limit: int) -> Section:
    """Return the section of the first suggestions. An image that cannot be read is named in the text."""
    pictures, failed = [], []
    for one in ranked[:limit]:
        try:
            pictures.append(_draw(one))
        except ImageError as error:
            failed.append(str(error))
    if not ranked:
        return Section("Suggestions", "There is none.")
    text = (
        f"The first {min(limit, len(ranked))} of {len(ranked):,} by score: the whole image, and the place in question. "
        "The COCO files beside this page hold all of them."
    )
    if failed:
        text += f" Without a picture: {len(failed)}, the first: {failed[0]}."
    return Section(
        "Suggestions",
        text,
        pictures=pictures[:_NUM_SHOWN],
        more=pictures[_NUM_SHOWN:],
        legend=LEGEND if pictures else (),
    )


def _draw(ranked: Ranked) -> Picture:
    one, data = ranked.suggestion, ranked.split.data
    row = int(np.flatnonzero(data.image_ids == one.image_id)[0])
    rows = range(int(data.offsets[row]), int(data.offsets[row + 1]))
    others = [data.boxes_xywh[index].tolist() for index in rows if index not in (one.annotation, one.twin)]
    twin = None if one.twin is None else data.boxes_xywh[one.twin].tolist()
    drawn = draw_suggestion(data.read(row), one, others, twin)
    return Picture(drawn, describe(ranked), is_photo=True, quality=_QUALITY)


def _scores() -> Section:
    text = (
        "At the place of an annotation: an IoU of 0.5 or more. The agreement of an annotation is the highest "
        "confidence of a detection of its class at its place, 0 without one. An annotation is found if the agreement "
        "reaches the threshold. Scores rank; they are no probabilities."
    )
    rows = [(kind, *_KINDS[kind]) for kind in SUGGESTION_KINDS]
    return Section("Scores", text, [Table(("kind", "what is seen", "score"), rows)])


def _small_objects(inputs: AuditInputs, found: Audit) -> Section:
    size = f"{SMALLEST_SIDE} pixels at the model's input of {inputs.resolution} pixels"
    if not found.small:
        return Section("Small objects", f"No object has a side under {size}.")
    splits: dict[str, DetectionData] = {split.role: split.data for split in inputs.splits}
    rows = [
        (
            one.split,
            one.class_name,
            one.of,
            one.number,
            f"{one.number / one.of:.1%}",
            f"{one.smallest[0]:.1f} x {one.smallest[1]:.1f}",
            str(splits[one.split].file_names[one.image]),
        )
        for one in found.small
    ]
    fraction, smallest = "fraction", "the smallest, pixels at the input"
    header = ("split", "class", "objects", "small", fraction, smallest, "its image")
    text = f"Objects whose shorter side is under {size}. A higher model.resolution may help, or tiles of the images."
    return Section("Small objects", text, [Table(header, rows, numeric=(fraction, smallest))])


def _differences(found: Audit) -> Section:
    if not found.differences:
        return Section("Splits", "There is no other split with objects to compare with.")
    rows = [
        (
            " and ".join(one.names),
            one.what,
            "differs" if one.is_real else "not shown to differ",
            *one.values,
            f"{one.distance:.3f}",
            f"{one.p_value:.3f}",
        )
        for one in found.differences
    ]
    text = (
        f"Splits differ where the distance is {LEAST_DISTANCE} or more and the p-value is below {LEVEL}. The distance "
        "is that of Kolmogorov and Smirnov, for classes the total variation distance (half the sum of the "
        f"differences), whose largest term is shown. The p-value comes from {PERMUTATIONS:,} permutations of whole "
        "images between the splits, adjusted by Holm's method for all rows."
    )
    numeric = ("distance", "p-value")
    header = ("splits", "property", "verdict", "of the first", "of the second", *numeric)
    return Section("Splits", text, [Table(header, rows, numeric=numeric)])


def _protocol(inputs: AuditInputs) -> Section:
    rows = [
        (
            split.role,
            judge.name,
            len(judge.image_ids),
            "yes" if judge.has_trained else "no",
            digits(judge.ap, 3),
            judge.weights,
            judge.step,
            judge.checkpoint,
        )
        for split in inputs.splits
        for judge in split.judges
    ]
    header = ("split", "model", "images", "trained on them", "AP", "weights", "step", "checkpoint")
    text = "Which model judged which images, and how. The AP of a split with several models is the mean of theirs."
    return Section("Protocol", text, [Table(header, rows, numeric=("AP",)), _table(inputs.protocol)])


def _table(values: Mapping[str, Any]) -> Table:
    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in values.items()]
    return Table(("key", "value"), rows)
