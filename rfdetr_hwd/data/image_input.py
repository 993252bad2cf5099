"""Convert images to 8-bit RGB: paths, PIL images, arrays and tensors."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torch import Tensor

from rfdetr_hwd.data.images import USUAL, ImageError, ReadOptions, read_image, to_rgb

ImageLike = str | os.PathLike[str] | PIL.Image.Image | NDArray[Any] | Tensor
"""One image.

A path: a file in a format of `rfdetr_hwd.data.images`. A PIL image: of any mode with 8 or 16 bits. Both are rotated
upright by their EXIF orientation, unless `data.exif` is `ignore`. A NumPy array: (H, W, 3) RGB, (H, W, 4) RGBA, of
which the alpha channel is dropped, (H, W) or (H, W, 1) grey. A tensor: the same with the channels first, on any device.
Arrays and tensors hold uint8, or floating-point numbers in [0, 1], which are rounded to 8 bits.
"""

_KINDS = "a path, a PIL image, a NumPy array (H, W, 3) or a tensor (3, H, W)"


def is_image(images: object) -> bool:
    """Return whether it is one image rather than several: an array or tensor with four axes is a batch."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim != 4
    return isinstance(images, str | os.PathLike | PIL.Image.Image)


def check_images(images: object) -> Iterable[object]:
    """Return several images as they are.

    Raises:
        ImageError: The value is no collection of images.
    """
    if isinstance(images, Iterable) and not isinstance(images, bytes | bytearray | memoryview | dict):
        return images
    raise ImageError(f"expected an image or a list of images, not {_named(images)}; an image is {_KINDS}")


def as_rgb(image: object, name: str, options: ReadOptions = USUAL) -> PIL.Image.Image:
    """Return an image as 8-bit RGB.

    Args:
        image: An `ImageLike`.
        name: Its name in messages.
        options: How files and PIL images are read.

    Raises:
        ImageError: It is of another kind, type, shape or range, or cannot be decoded.
    """
    try:
        if isinstance(image, str) and image.startswith(("http://", "https://")):
            raise ImageError("it is a URL, which `rfdetr-hwd predict` reads: download it first")
        if isinstance(image, str | os.PathLike):
            return read_image(Path(image), options=options)
        if isinstance(image, PIL.Image.Image):
            if not image.width or not image.height:
                raise ImageError(f"it has no pixels: {image.width}x{image.height}")
            return to_rgb(image, options)
        if isinstance(image, Tensor):
            return _from_array(_to_array(image), "channels, height, width")
        if isinstance(image, np.ndarray):
            return _from_array(image, "height, width, channels")
    except MemoryError:
        raise
    except Exception as error:  # PIL decodes late, and its decoders raise many kinds
        raise ImageError(f"{name}: {error}") from None
    raise ImageError(f"{name} is {_named(image)}; an image is {_KINDS}")


def _to_array(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array with its channels last."""
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def _from_array(array: NDArray[Any], order: str) -> PIL.Image.Image:
    """Return an array with its channels last as an image. `order` names the axes of the user's array in messages."""
    num_channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or num_channels not in (1, 3, 4) or not array.size:
        shape = array.shape if order.startswith("height") or array.ndim != 3 else (num_channels, *array.shape[:2])
        raise ImageError(f"the shape {tuple(shape)} is not ({order}) with 1, 3 or 4 channels and at least one pixel")
    if num_channels == 1:
        array = array.reshape(array.shape[:2])
    pixels = array if array.dtype == np.uint8 else _to_8_bits(array)
    return to_rgb(PIL.Image.fromarray(np.ascontiguousarray(pixels)))


def _to_8_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"the type {array.dtype} is neither uint8 nor floating-point numbers in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN compares false
        raise ImageError(f"floating-point numbers must be in [0, 1], but these range from {low:g} to {high:g}")
    return np.round(array * 255).astype(np.uint8)


def _named(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
