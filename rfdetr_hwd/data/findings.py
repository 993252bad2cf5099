"""Findings about datasets: their kinds and levels, and a collection that counts them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeGuard

from rfdetr_hwd.errors import ConfigError, UserError

MAX_EXAMPLES = 100
"""Findings of one kind that are kept; all are counted."""
_MAX_SHOWN = 80
MAX_PATH_SHOWN = 1024
"""Characters of a path in a message. Its end identifies the file."""


class DatasetError(UserError):
    """A dataset that cannot be found, read or used."""


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        level: An `error` would break or distort training or evaluation. A `notice` would not.
        effect: How the reader treats it, for an error if its kind is allowed.
        can_allow: Whether `data.allow` may accept it.
    """

    level: Literal["error", "notice"]
    effect: str
    can_allow: bool = True


KINDS: Mapping[str, Kind] = {
    "unreadable_split": Kind("error", "the split cannot be used", can_allow=False),
    "unnamed_classes": Kind("error", "the classes are named by their ids"),
    "bad_category": Kind("error", "the category is skipped"),
    "duplicate_category": Kind("error", "the first one is used; objects with the id of another are skipped"),
    "bad_image": Kind("error", "the image is skipped"),
    "bad_size": Kind("error", "the image is skipped"),
    "duplicate_image": Kind(
        "error", "an image listed twice is used once, and several images of one id are skipped with their boxes"
    ),
    "duplicate_file": Kind("error", "both are used"),
    "unsafe_path": Kind("error", "the image is not read", can_allow=False),
    "missing_file": Kind("error", "the image is skipped"),
    "bad_annotation": Kind("error", "the annotation is skipped"),
    "unknown_image": Kind("error", "the annotation is skipped"),
    "unknown_category": Kind("error", "the annotation is skipped"),
    "bad_box": Kind("error", "the annotation is skipped"),
    "negative_box": Kind("error", "the annotation is skipped"),
    "outside_box": Kind("error", "the annotation is skipped"),
    "bad_area": Kind("error", "the area of the box is used"),
    "bad_crowd": Kind("error", "treated as no crowd region"),
    "missing_part": Kind("error", "the rest of the split is used"),
    "class_count": Kind("error", "the list of names is used"),
    "pose_suspected": Kind("error", "they are read as polygons"),
    "fractions_suspected": Kind("error", "they are read as pixels"),
    "corners_suspected": Kind("error", "they are read as x, y, width, height"),
    "no_boxes": Kind("error", "there is nothing to train on or to evaluate", can_allow=False),
    "classes_differ": Kind("error", "classes are matched by name, and a class that the model lacks has an AP of 0"),
    "unreadable_label": Kind("error", "the image is skipped"),
    "unreadable_image": Kind("error", "replaced in training (data.on_bad_image), or skipped if its size is needed"),
    "size_mismatch": Kind("error", "treated as unreadable: replaced in training (data.on_bad_image)"),
    "same_stem": Kind("error", "the image is skipped"),
    "duplicate_label": Kind("error", "the annotation file is skipped"),
    "same_image": Kind("error", "both are used: training images are evaluated"),
    "assumed": Kind("notice", "read as described"),
    "unused_label": Kind("notice", "its objects are not read"),
    "duplicate_line": Kind("notice", "used once"),
    "annotation_id": Kind("notice", "annotations are renumbered"),
    "group_name": Kind("notice", "merged with its group into one class"),
    "text_value": Kind("notice", "converted"),
    "text_id": Kind("notice", "numbered by its position in the file"),
    "missing_size": Kind("notice", "read from the image file"),
    "swapped_size": Kind("notice", "the size of the image file is used"),
    "missing_box": Kind("notice", "the box of the segmentation is used"),
    "path_differs": Kind("notice", "the existing file is used"),
    "missing_area": Kind("notice", "the area of the box is used"),
    "empty_box": Kind("notice", "ignored in training"),
    "clipped_box": Kind("notice", "clipped to the image for training"),
    "enclosing_box": Kind("notice", "the upright box around the shape is used"),
    "swapped_corners": Kind("notice", "the corners are put in order"),
    "difficult_object": Kind("notice", "used like any other object"),
    "pixels_from_0": Kind("notice", "1 is not subtracted from the minima"),
    "other_size": Kind("notice", "the boxes refer to the size of the file"),
    "image_by_name": Kind("notice", "the image that the annotation file names is used"),
    "unlabelled_image": Kind("notice", "used as background"),
    "duplicate_box": Kind("notice", "both are used"),
    "too_many_objects": Kind("notice", "the model cannot find more objects than it has queries"),
    "class_without_boxes": Kind("notice", "the class cannot be trained or evaluated"),
    "image_without_boxes": Kind("notice", "used as background"),
    "unlisted_image": Kind("notice", "not used"),
    "rotated_image": Kind("notice", "rotated upright by its EXIF orientation"),
    "unrotated_image": Kind("notice", "read as stored, like its annotations"),
    "unclear_rotation": Kind("notice", "rotated upright by its EXIF orientation, unless data.exif is ignore"),
    "repeated_image": Kind("notice", "both are used"),
    "low_bit_depth": Kind("notice", "read with data.bit_depth bits, which auto detects"),
    "clipped_values": Kind("notice", "clipped to the range of data.bit_depth"),
    "similar_image": Kind("notice", "both are used, which inflates the metrics across splits"),
}


