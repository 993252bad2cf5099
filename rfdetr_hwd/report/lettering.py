"""Draw text in fonts that have its characters. A class name that no installed font has is replaced by a number."""

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import PIL.features
import PIL.ImageFont
from matplotlib import ft2font
from matplotlib.font_manager import findSystemFonts
from numpy.typing import NDArray

DEFAULT_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
_AVOIDED = ("bold", "italic", "oblique", "mono", "serif", "thin", "light", "black", "condensed")
_PRETENDING = ("lastresort", "blank")
_JOINERS = "\u200c\u200d"  # control how letters join, in Persian and in the scripts of India
_PLACEHOLDER = "?"
_BESIDE = frozenset(" 0123456789.#…?")  # characters beside a name in one label


def plain(text: str, limit: int) -> str:
    """Return text of at most `limit` characters that can be printed, with an ellipsis for the part cut from its middle.

    Accents are composed with their letters. Characters without a width are removed, except joiners.
    """
    composed = unicodedata.normalize("NFC", text)
    shown = "".join(
        character if character.isprintable() or character in _JOINERS else _PLACEHOLDER
        for character in composed
        if character in _JOINERS or not (unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f")
    )
    if len(shown) <= limit:
        return shown
    return f"{shown[: (limit - 1) // 2]}…{shown[len(shown) - limit // 2 :]}"


def find_font(text: str) -> Path | None:
    """Return a font file with a glyph for every character of a text, for digits and for the ellipsis, if any."""
    if _needs_shaping(text) and not _can_shape():
        return None
    return _find_font(frozenset(text).difference(_JOINERS) | _BESIDE)


def drawable_names(class_names: Sequence[str]) -> list[str]:
    """Return the class names as they are drawn: `#` and label + 1 for a name that no installed font has."""
    return [name if find_font(plain(name, len(name))) else f"#{label}" for label, name in enumerate(class_names, 1)]


def legend(class_names: Sequence[str]) -> list[str]:
    """Return a line for each class that is drawn as a number: the number and the name."""
    pairs = zip(drawable_names(class_names), class_names, strict=True)
    return [f"{drawn} {name}" for drawn, name in pairs if drawn != name]


def drawable_text(text: str) -> str:
    """Return a text. If no font has all of it, characters that the default font lacks become question marks."""
    if find_font(text):
        return text
    return "".join(character if find_font(character) == DEFAULT_FONT else _PLACEHOLDER for character in text)


def font_of(text: str) -> Path:
    """Return the font file that a drawable text is drawn in."""
    return find_font(text) or DEFAULT_FONT


def load_font(text: str, size: int) -> PIL.ImageFont.FreeTypeFont:
    """Return the font that a drawable text is drawn in, of a size in pixels."""
    layout = PIL.ImageFont.Layout.RAQM if _needs_shaping(text) else PIL.ImageFont.Layout.BASIC
    return _load_font(font_of(text), size, layout)


@functools.cache
def _load_font(path: Path, size: int, layout: PIL.ImageFont.Layout) -> PIL.ImageFont.FreeTypeFont:
    return PIL.ImageFont.truetype(path, size, layout_engine=layout)


def _needs_shaping(text: str) -> bool:
    """Return whether a text needs a layout engine: Arabic, Hebrew, scripts of India, Thai."""
    return any(
        character in _JOINERS
        or unicodedata.bidirectional(character) in ("R", "AL")
        or unicodedata.category(character) in ("Mn", "Mc", "Me")
        for character in text
    )


@functools.cache
def _can_shape() -> bool:
    """Return whether Pillow and matplotlib have a layout engine for such text."""
    return bool(PIL.features.check("raqm")) and hasattr(ft2font, "__libraqm_version__")


@functools.cache
def _find_font(characters: frozenset[str]) -> Path | None:
    codes = np.array(sorted(map(ord, characters)), dtype=np.uint32)
    if np.isin(codes, _characters(DEFAULT_FONT)).all():
        return DEFAULT_FONT
    return next((path for path in _system_fonts() if np.isin(codes, _characters(path)).all()), None)


@functools.cache
def _system_fonts() -> tuple[Path, ...]:
    """Return the installed font files, upright sans serif first, without fallback fonts of boxes."""
    paths = [Path(path) for path in findSystemFonts()]
    honest = [path for path in paths if not any(word in path.stem.lower() for word in _PRETENDING)]
    return tuple(sorted(honest, key=lambda path: (sum(word in path.stem.lower() for word in _AVOIDED), path)))


@functools.cache
def _characters(path: Path) -> NDArray[np.uint32]:
    """Return the characters that a font has outlines for. There are none if it cannot be loaded."""
    try:
        font = ft2font.FT2Font(str(path))
        if not font.scalable:  # coloured bitmaps of one size
            return np.zeros(0, dtype=np.uint32)
        PIL.ImageFont.truetype(path, 12)
        return np.fromiter(font.get_charmap(), dtype=np.uint32)
    except (OSError, RuntimeError, ValueError):
        return np.zeros(0, dtype=np.uint32)
