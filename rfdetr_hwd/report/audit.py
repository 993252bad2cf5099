"""Everything that an audit of a dataset shows, computed once: for the page, for the files, for the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rfdetr_hwd.analysis.audit import SUGGESTION_KINDS, Suggestion, find_suggestions
from rfdetr_hwd.console import digits
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.report.judges import Judge, mean_ap
from rfdetr_hwd.report.objects import Objects, collect_objects
from rfdetr_hwd.report.small_objects import SMALLEST_SIDE, SmallObjects, count_small_objects
from rfdetr_hwd.report.split_differences import SplitDifference, compare_splits


class AuditError(UserError):
    """An audit that would say nothing."""


@dataclass(frozen=True)
class AuditedSplit:
    """A split with what was detected in it.

    Attributes:
        role: What it is for, by which it is called here.
        data: The split.
        detections: Detections in it.
        judges: The models that made them, at least one, each in other images.
    """

    role: Role
    data: DetectionData
    detections: Detections
    judges: Sequence[Judge]

    @property
    def ap(self) -> float | None:
        """AP of the model, the mean AP of several ones."""
        return mean_ap(self.judges)

    def judge_of(self, image_id: int) -> Judge:
        """Return the model that judged an image."""
        return next(judge for judge in self.judges if image_id in judge.image_ids)


@dataclass(frozen=True)
class AuditInputs:
    """What an audit is made of.

    Attributes:
        splits: At least one, of different roles.
        class_names: Classes that the model knows.
        threshold: Confidence threshold.
        resolution: Input resolution of the model in pixels.
        keeps_aspect: Whether images keep their aspect ratio (letterbox), instead of being stretched.
        protocol: What was audited with which model.
    """

    splits: Sequence[AuditedSplit]
    class_names: Sequence[str]
    threshold: float
    resolution: int
    keeps_aspect: bool
    protocol: Mapping[str, Any]


@dataclass(frozen=True)
class Ranked:
    """A suggestion with its place among all splits.

    Attributes:
        rank: From 1.
        split: Its split.
        suggestion: The suggestion.
    """

    rank: int
    split: AuditedSplit
    suggestion: Suggestion


@dataclass(frozen=True)
class Audit:
    """What an audit says.

    Attributes:
        suggestions: Likely label errors of all splits, by descending score.
        small: Objects that are too small for the model.
        differences: What the splits have in common, or not.
    """

    suggestions: list[Ranked]
    small: list[SmallObjects]
    differences: list[SplitDifference]

    def count(self, split: AuditedSplit) -> list[int]:
        """Return the number of suggestions of each of `SUGGESTION_KINDS` in a split."""
        counts = Counter(one.suggestion.kind for one in self.suggestions if one.split is split)
        return [counts[kind] for kind in SUGGESTION_KINDS]


def audit(inputs: AuditInputs) -> Audit:
    """Find the likely label errors, the small objects and the differences of splits.

    Raises:
        AuditError: The model detects nothing.
    """
    _refuse_nothing(inputs)
    found: list[tuple[AuditedSplit, Suggestion]] = []
    for split in inputs.splits:
        data = split.data
        known = [i for i, name in zip(data.category_ids, data.class_names, strict=True) if name in inputs.class_names]
        suggestions = find_suggestions(data.ground_truth(), split.detections, known, inputs.threshold)
        found += [(split, suggestion) for suggestion in suggestions]
    found.sort(key=lambda pair: -pair[1].score)

    objects: dict[str, Objects] = {split.role: collect_objects(split.data) for split in inputs.splits}
    return Audit(
        suggestions=[Ranked(rank, split, suggestion) for rank, (split, suggestion) in enumerate(found, start=1)],
        small=count_small_objects(objects, inputs.resolution, inputs.keeps_aspect),
        differences=compare_splits(objects, inputs.resolution, inputs.keeps_aspect),
    )


def overview(inputs: AuditInputs, found: Audit) -> tuple[tuple[str, ...], list[tuple[str | int, ...]]]:
    """Return the titles and the rows of a table with a row for each split."""
    header = ("split", "name", "images", "annotations", "AP of the model", *SUGGESTION_KINDS)
    rows: list[tuple[str | int, ...]] = [
        (
            split.role,
            split.data.name,
            len(split.data),
            int((~split.data.crowd).sum()),
            digits(split.ap, 3),
            *found.count(split),
        )
        for split in inputs.splits
    ]
    return header, rows


def lead(inputs: AuditInputs, found: Audit) -> list[str]:
    """Return what an audit says in three sentences."""
    counts = Counter(one.suggestion.kind for one in found.suggestions)
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in SUGGESTION_KINDS if counts[kind])
    small = sum(one.number for one in found.small)
    real = list(dict.fromkeys(one.what for one in found.differences if one.is_real))
    if len(inputs.splits) < 2:
        compared = "There is one split, which is compared with no other."
    elif real:
        compared = f"Splits differ in {', '.join(real)}."
    else:
        compared = "No difference between the splits is shown."
    return [
        f"{len(found.suggestions):,} {'suggestion' if len(found.suggestions) == 1 else 'suggestions'} at a "
        f"confidence of {inputs.threshold:.2f} or more" + (f": {kinds}." if kinds else "."),
        f"{small:,} {'object is' if small == 1 else 'objects are'} under {SMALLEST_SIDE} pixels wide or high at the "
        f"model's input of {inputs.resolution} pixels.",
        compared,
    ]


def _refuse_nothing(inputs: AuditInputs) -> None:
    highest = max((float(split.detections.scores.max(initial=0)) for split in inputs.splits), default=0.0)
    if highest < inputs.threshold:
        num_images = sum(len(split.data) for split in inputs.splits)
        raise AuditError(
            f"no detection in {num_images} images reaches a confidence of {inputs.threshold:.2f}: the highest is "
            f"{highest:.2f}. Lower --threshold, or train longer"
        )