SKIPPED_ENTRIES = frozenset(
    {
        *("bad_image", "bad_size", "missing_file", "unreadable_image", "unreadable_label", "same_stem"),
        *("bad_annotation", "unknown_image", "bad_box", "negative_box", "outside_box"),
    }
)
"""Errors of single entries, which are skipped. The other errors affect the rest of the dataset."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        kind: A key of `KINDS`.
        where: The file.
        who: The entry, such as `annotation 17`, or empty for the file itself.
        reason: The problem.
    """

    kind: str
    where: str
    who: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.who + ': ' if self.who else ''}{self.reason}"


@dataclass
class Findings:
    """Counts of all findings, and the first of each kind.

    Attributes:
        counts: Number of findings by kind.
        examples: The first `MAX_EXAMPLES` of each kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Finding]] = field(default_factory=dict)

    def add(self, kind: str, where: object, who: str, reason: str) -> None:
        """Add a finding."""
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < MAX_EXAMPLES:
            kept.append(Finding(kind, str(where), who, reason))

    def include(self, other: "Findings") -> None:
        """Add all findings of another collection."""
        self.counts.update(other.counts)
        for kind, examples in other.examples.items():
            kept = self.examples.setdefault(kind, [])
            kept += examples[: MAX_EXAMPLES - len(kept)]

    def kinds(self, level: Literal["error", "notice"], allow: Sequence[str] = ()) -> list[str]:
        """Return the kinds of a level that were found, in the order of `KINDS`; allowed errors are skipped."""
        found = [kind for kind, about in KINDS.items() if about.level == level and self.counts[kind]]
        return [kind for kind in found if level == "notice" or kind not in allow or not KINDS[kind].can_allow]

    def refuse_errors(
        self,
        allow: Sequence[str],
        by_option: bool = False,
        later: Collection[str] = (),
        done: str = "",
        advice: str = "",
    ) -> None:
        """Raise one error that gives examples of every kind of error that is not allowed.

        Args:
            allow: Kinds of error to accept.
            by_option: Whether the user accepts kinds with `--allow`, and not with `data.allow`.
            later: Kinds that do not abort the work. The caller refuses them at the end.
            done: Text about the work that was done in spite of the errors.
            advice: What to do, where `data check` and `data.allow` do not apply.

        Raises:
            DatasetError: There are such findings.
        """
        errors = self.kinds("error", allow)
        if set(errors) <= set(later):
            return
        lines = []
        for kind in errors:
            more = self.counts[kind] - 1
            lines.append(f"{self.examples[kind][0]}" + (f" [{kind}, and {more} more]" if more else f" [{kind}]"))
        advice = advice or _advise([kind for kind in errors if KINDS[kind].can_allow], by_option)
        raise DatasetError("\n  ".join([*([done] if done or len(lines) > 1 else []), *lines, advice]))

    def as_json(self) -> list[dict[str, Any]]:
        """Return one entry a kind that was found: level, count, effect, examples."""
        return [
            {
                "kind": kind,
                "level": about.level,
                "count": self.counts[kind],
                "effect": about.effect,
                "examples": [asdict(example) for example in self.examples[kind]],
            }
            for kind, about in KINDS.items()
            if self.counts[kind]
        ]


def _advise(allowable: Sequence[str], by_option: bool) -> str:
    """Return what to do about errors of a dataset."""
    advice = "`rfdetr-hwd data check ROOT` lists all of them"
    if allowable:
        options = " ".join(f"--allow {kind}" for kind in allowable)
        key = f"data.allow=[{','.join(allowable)}]"
        advice += f". Fix them, or accept with {options if by_option else key}"
    return advice


def check_allowed(allow: Iterable[str], option: str = "data.allow") -> None:
    """Raise an error for an invalid value of `data.allow` or of its option.

    Raises:
        ConfigError: It is no kind of finding, or a kind that cannot be accepted.
    """
    for kind in allow:
        if kind not in KINDS:
            raise ConfigError(f"{option}: {kind!r} is no kind of finding. The kinds are {', '.join(KINDS)}")
        if not KINDS[kind].can_allow:
            raise ConfigError(f"{option}: {kind} cannot be accepted: {KINDS[kind].effect}")


def shown(value: object, limit: int = _MAX_SHOWN) -> str:
    """Return a value from a file as printable text of bounded length, without control characters."""
    try:
        text = ascii(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= limit else f"{text[:limit]}..."


def name_entry(what: str, number: int, entry: object) -> str:
    """Return the name of an entry of a JSON list in messages: its id, or its position if it has none."""
    entry_id = entry.get("id") if isinstance(entry, dict) else None
    if is_id(entry_id):
        return f"{what} {entry_id}"
    return f"{what} {shown(entry_id)}" if isinstance(entry_id, str) and entry_id else f"{what} at place {number}"


def is_id(value: object) -> TypeGuard[int]:
    """Return whether a JSON value is a whole number of 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**63
