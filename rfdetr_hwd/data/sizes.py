"""Settle the size of every image: as annotated, or as its file has it where the annotations say nothing or swap it.

Reading the headers of a large split's images takes longer than reading its annotations. So a sample of them is compared
first, and all only where the sample shows a difference, or where all are asked for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rfdetr_hwd.data.findings import shown
from rfdetr_hwd.data.formats import Exif
from rfdetr_hwd.data.images import Header, ImageError, read_header
from rfdetr_hwd.data.values import read_number

_MAX_SIDE = 1 << 20  # pixels
_SAMPLE = 1000  # images
_THREADS = 8
_TOLERANCE = 1.0  # pixels, for rounding
_AS_OTHERS = (
    "is stored turned, and its size does not tell whether it was annotated so: its EXIF orientation is not applied, as "
    "the {} images here whose size tells are annotated as they are stored"
)
_UNCLEAR = (
    "is stored rotated, with the same size upright. Other images of the split are annotated as stored: if all are, "
    "set data.exif=ignore (--exif ignore)"
)

Size = tuple[int, int]
"""(height, width) in pixels."""
Extents = Callable[[set[int]], Mapping[int, tuple[float, float]]]
"""Given rows of images, returns the largest y and x that their boxes reach."""


class Settled(NamedTuple):
    """The size of an image.

    Attributes:
        size: The size that its boxes refer to; `None` where it cannot be known.
        kind: Kind of finding; empty where there is nothing to say.
        reason: What is to be said.
    """

    size: Size | None
    kind: str = ""
    reason: str = ""


def read_annotated(width: object, height: object) -> tuple[Size | None, str]:
    """Return the size that an entry gives, and what is wrong; neither where it is missing (null, empty, 0)."""
    sides = []
    for name, value in (("width", width), ("height", height)):
        side = 0 if value is None or value == "" else read_number(value, _MAX_SIDE)
        if side is None or side != int(side):
            return None, f"{name} must be a whole number of pixels, not {shown(value)}"
        sides.append(int(side))
    return (None if min(sides) <= 0 else (sides[1], sides[0])), ""


def settle_sizes(
    annotated: Sequence[Size | None], paths: Sequence[Path], extents: Extents, exif: Exif, every: bool
) -> tuple[list[Settled], bool]:
    """Return the size of every image, and whether those are read as stored, too, whose sizes do not tell.

    Swapped sides are set right only where no boxes speak against it: an image that was turned after it was annotated
    looks the same, and its boxes are lost. An image that EXIF lays on its side, with the stored size, is annotated as
    stored; unless boxes of the split lie only in the upright images, and none only in the stored ones. Where such
    images are annotated as stored, and none is upright, the others are, too: those that EXIF turns, and whose size is
    missing or the same upright.

    Args:
        annotated: Size of each image as annotated; `None`: missing.
        paths: Their files.
        extents: How far their boxes reach.
        exif: Whether images are turned upright as their EXIF orientation says; `auto`: unless annotated as stored.
        every: Read the headers of all files, and say which have another size than annotated.
    """
    # Read the headers of a sample; of all files if one of them is suspicious
    rows = range(len(annotated))
    step = 1 if every else max(1, len(rows) // _SAMPLE)
    headers = _read_headers(paths, {*rows[::step], *(row for row in rows if annotated[row] is None)})
    if step > 1 and any(_asks_for_all(annotated[row], header, exif) for row, header in headers.items()):
        headers |= _read_headers(paths, set(rows).difference(headers))

    # Take sizes that are missing from the files, and collect those that differ
    settled = [Settled(size) for size in annotated]
    different: dict[int, tuple[Size, Header]] = {}
    for row, header in headers.items():
        size = annotated[row]
        if size is None:
            settled[row] = _measure(header, exif)
        elif isinstance(header, Header) and size != header.frame(exif):
            different[row] = size, header

    # Settle those that differ
    frames = [header.frame(exif) for header in headers.values() if isinstance(header, Header)]
    num_oblong = sum(height != width for height, width in frames)
    for row, found in _settle_different(different, num_oblong, extents, exif).items():
        if every or found.kind != "size_mismatch":  # which is said where the image is decoded
            settled[row] = found
    turned = {row: h for row, h in headers.items() if isinstance(h, Header) and h.orientation != 1}
    return settled, _settle_undecidable(settled, annotated, turned)


def _settle_undecidable(settled: list[Settled], annotated: Sequence[Size | None], turned: Mapping[int, Header]) -> bool:
    """Let the images that are annotated as stored decide for those whose size does not tell; return whether they do.

    Args:
        settled: What is known of each image; receives what is decided.
        annotated: Size of each image as annotated.
        turned: The headers, by row, of the images that EXIF turns.
    """
    unclear = [row for row, h in turned.items() if annotated[row] is None or annotated[row] == h.stored == h.upright]
    told = [row for row in turned if settled[row].kind == "unrotated_image"]
    if not told or not unclear:
        return False
    is_stored = not any(
        annotated[row] is not None and settled[row].size == h.upright != h.stored for row, h in turned.items()
    )
    for row in unclear:
        if is_stored:
            settled[row] = Settled(turned[row].stored, "unrotated_image", _AS_OTHERS.format(len(told)))
        elif annotated[row] is not None:
            settled[row] = Settled(settled[row].size, "unclear_rotation", _UNCLEAR)
    return is_stored


def _read_headers(paths: Sequence[Path], rows: Iterable[int]) -> dict[int, Header | ImageError]:
    """Read headers in threads, for the disk's sake."""
    chosen = sorted(rows)
    if len(chosen) <= _THREADS:
        return {row: _try_header(paths[row]) for row in chosen}
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(chosen, pool.map(lambda row: _try_header(paths[row]), chosen), strict=True))


