"""Read one Pascal VOC annotation file: XML that may come from anyone, parsed by defusedxml, into names and corners."""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from rfdetr_hwd.data.findings import shown
from rfdetr_hwd.data.images import check_file

MAX_XML_BYTES = 16 << 20
_MAX_COORDINATE = 1e7
_HEAD_BYTES = 4096
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ROTATED = ("cx", "cy", "w", "h", "angle")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CHINESE = dict.fromkeys(("gb2312", "gbk", "gb18030", "cp936"), "gb18030")
_KOREAN = dict.fromkeys(("euc-kr", "cp949", "ks-c-5601-1987"), "cp949")
_MULTIBYTE = {**_CHINESE, **_KOREAN, "big5": "big5hkscs", "shift-jis": "cp932", "euc-jp": "euc_jp"}
"""Encodings that expat does not know, and the codec that reads them."""
_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_ROOT = re.compile(r"<(?:[\w.-]+:)?annotation[\s>/]", re.IGNORECASE)


class VocObject(NamedTuple):
    """One object that can be used.

    Attributes:
        place: What it is called in messages, such as `object 3`.
        name: Its class.
        corners: xmin, ymin, xmax, ymax in pixels as written, the minima first.
    """

    place: str
    name: str
    corners: tuple[float, float, float, float]


class VocFile(NamedTuple):
    """What an annotation file says.

    Attributes:
        file_name: Name of its image, without directories; empty where it says none.
        size: (height, width) of its image; `None` where it says none that can be.
        objects: The objects that can be used.
        problems: Kind of finding, which object, and reason of everything else.
        digest: sha256 of the file.
        is_readable: Whether it is XML at all.
    """

    file_name: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]
    problems: tuple[tuple[str, str, str], ...]
    digest: str
    is_readable: bool = True


def is_voc_file(path: Path) -> bool:
    """Return whether a file begins as a Pascal VOC annotation does: XML with a root `annotation`."""
    try:
        check_file(path)
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            return (
                _ROOT.search(head.decode("utf-16" if head.startswith(_UTF16_MARKS) else "latin-1", "replace"))
                is not None
            )
    except OSError:
        return False


