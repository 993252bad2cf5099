"""Read a line of a YOLO label file, and say why one cannot be read: what it looks like instead."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rfdetr_hwd.data.findings import shown
from rfdetr_hwd.data.yolo.pose import looks_like_pose

_MAX_FRACTION = 2.0
"""A coordinate or side beyond this is no fraction of an image: the box would be twice as large, or far outside."""


class Row(NamedTuple):
    """A line that can be read.

    Attributes:
        label: Number of the class.
        box: (x, y, width, height), fractions of the image.
        points: The values that are a polygon; empty where the line is a box or a pose.
        values: All values after the class.
    """

    label: int
    box: tuple[float, float, float, float]
    points: tuple[float, ...]
    values: tuple[float, ...]


class BadLine(NamedTuple):
    """A line that cannot be read: a kind of finding, and the reason."""

    kind: str
    reason: str


@dataclass(frozen=True)
class LineReader:
    """Reads lines: `class cx cy w h`, `class x1 y1 x2 y2 x3 y3 ...`, or with `pose` a box and keypoints.

    Attributes:
        pose: Keypoints of an object and values of a keypoint (`kpt_shape`), where labels hold keypoints.
        names: Names of the classes, for messages.
    """

    pose: tuple[int, int] | None
    names: frozenset[str]

    def read(self, line: str, size: tuple[int, int]) -> Row | BadLine:
        """Read a line.

        Args:
            line: The line.
            size: (height, width) of the image in pixels, for messages.
        """
        try:
            label, *values = (float(word) for word in line.split())
        except ValueError:
            return self._bad(line, _explain_words(line.split(), self.names))
        if not (abs(label) <= 2**31 and label == int(label)):
            return self._bad(line, "the class must be a whole number")
        why_not = self._explain_count(values)
        if why_not:
            return self._bad(line, why_not)

        # Refuse pixels and percent
        coordinates = values[:4] if self.pose else values
        if _MAX_FRACTION < max(coordinates) < math.inf and min(coordinates) >= 0:
            height, width = size
            return BadLine(
                "bad_box",
                f"{shown(line)} looks like pixels, but YOLO uses fractions of the image: divide x and width by "
                f"{width}, y and height by {height} (by 100 where they are percent)",
            )

        # Return a box, or the box around a polygon
        if len(values) == 4 or self.pose:
            cx, cy, width_, height_ = coordinates
            return Row(int(label), (cx - width_ / 2, cy - height_ / 2, width_, height_), (), tuple(values))
        xs, ys = values[::2], values[1::2]
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        return Row(int(label), box, tuple(values), tuple(values))

    def _bad(self, line: str, why: str) -> BadLine:
        wanted = "`class cx cy w h` or a polygon"
        if self.pose:
            wanted = f"`class cx cy w h` and {self.pose[0]} keypoints of {self.pose[1]} values"
        return BadLine("bad_annotation", f"must be {wanted}, not {shown(line)}" + (f": {why}" if why else ""))

    def _explain_count(self, values: Sequence[float]) -> str:
        """Return why a line cannot have so many values; empty where it can."""
        count = len(values)
        if self.pose:
            points, dims = self.pose
            expected = 4 + points * dims
            reason = f"kpt_shape: [{points}, {dims}] makes {expected} values after the class, but there are {count}"
            return "" if count == expected else reason
        if count == 4:
            return ""
        if count == 5:
            return (
                f"there is a value after the box, {values[4]:g}, which may be a confidence (labels of a model) "
                "or an angle: remove it"
            )
        if looks_like_pose(values):
            points = (count - 4) // 3
            return (
                f"it looks like a box and {points} keypoints with their visibility: say so in data.yaml, with "
                f"kpt_shape: [{points}, 3]"
            )
        if count == 6 and values[5] > 1 >= max(values[:5]) and values[5].is_integer():
            return "it looks like a box with a confidence and a track id, as a model writes: remove them"
        if count < 4 or count % 2:
            return f"there are {count} values after the class; a box has 4, a polygon an even number from 6"
        return ""


def _explain_words(words: Sequence[str], names: frozenset[str]) -> str:
    """Return why words are no numbers."""
    line = " ".join(words)
    separated = line.replace(",", " ").replace(";", " ").split()
    if len(words) >= 5 and "," in line and all(_is_number(word.replace(",", ".")) for word in words):
        return "decimals are written with commas: write 0.5, not 0,5"
    if separated != words and all(map(_is_number, separated)):
        return "values are separated by commas: YOLO separates them by spaces"
    if any(map(_is_number, words[1:])) and not _is_number(words[0]):
        known = ", which is one of the classes" if words[0] in names else ""
        return f"it begins with the name {shown(words[0])}{known}, but YOLO uses the number of the class"
    return ""


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