def _try_header(path: Path) -> Header | ImageError:
    try:
        return read_header(path)
    except ImageError as error:
        return error


def _asks_for_all(annotated: Size | None, header: Header | ImageError, exif: Exif) -> bool:
    """Return whether an image of the sample differs from its annotations, or others decide how it is turned."""
    if not isinstance(header, Header):
        return False
    is_turned = exif == "auto" and header.orientation != 1
    return is_turned or annotated not in (None, header.frame(exif))


def _measure(header: Header | ImageError, exif: Exif) -> Settled:
    """Return the size of an image whose annotations give none."""
    if isinstance(header, ImageError):
        return Settled(None, "unreadable_image", str(header))
    size = header.frame(exif)
    return Settled(size, "missing_size", f"has no width and height, but its file has {_name(size)}")


def _settle_different(
    images: Mapping[int, tuple[Size, Header]], num_oblong: int, extents: Extents, exif: Exif
) -> dict[int, Settled]:
    """Decide what to make of sizes that are not the files'.

    Args:
        images: Annotated size and header by row.
        num_oblong: Images of the split that are not square, these among them.
        extents: How far their boxes reach.
        exif: As in `settle_sizes`.
    """
    # Ask of each swapped size which of the two the boxes fit
    settled, unclear, is_contradicted = {}, [], False
    sideways: dict[int, tuple[bool, bool]] = {}
    reach = extents({row for row, (size, header) in images.items() if size == header.frame(exif)[::-1]})
    for row, (size, header) in images.items():
        frame = header.frame(exif)
        settled[row] = Settled(size, "size_mismatch", _describe_mismatch(size, header, exif))
        if size != frame[::-1]:
            continue
        fits_size, fits_frame = (_fits(reach.get(row, (0, 0)), sides) for sides in (size, frame))
        if exif == "auto" and size == header.stored:
            sideways[row] = fits_size, fits_frame
        elif fits_frame:
            settled[row] = _swapped(size, frame)
            unclear += [row] if fits_size and header.stored == header.upright else []  # or data.exif settles it
        else:
            is_contradicted = True

    # Settle images on their side, all alike
    for row, is_stored in _annotated_as_stored(sideways).items():
        settled[row] = _unrotated(images[row][0]) if is_stored else _swapped(images[row][0], images[row][0][::-1])
        num_oblong -= is_stored

    # Take back swaps that no box supports
    num_swapped = sum(found.kind == "swapped_size" for found in settled.values())
    if is_contradicted or num_swapped == len(unclear) < num_oblong:  # nothing shows that the sides are swapped
        for row in unclear:
            settled[row] = Settled(images[row][0], "size_mismatch", _describe_mismatch(*images[row], exif))
    return settled


def _annotated_as_stored(fits: Mapping[int, tuple[bool, bool]]) -> dict[int, bool]:
    """Return which images that EXIF lays on their sides are annotated as stored, all of them with the stored size.

    Args:
        fits: By row, whether its boxes lie in the stored image, and whether in the upright one.
    """
    is_slip = (False, True) in fits.values() and (True, False) not in fits.values()
    return {row: not in_upright or (in_stored and not is_slip) for row, (in_stored, in_upright) in fits.items()}


def _unrotated(size: Size) -> Settled:
    reason = f"is annotated as it is stored, {_name(size)}: its EXIF orientation is not applied"
    return Settled(size, "unrotated_image", reason)


def _swapped(size: Size, frame: Size) -> Settled:
    reason = f"is annotated as {_name(size)}, but its file has {_name(frame)}: width and height are swapped"
    return Settled(frame, "swapped_size", reason)


def _fits(reach: tuple[float, float], size: Size) -> bool:
    return reach[0] <= size[0] + _TOLERANCE and reach[1] <= size[1] + _TOLERANCE


def _describe_mismatch(size: Size, header: Header, exif: Exif) -> str:
    frame = header.frame(exif)
    hint = ""
    if size == header.stored:
        hint = ": its EXIF orientation was not applied when it was annotated; see data.exif"
    elif size == header.upright:
        hint = ": its EXIF orientation was applied when it was annotated; see data.exif"
    elif size == frame[::-1]:
        hint = ": width and height are swapped, or the image was rotated after it was annotated"
    return f"is annotated as {_name(size)} and decodes to {_name(frame)}{hint}"


def _name(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
