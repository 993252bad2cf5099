"""What is found in a dataset: the kinds of finding, how serious each is, and a collection that counts them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeGuard

from rfdetr_hwd.errors import ConfigError, UserError

MAX_EXAMPLES = 100
"""Findings of one kind that are kept; all are counted."""
_MAX_SHOWN = 80


class DatasetError(UserError):
    """A dataset that cannot be found, read or used."""


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        level: `error` would break or distort training or measurement; a `notice` is worth a look.
        effect: What reading does about it, which for an error is what happens once the kind is allowed.
        can_allow: Whether `data.allow` may accept it.
    """

    level: Literal["error", "notice"]
    effect: str
    can_allow: bool = True


KINDS: Mapping[str, Kind] = {
    "unreadable_split": Kind("error", "the split cannot be used", can_allow=False),
    "bad_category": Kind("error", "the category is left out"),
    "duplicate_category": Kind("error", "the first of them counts"),
    "bad_image": Kind("error", "the image is left out"),
    "bad_size": Kind("error", "the image is left out"),
    "duplicate_image": Kind("error", "the first of them counts"),
    "duplicate_file": Kind("error", "both are used"),
    "unsafe_path": Kind("error", "the image is not read", can_allow=False),
    "missing_file": Kind("error", "the image is left out"),
    "bad_annotation": Kind("error", "the annotation is left out"),
    "unknown_image": Kind("error", "the annotation is left out"),
    "unknown_category": Kind("error", "the annotation is left out"),
    "bad_box": Kind("error", "the annotation is left out"),
    "negative_box": Kind("error", "the annotation is left out"),
    "outside_box": Kind("error", "the annotation is left out"),
    "bad_area": Kind("error", "the box's own area stands in"),
    "bad_crowd": Kind("error", "taken as no crowd"),
    "no_boxes": Kind("error", "there is nothing to learn or to measure", can_allow=False),
    "classes_differ": Kind("error", "classes are mapped by name; one that the model lacks has an AP of 0"),
    "unreadable_label": Kind("error", "the image is left out"),
    "unreadable_image": Kind("error", "replaced while training (data.on_bad_image); in YOLO and shards left out"),
    "size_mismatch": Kind("error", "taken as unreadable: replaced while training (data.on_bad_image)"),
    "same_image": Kind("error", "both are used"),
    "annotation_id": Kind("notice", "annotations are numbered anew"),
    "missing_area": Kind("notice", "the box's own area stands in"),
    "empty_box": Kind("notice", "not learned from"),
    "clipped_box": Kind("notice", "clipped to the image for training"),
    "duplicate_box": Kind("notice", "both are used"),
    "too_many_objects": Kind("notice", "the model cannot find more objects than it has queries"),
    "class_without_boxes": Kind("notice", "the class cannot be learned or measured"),
    "image_without_boxes": Kind("notice", "used as background"),
    "unlisted_image": Kind("notice", "not used"),
    "rotated_image": Kind("notice", "turned upright as its EXIF orientation says"),
    "low_bit_depth": Kind("notice", "read as values of data.bit_depth bits, which auto recognises"),
    "clipped_values": Kind("notice", "clipped to what data.bit_depth has room for"),
    "similar_image": Kind("notice", "both are used; across splits it flatters the figures"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: A key of `KINDS`.
        where: The file it stands in.
        who: The entry, such as `annotation 17`; empty where the file itself is meant.
        reason: What is wrong.
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
        """Enter a finding."""
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < MAX_EXAMPLES:
            kept.append(Finding(kind, str(where), who, reason))

    def kinds(self, level: Literal["error", "notice"], allow: Sequence[str] = ()) -> list[str]:
        """Return the kinds of a level that were found, in the order of `KINDS`; allowed errors are left out."""
        found = [kind for kind, about in KINDS.items() if about.level == level and self.counts[kind]]
        return [kind for kind in found if level == "notice" or kind not in allow or not KINDS[kind].can_allow]

    def refuse_errors(self, allow: Sequence[str]) -> None:
        """Raise one error that gives examples of every kind of error that is not allowed.

        Raises:
            DatasetError: There are such findings.
        """
        errors = self.kinds("error", allow)
        if not errors:
            return
        lines = []
        for kind in errors:
            more = self.counts[kind] - 1
            lines.append(f"{self.examples[kind][0]}" + (f" [{kind}, and {more} more]" if more else f" [{kind}]"))
        allowable = [kind for kind in errors if KINDS[kind].can_allow]
        advice = "`rfdetr-hwd data check ROOT` lists all"
        if allowable:
            advice += f"; mend them, or accept with data.allow=[{','.join(allowable)}]"
        raise DatasetError("\n  ".join([*lines, advice]) if len(lines) == 1 else "\n  ".join(["", *lines, advice]))

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


def check_allowed(allow: Iterable[str]) -> None:
    """Raise an error for a name that `data.allow` cannot hold.

    Raises:
        ConfigError: It is no kind of finding, or one that cannot be accepted.
    """
    for kind in allow:
        if kind not in KINDS:
            raise ConfigError(f"data.allow: {kind!r} is no kind of finding; known are {', '.join(KINDS)}")
        if not KINDS[kind].can_allow:
            raise ConfigError(f"data.allow: {kind} cannot be accepted, because then {KINDS[kind].effect}")


def shown(value: object) -> str:
    """Return a value from a file as short printable text: no control character reaches a terminal."""
    try:
        text = ascii(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def name_entry(what: str, number: int, entry: object) -> str:
    """Return how an entry of a JSON list is called: by its id, or by its place where it has none."""
    entry_id = entry.get("id") if isinstance(entry, dict) else None
    return f"{what} {entry_id}" if is_id(entry_id) else f"{what} at place {number}"


def is_id(value: object) -> TypeGuard[int]:
    """Return whether a JSON value is a whole number of 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**63
