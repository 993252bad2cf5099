"""A self-contained HTML page: text, tables and embedded pictures.

Every text is escaped, and nothing is loaded from outside. The same contents give the same page, byte for byte.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image

from rfdetr_hwd.console import printable

_JPEG_QUALITY = 88

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #ffffff; --ink: #1d2127; --soft: #5d6672; --line: #e1e4e8;
  --accent: #2f6fb2; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --card: #1e2227; --ink: #e6e8eb; --soft: #9aa4b0; --line: #333941; --accent: #7fb3e6; }
  img.plot { filter: invert(.88) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p { margin: .25rem 0 1rem; color: var(--soft); max-width: 70ch; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 1rem 0 0; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; padding: .75rem; max-width: 100%; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
img { display: block; max-width: 100%; height: auto; border-radius: .25rem; }
figcaption { margin-top: .5rem; font-size: .875rem; color: var(--soft); max-width: 70ch; }
.table { overflow: auto; max-height: 32rem; margin: 0 0 1rem; width: fit-content; max-width: 100%;
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .35rem .9rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--card); color: var(--soft); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""


@dataclass(frozen=True)
class Picture:
    """A picture with its caption.

    Attributes:
        image: RGB image.
        caption: Text below the picture, also its alternative text.
        is_photo: Embed as JPEG, and keep the colours on a dark page. Plots are embedded as PNG and inverted there.
    """

    image: PIL.Image.Image
    caption: str
    is_photo: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: Column titles.
        rows: Cells, as many as there are titles: text, whole numbers, or `None` for missing values. Columns of numbers
            are right-aligned.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | int | None]]


@dataclass(frozen=True)
class Section:
    """A part of the page: heading, text, tables, pictures, in this order."""

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def build_page(title: str, text: str, sections: Sequence[Section]) -> str:
    """Return a page as HTML.

    Args:
        title: Title of the page.
        text: Text below the title.
        sections: Parts of the page, which are listed in a table of contents.
    """
    links = "\n".join(
        f'<a href="#section-{number}">{_escape(section.heading)}</a>' for number, section in enumerate(sections, 1)
    )
    body = "\n".join(_section(number, section) for number, section in enumerate(sections, 1))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_escape(title)}</h1>\n{_paragraph(text)}<nav>\n{links}\n</nav>\n{body}\n</body>\n</html>\n"
    )


def encode_png(image: PIL.Image.Image) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _section(number: int, section: Section) -> str:
    parts = [f'<section id="section-{number}">\n<h2>{_escape(section.heading)}</h2>\n', _paragraph(section.text)]
    parts += [_table(table) for table in section.tables]
    if section.pictures:
        parts.append('<div class="pictures">\n' + "".join(map(_picture, section.pictures)) + "</div>\n")
    return "".join([*parts, "</section>"])


def _paragraph(text: str) -> str:
    return f"<p>{_escape(text)}</p>\n" if text else ""


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [("",)] * len(table.header)
    kinds = ["" if any(isinstance(cell, str) for cell in column) else ' class="number"' for column in columns]
    head = "".join(f"<th{kind}>{_escape(cell)}</th>" for kind, cell in zip(kinds, table.header, strict=True))
    rows = [
        "<tr>" + "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in table.rows
    ]
    lines = [f"<thead><tr>{head}</tr></thead>", "<tbody>", *rows, "</tbody>"]
    return '<div class="table"><table>\n' + "\n".join(lines) + "\n</table></div>\n"


def _cell(cell: str | int | None) -> str:
    return "-" if cell is None else _escape(cell) if isinstance(cell, str) else f"{cell:,}"


def _picture(picture: Picture) -> str:
    kind, content = ("photo", _encode_jpeg(picture.image)) if picture.is_photo else ("plot", encode_png(picture.image))
    media = "image/jpeg" if picture.is_photo else "image/png"
    source = f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"
    size = f'width="{picture.image.width}" height="{picture.image.height}"'
    caption = _escape(picture.caption)
    tag = f'<img class="{kind}" {size} alt="{caption}" src="{source}">'
    return f"<figure>{tag}<figcaption>{caption}</figcaption></figure>\n"


def _encode_jpeg(image: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _escape(text: str) -> str:
    """Return text that is safe between tags and in quoted attributes, and can be written as UTF-8."""
    return html.escape(printable(text), quote=True)
