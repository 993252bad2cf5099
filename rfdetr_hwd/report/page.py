"""A self-contained HTML page: text, tables and embedded pictures.

The template is in page.html. Every text is escaped, and nothing is loaded from outside. The same contents give the
same page, byte for byte.
"""

import base64
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import jinja2
import PIL.Image

from rfdetr_hwd.console import printable

_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Picture:
    """A picture with its caption.

    Attributes:
        image: RGB image.
        caption: Text below the picture, also its alternative text.
        is_photo: Embed as JPEG, and keep the colours on a dark page. Plots are embedded as PNG and inverted there.
        quality: Of the JPEG.
    """

    image: PIL.Image.Image
    caption: str
    is_photo: bool = False
    quality: int = _JPEG_QUALITY

    def data_url(self) -> str:
        """Return the encoded image as a URL, so that the page needs no other file."""
        media, content = (
            ("jpeg", encode_jpeg(self.image, self.quality)) if self.is_photo else ("png", encode_png(self.image))
        )
        return f"data:image/{media};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True)
class Link:
    """A table cell that links to a section of the page, which is named by its heading."""

    text: str
    heading: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: Column titles.
        rows: Cells, as many as there are titles: text, whole numbers, links, or `None` for missing values. Other
            numbers are formatted by the caller.
        numeric: Titles of columns whose texts are numbers. They are right-aligned, like columns of whole numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | int | Link | None]]
    numeric: Collection[str] = ()

    def numeric_columns(self) -> list[bool]:
        """Return whether each column is right-aligned."""
        columns = list(zip(*self.rows, strict=True)) or [("",)] * len(self.header)
        return [
            title in self.numeric or not any(isinstance(cell, str | Link) for cell in column)
            for title, column in zip(self.header, columns, strict=True)
        ]


@dataclass(frozen=True)
class Section:
    """A part of the page: heading, text, tables, legend, pictures, in this order.

    Attributes:
        heading: Heading.
        text: Text below it.
        tables: Tables.
        pictures: Pictures that are seen at once.
        more: Pictures that are seen after a click.
        legend: Meaning and colour of each kind of mark in the pictures. Colours are CSS colours.
    """

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    more: Sequence[Picture] = ()
    legend: Sequence[tuple[str, str]] = ()


def build_page(title: str, text: str, sections: Sequence[Section], lead: Sequence[str] = ()) -> str:
    """Return a page as HTML.

    Args:
        title: Title of the page.
        text: Text below the title.
        sections: Parts of the page, which are listed in a table of contents. Linked headings are unique.
        lead: Sentences that stand out below the title.

    Raises:
        jinja2.UndefinedError: A link names a heading that the page does not have.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rfdetr_hwd", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_without_control_characters,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    numbers = {section.heading: number for number, section in enumerate(sections, 1)}
    template = environment.get_template("page.html")
    return template.render(title=title, text=text, sections=sections, numbers=numbers, lead=lead)


def encode_png(image: PIL.Image.Image) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def encode_jpeg(image: PIL.Image.Image, quality: int) -> bytes:
    """Return an image as a JPEG file with colours in full resolution: coloured lines stay sharp."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _without_control_characters(value: object) -> object:
    """Return a value of the template as it can be written in UTF-8. Escaping for HTML follows, and keeps `Markup`."""
    return printable(value) if type(value) is str else value
