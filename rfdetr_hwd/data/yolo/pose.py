"""Tell labels of keypoints from polygons where nothing says which they are: as polygons every box would be wrong."""

from collections.abc import Sequence

_VISIBILITIES = (0.0, 1.0, 2.0)
_SLACK = 0.01
_MIN_ROWS = 6
_MAX_TESTED = 200

_Point = tuple[float, float]


def looks_like_pose(values: Sequence[float]) -> bool:
    """Return whether values can only be a box and keypoints (x, y, visibility), and no polygon.

    A visibility is 0, 1 or 2. Where their number would do for a polygon as well, one is 2, which no fraction is, or all
    keypoints lie in the box.

    Args:
        values: What follows the class in a line.
    """
    seen = values[6::3]
    if len(values) < 7 or (len(values) - 4) % 3 or any(value not in _VISIBILITIES for value in seen):
        return False
    return len(values) % 2 == 1 or 2.0 in seen or _box_holds(values, list(zip(values[4::3], values[5::3], strict=True)))


class PoseSuspicion:
    """Whether the polygons of a split are a box and keypoints (x, y) each, which have an even number of values as well.

    They are if all have one number of values, nearly all could be a box in the image that holds every keypoint, and a
    good part of them crosses itself, which the outline of an object does not do. Polygons of one length (oriented
    boxes) in the middle of the image may meet the second, and not the third.
    """

    def __init__(self) -> None:
        self._lengths: set[int] = set()
        self._num_rows = self._num_holding = self._num_tested = self._num_crossing = 0

    def add(self, values: Sequence[float]) -> None:
        """Take note of a polygon, by what follows the class in its line."""
        self._lengths.add(len(values))
        if len(self._lengths) > 1:
            return
        points = list(zip(values[::2], values[1::2], strict=True))
        self._num_rows += 1
        if _box_holds(values, points[2:]):
            self._num_holding += 1
            if self._num_tested < _MAX_TESTED:
                self._num_tested += 1
                self._num_crossing += _crosses_itself(points)

    def reason(self) -> str:
        """Return what to say; empty where there is no suspicion."""
        is_rare = len(self._lengths) != 1 or self._num_rows < _MIN_ROWS or self._num_holding < 0.95 * self._num_rows
        if is_rare or 4 * self._num_crossing < self._num_tested:
            return ""
        points = (max(self._lengths) - 4) // 2
        return (
            f"all {self._num_rows} polygons look like a box and {points} keypoints: if they are, say so in data.yaml, "
            f"with kpt_shape: [{points}, 2]"
        )


def _box_holds(box: Sequence[float], points: Sequence[_Point]) -> bool:
    """Return whether a box (cx, cy, w, h) lies in the image and holds all points, and any; (0, 0) is no point."""
    cx, cy, width, height = box[:4]
    placed = [(x, y) for x, y in points if x > 0 or y > 0]
    is_inside = min(cx - width / 2, cy - height / 2) >= -_SLACK and max(cx + width / 2, cy + height / 2) <= 1 + _SLACK
    near = [abs(x - cx) <= width / 2 + _SLACK and abs(y - cy) <= height / 2 + _SLACK for x, y in placed]
    return is_inside and min(width, height) > 0 and len(near) > 0 and all(near)


def _crosses_itself(points: Sequence[_Point]) -> bool:
    """Return whether two sides of a closed polygon that are no neighbours meet."""
    sides = list(zip(points, [*points[1:], points[0]], strict=True))
    return any(
        _meet(*sides[i], *sides[j])
        for i in range(len(sides))
        for j in range(i + 2, len(sides))
        if (i, j) != (0, len(sides) - 1)
    )


def _meet(a: _Point, b: _Point, c: _Point, d: _Point) -> bool:
    turns = [_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)]
    return turns[0] * turns[1] <= 0 and turns[2] * turns[3] <= 0 and any(turns)


def _turn(a: _Point, b: _Point, c: _Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
