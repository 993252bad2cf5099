"""A page escapes what it is given, loads nothing from outside, and is the same for the same contents."""

import base64
import io
import re
from html.parser import HTMLParser

import jinja2
import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.console import printable
from rfdetr_hwd.report.page import Link, Picture, Section, Table, build_page, encode_png

HOSTILE = "<script>alert('1')</script> \"&\" <img src=x onerror=alert(1)>"
ESCAPED = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &#34;&amp;&#34; &lt;img src=x onerror=alert(1)&gt;"
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Collects tags, attributes and texts, and holds that every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def picture(is_photo: bool = False) -> Picture:
    pixels = np.arange(30 * 20 * 3, dtype=np.uint8).reshape(20, 30, 3)
    return Picture(PIL.Image.fromarray(pixels), f"caption {HOSTILE}", is_photo)


def page() -> str:
    table = Table((HOSTILE, "number"), [(HOSTILE, 1234567), ("b", None)])
    sections = [
        Section("First", "Text.", tables=[table], pictures=[picture(), picture(is_photo=True)]),
        Section(f"Second {HOSTILE}", HOSTILE, tables=[Table(("empty",), [])]),
    ]
    return build_page(f"Title {HOSTILE}", f"Lead {HOSTILE}", sections)


def without_pictures(text: str) -> str:
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", text)


def test_every_text_is_escaped() -> None:
    text, reader = page(), Reader(page())
    assert "script" not in reader.tags
    assert reader.tags.count("img") == 2
    assert not {name for name, _ in reader.attributes if name.startswith("on")}
    # title twice, lead, heading and its link, text, two cells, two captions as text and as attribute
    assert text.count(ESCAPED) == 2 + 1 + 2 + 1 + 2 + 4
    assert "<script" not in text
    for expected in (f"Title {HOSTILE}", f"Lead {HOSTILE}", f"Second {HOSTILE}", HOSTILE, f"caption {HOSTILE}"):
        assert expected in reader.texts
    assert {value for name, value in reader.attributes if name == "alt"} == {f"caption {HOSTILE}"}


def test_nothing_comes_from_outside() -> None:
    text, reader = without_pictures(page()), Reader(page())
    for word in ("http", "//", "url(", "@import", "<link", "<iframe"):
        assert word not in text
    links = [value or "" for name, value in reader.attributes if name in ("src", "href")]
    assert [link.partition(",")[0] for link in links] == [
        *("#section-1", "#section-2", "data:image/png;base64", "data:image/jpeg;base64")
    ]
    ids = [value for name, value in reader.attributes if name == "id"]
    assert ids == ["section-1", "section-2"]


def test_pictures_are_embedded_whole() -> None:
    sources = [base64.b64decode(content) for content in re.findall(r"base64,([A-Za-z0-9+/=]+)", page())]
    assert sources[0] == encode_png(picture().image)
    plot, photo = (PIL.Image.open(io.BytesIO(source)) for source in sources)
    assert np.array_equal(np.asarray(plot), np.asarray(picture().image))
    assert (photo.format, photo.size) == ("JPEG", (30, 20))
    assert 'width="30" height="20"' in page()


def test_numbers_are_written_with_separators_and_set_to_the_right() -> None:
    text = page()
    assert '<td class="number">1,234,567</td>' in text
    assert '<td class="number">-</td>' in text
    assert '<th class="number">number</th>' in text
    assert "<td>b</td>" in text
    assert "<th>empty</th>" in text


def test_the_page_follows_the_reader_s_colours() -> None:
    assert "@media (prefers-color-scheme: dark)" in page()
    assert "color-scheme: light dark" in page()


def test_the_same_contents_give_the_same_page() -> None:
    assert page() == page()


def test_a_lone_surrogate_can_be_written() -> None:
    assert "a\\ud800b" in build_page("a\ud800b", "", []).encode("utf-8").decode("utf-8")


def test_a_cell_links_to_a_section() -> None:
    table = Table(("class", "AP"), [(Link(HOSTILE, f"Class {HOSTILE}"), "0.5000")], numeric=("AP",))
    text = build_page("", "", [Section("Classes", tables=[table]), Section(f"Class {HOSTILE}")])
    assert f'<td><a href="#section-2">{ESCAPED}</a></td><td class="number">0.5000</td>' in text
    assert '<th>class</th><th class="number">AP</th>' in text


def test_a_link_to_a_section_that_is_not_there_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="no attribute 'elsewhere'"):
        build_page("", "", [Section("here", tables=[Table(("class",), [(Link("car", "elsewhere"),)])])])


def test_many_sections_have_plain_numbers_in_their_links() -> None:
    table = Table(("class",), [(Link("last", "heading 1200"),)])
    text = build_page("", "", [Section("Classes", tables=[table]), *(Section(f"heading {n}") for n in range(2, 1201))])
    assert '<td><a href="#section-1200">last</a></td>' in text
    assert text.count('"#section-') == 1201


@pytest.mark.parametrize("name", ["a\x00b", "a\x1b[2Jb", "\udcff", "{{ title }}", "{% raw %}", "</td>"])
def test_a_hostile_name_stays_a_text_wherever_it_stands(name: str) -> None:
    table = Table((name,), [(name,), (Link(name, name),)], numeric=(name,))
    image = Picture(picture().image, name)
    reader = Reader(build_page(name, name, [Section(name, name, [table], [image])]))
    shown = printable(name)
    assert shown.isprintable()
    # title twice, lead, link, heading, text, column, two cells, caption
    assert reader.texts.count(shown) == 10
    assert ("alt", shown) in reader.attributes
