"""EXIF orientations: decode an image turned upright, or as it is stored, and turn boxes with it."""

import PIL.Image
import PIL.ImageOps

ORIENTATIONS = range(2, 9)
"""EXIF's numbers of the orientations in which something is to be turned."""
SIDEWAYS = (5, 6, 7, 8)
"""Those that exchange height and width."""

_TAG = 0x0112
_TO_LEFT, _TO_TOP = (2, 3, 6, 7), (3, 4, 7, 8)  # where the upright box counts from the stored image's far sides
_UNDO = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_90,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_270,
}


def read_orientation(image: PIL.Image.Image) -> int:
    """Return the EXIF orientation, from 2 to 8; 1 where nothing is to be turned, or there is no such number."""
    orientation = image.getexif().get(_TAG, 1)
    return int(orientation) if orientation in ORIENTATIONS else 1


def stored_size(image: PIL.Image.Image, orientation: int) -> tuple[int, int]:
    """Return (height, width) of the pixels as they are stored, of an image with an orientation not applied yet."""
    is_turned = image.format == "TIFF" and orientation in SIDEWAYS  # whose size Pillow turns itself
    return (image.width, image.height) if is_turned else (image.height, image.width)


def decode_oriented(image: PIL.Image.Image, is_upright: bool = True) -> PIL.Image.Image:
    """Decode an image, and return a copy: turned upright as its EXIF orientation says, or as it is stored."""
    if is_upright:
        return PIL.ImageOps.exif_transpose(image)
    orientation = read_orientation(image)
    image.load()
    # A TIFF is turned by Pillow while it is decoded.
    return image.transpose(_UNDO[orientation]) if image.format == "TIFF" and orientation != 1 else image.copy()


def turn_box(
    box_xywh: tuple[float, float, float, float], stored: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """Return a box of the stored image as it lies in the upright one.

    Args:
        box_xywh: x, y, width, height in pixels.
        stored: (height, width) of the stored image.
        orientation: EXIF's.
    """
    (x, y, width, height), (image_height, image_width) = box_xywh, stored
    if orientation in SIDEWAYS:
        x, y, width, height = y, x, height, width
        image_height, image_width = image_width, image_height
    if orientation in _TO_LEFT:
        x = image_width - x - width
    if orientation in _TO_TOP:
        y = image_height - y - height
    return x, y, width, height
