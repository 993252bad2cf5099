"""Describe a directory that matches no format, with advice."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from rfdetr_hwd.data.images import IMAGE_SUFFIXES
from rfdetr_hwd.data.known_layouts import LAYOUTS
from rfdetr_hwd.data.layout import enumerate_some
from rfdetr_hwd.data.listing import COPY_ADVICE, FileList

_PEEK_BYTES = 1 << 16
_MAX_PEEKS = 20

_NAMES = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
_FOREIGN: Mapping[str, tuple[bytes, ...]] = {
    "Annotations in LabelMe's format are not read: convert them with labelme2coco.": (b'"shapes"', b'"imagePath"'),
    "VGG Image Annotator's own format is not read: export as COCO.": (b'"regions"', b'"region_attributes"'),
    "Label Studio's own format is not read: export as COCO.": (b'"annotations"', b'"result"'),
    "CreateML is not read: export as COCO.": (b'"coordinates"', b'"label"'),
    "Datumaro's own format is not read: export as COCO.": (b'"items"', b'"categories"'),
    "Supervisely's own format is not read: export as COCO.": (b'"objects"', b'"classTitle"'),
    "CVAT's own format is not read: export as COCO.": (b"<annotations>", b"<version>"),
    "A list of detections (COCO's results format) is no annotation file.": (b'"image_id"', b'"score"', b'"bbox"'),
}
"""What to say of formats that are not read, and what a file of them holds."""


def describe_contents(root: Path, files: FileList) -> str:
    """Return what lies in a directory, what of it is in a format that is not read, and which layouts are.

    Args:
        root: The directory.
        files: The files below it.
    """
    lines = [f"Found {enumerate_some(list(_count(root, files)), 12) or 'no files'}."]
    lines += _advise(root, files)
    if files.escaping:
        lines.append(
            f"Not followed, because they are links out of the directory: {enumerate_some(sorted(files.escaping))}; "
            f"{COPY_ADVICE}."
        )
    width = max(len(layout.annotations) for layout in LAYOUTS)
    lines.append("Recognised layouts, in this directory or below:")
    lines += [f"  {row.annotations:{width}}  {row.images:20}  {row.made_by}" for row in LAYOUTS]
    return "\n".join(lines)


def describe_images(files: FileList) -> Iterator[str]:
    """Yield how many images lie in each directory, and of which kind, as in `80 JPEGs in photos`."""
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for name in files.names:
        suffix = f".{name.lower().rpartition('.')[2]}"
        if suffix in IMAGE_SUFFIXES:
            kinds[name.rpartition("/")[0]].add(_NAMES.get(suffix, suffix[1:].upper()))
    for directory, count in files.image_counts.most_common():
        what = "image" if len(kinds[directory]) > 1 else kinds[directory].pop()
        yield f"{_number(count, what)} in {directory or files.root}"


def _count(root: Path, files: FileList) -> Iterator[str]:
    """Yield how many files of each kind there are, and where images lie."""
    suffixes = Counter(PurePosixPath(name).suffix.lower() for name in files.names)
    for suffix in (".json", ".xml", ".txt", ".yaml", ".yml", ".csv", ".tfrecord", ".tar", ".zip"):
        if suffixes[suffix]:
            paths = sorted(name for name in files.names if name.lower().endswith(suffix))
            only = f" ({paths[0]})" if len(paths) == 1 else ""
            yield _number(suffixes[suffix], f"{suffix[1:].upper()} file") + only
    yield from describe_images(files)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _advise(root: Path, files: FileList) -> Iterator[str]:
    """Yield what could be done with what is there."""
    # Recognise the files of other tools by their beginnings
    foreign: Counter[str] = Counter()
    for name in sorted(name for name in files.names if name.lower().endswith((".json", ".xml")))[:_MAX_PEEKS]:
        try:
            with (root / name).open("rb") as file:
                content = file.read(_PEEK_BYTES)
        except OSError:
            continue
        foreign.update([text for text, marks in _FOREIGN.items() if all(mark in content for mark in marks)][:1])
    yield from foreign

    # Advise by the kinds of files
    suffixes = {PurePosixPath(name).suffix.lower() for name in files.names}
    if ".csv" in suffixes:
        yield "CSV files are not read: convert them to COCO."
    if ".json" in suffixes and not foreign:
        yield "No JSON file is an object with images, annotations and categories, as COCO's are."
    if files.image_counts and not suffixes & {".json", ".xml", ".txt", ".csv", ".tar"}:
        yield "There are images but no annotations: `rfdetr-hwd predict` needs none."