def read_voc_file(path: Path) -> VocFile:
    """Read an annotation file; what is wrong with it, or with an object, is told and raises nothing.

    Names of elements are taken in any case and namespace. An object without `bndbox` has the upright box around its
    `robndbox` or `polygon`. Objects that LabelMe marks as deleted are none.
    """
    try:
        check_file(path)
        if path.stat().st_size > MAX_XML_BYTES:
            return _unreadable(f"it is larger than {MAX_XML_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        return _unreadable(error.strerror or str(error))
    try:
        # Parse it, without entities or external files
        root = fromstring(_decode(content), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        reason = f"it is not valid and safe XML: {' '.join(str(error).split()) or type(error).__name__}"
        return _unreadable(reason, content)
    if _tag(root) != "annotation":
        return _unreadable(f"its root is {shown(_tag(root))}, not 'annotation'", content)
    objects: list[VocObject] = []
    problems: list[tuple[str, str, str]] = []

    # Collect the objects and their problems
    for number, element in enumerate((e for e in root.iter() if _tag(e) == "object"), 1):
        if _text(element, "deleted") != "1":
            _read_object(element, f"object {number}", objects, problems)
    name = re.split(r"[/\\]", _text(root, "filename"))[-1]
    return VocFile(name, _read_size(root), tuple(objects), tuple(problems), hashlib.sha256(content).hexdigest())


def _unreadable(reason: str, content: bytes = b"") -> VocFile:
    digest = hashlib.sha256(content).hexdigest()
    return VocFile("", None, (), (("unreadable_label", "", reason),), digest, is_readable=False)


def _decode(content: bytes) -> Any:
    """Return text where expat cannot decode a file by itself, else its bytes.

    A file that says it is UTF-8, and is not, often has the directory of the tool's user in another encoding: what
    cannot be read becomes U+FFFD, and only a class name that holds it is a problem.
    """
    declared = _DECLARATION.search(content[:_HEAD_BYTES])
    name = declared[1].decode().lower().replace("_", "-") if declared else "utf-8"
    if name in _MULTIBYTE:
        return content.decode(_MULTIBYTE[name])
    if name not in ("utf-8", "utf8") or content.startswith(_UTF16_MARKS):
        return content
    return content.decode("utf-8-sig", "replace")


def _tag(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _children(element: Any, name: str) -> list[Any]:
    return [child for child in element if _tag(child) == name]


def _text(element: Any, *path: str) -> str:
    """Return the text of a descendant on one line; empty where there is none."""
    for name in path:
        element = next(iter(_children(element, name)), None)
        if element is None:
            return ""
    return " ".join((element.text or "").split())


def _read_size(root: Any) -> tuple[int, int] | None:
    try:
        height, width = (float(_text(root, "size", side)) for side in ("height", "width"))
    except ValueError:
        return None
    is_size = all(1 <= side <= _MAX_COORDINATE and side == int(side) for side in (height, width))
    return (int(height), int(width)) if is_size else None


def _read_object(element: Any, place: str, objects: list[VocObject], problems: list[tuple[str, str, str]]) -> None:
    """Enter an object, or what is wrong with it."""
    # Check the name
    name = _text(element, "name")
    if not name or "\ufffd" in name:
        reason = f"must have a name in the file's encoding, not {shown(name)}"
        problems.append(("bad_annotation", place, reason))
        return
    if _text(element, "difficult") == "1":
        problems.append(("difficult_object", place, f"{shown(name)} is marked difficult"))

    # Read the boxes, of which some tools write several
    boxes = _children(element, "bndbox")
    shapes = boxes or [*_children(element, "robndbox"), *_children(element, "polygon")][:1]
    for number, shape in enumerate(shapes or [None], 1):
        who = place if len(shapes) < 2 else f"{place}, box {number}"
        corners, reason = _read_corners(shape)
        if corners is None:
            problems.append(("bad_box", who, f"{shown(name)} {reason}"))
            continue
        x0, y0, x1, y1 = corners
        if boxes and (x0 > x1 or y0 > y1):
            problems.append(("swapped_corners", who, f"{shown(name)} has its maximum before its minimum: {corners}"))
        elif not boxes:
            problems.append(("enclosing_box", who, f"{shown(name)} has no bndbox but a {_tag(shape)}"))
        objects.append(VocObject(who, name, (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))))


def _read_corners(shape: Any) -> tuple[tuple[float, float, float, float] | None, str]:
    """Return the box of a shape, or why it has none."""
    if shape is None:
        return None, "has no box: neither bndbox nor robndbox nor polygon"
    try:
        if _tag(shape) == "polygon":
            xs, ys = _polygon(shape)
        elif _is_upright(shape):
            values = [float(_text(shape, key)) for key in _CORNERS]
            xs, ys = values[::2], values[1::2]
        else:
            xs, ys = _rotated([float(_text(shape, key)) for key in _ROTATED])
    except ValueError:
        return None, f"must have a box of four numbers, not {shown({_tag(c): c.text for c in shape})}"
    if not all(abs(value) < _MAX_COORDINATE for value in (*xs, *ys)):  # false for NaN
        return None, f"must have a box of four numbers, not {shown([*xs, *ys])}"
    if _tag(shape) == "polygon":
        return (min(xs), min(ys), max(xs), max(ys)), ""
    return (xs[0], ys[0], xs[1], ys[1]), ""


def _is_upright(shape: Any) -> bool:
    """Return whether a shape is given by corners; some tools write them into a `robndbox`."""
    return bool(_children(shape, "xmin")) or not _children(shape, "cx")


def _rotated(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the sides of the upright box around a rotated one: centre, width, height, and the angle in radians."""
    cx, cy, width, height, angle = values
    if not abs(angle) <= 2 * math.pi or not min(width, height) >= 0:
        raise ValueError("no rotated box in radians")
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    x, y = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return [cx - x, cx + x], [cy - y, cy + y]


def _polygon(shape: Any) -> tuple[list[float], list[float]]:
    """Return the corners of a polygon: `x1`, `y1`, `x2`, ... as Roboflow writes it, or `pt` with `x` and `y`."""
    points = _children(shape, "pt") or [shape]
    xs, ys = (list(_numbers(points, axis)) for axis in "xy")
    if len(xs) != len(ys) or len(xs) < 3:
        raise ValueError("no polygon")
    return xs, ys


def _numbers(points: Sequence[Any], axis: str) -> Iterator[float]:
    for point in points:
        for child in point:
            if re.fullmatch(rf"{axis}\d*", _tag(child)):
                yield float(child.text or "")
