"""Class names are drawn in a font that has their characters, or as numbers with a legend: never as empty boxes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import supervision as sv
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib.tables._g_l_y_f import Glyph
from matplotlib.font_manager import findSystemFonts

from rfdetr_hwd.report import lettering
from rfdetr_hwd.report.dataset import plot_labels
from rfdetr_hwd.report.legend import write_legend
from rfdetr_hwd.report.lettering import DEFAULT_FONT, drawable_names, drawable_text, find_font, legend, plain
from rfdetr_hwd.report.objects import Objects
from rfdetr_hwd.report.pictures import draw_detections
from rfdetr_hwd.report.plots import render
from rfdetr_hwd.report.samples import Sample, draw_sheet

CAT, DOG, ARABIC = "猫", "개", "قط"
BOXES = np.array([[8.0, 40, 120, 120], [140, 40, 240, 120]])

Install = Callable[..., Path]


def square() -> Glyph:
    """Return a glyph that fills its place."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    return pen.glyph()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make a font file with a full square for each of some characters, the only one that this machine has."""
    paths: list[str] = []
    monkeypatch.setattr(lettering, "findSystemFonts", lambda: paths)

    def clear() -> None:
        for cached in (lettering._system_fonts, lettering._find_font, lettering._can_shape):
            cached.cache_clear()

    def make(characters: str, name: str = "Font.ttf") -> Path:
        names = [".notdef", *(f"u{ord(character):x}" for character in characters)]
        font = FontBuilder(1000, isTTF=True)
        font.setupGlyphOrder(names)
        font.setupCharacterMap({ord(character): f"u{ord(character):x}" for character in characters})
        font.setupGlyf({name: square() for name in names})
        font.setupHorizontalMetrics({name: (1000, 0) for name in names})
        font.setupHorizontalHeader(ascent=900, descent=-100)
        font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
        font.setupOS2()
        font.setupPost()
        font.save(tmp_path / name)
        paths.append(str(tmp_path / name))
        clear()
        return tmp_path / name

    clear()
    yield make
    monkeypatch.undo()
    clear()


BESIDE = " 0123456789.#…?"


def pictures(names: list[str]) -> list[np.ndarray]:
    """Draw two classes wherever class names are drawn: on detections, sheets with and without labels, and a plot."""
    image = PIL.Image.new("RGB", (256, 128), "gray")
    detections = sv.Detections(xyxy=BOXES, confidence=np.array([0.9, 0.8]), class_id=np.array([0, 1]))
    sample = Sample(image, BOXES, np.array([0, 1]), "")
    many = [*names, *(f"class {i}" for i in range(12))]
    objects = Objects(tuple(names), np.array([[128, 256]]), np.zeros(2, dtype=int), np.array([0, 1]), BOXES, 0)
    drawn = [
        draw_detections(image, detections, drawable_names(names)),
        draw_sheet([sample], names, 1, 200),
        draw_sheet([sample], many, 1, 200),
        render(plot_labels(objects)),
    ]
    return [np.asarray(picture) for picture in drawn]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> list[bool]:
    return [np.array_equal(a, b) for a, b in zip(one, other, strict=True)]


def test_without_a_font_a_class_is_numbered_in_every_picture(install: Install) -> None:
    assert drawable_names(["a", CAT, "Größe", DOG]) == ["a", "#2", "Größe", "#4"]
    assert legend(["a", CAT, "Größe", DOG]) == [f"#2 {CAT}", f"#4 {DOG}"]
    assert same(pictures(["a", CAT]), pictures(["a", "#2"])) == [True] * 4
    assert same(pictures(["a", CAT]), pictures(["a", "#3"])) == [False] * 4


def test_a_font_that_has_the_characters_is_found_and_used_in_every_picture(install: Install) -> None:
    install(BESIDE + DOG, "Aaa.ttf")
    font = install(BESIDE + CAT)
    assert find_font(CAT) == font
    assert find_font("a") == DEFAULT_FONT
    assert find_font(f"{CAT}a") is None  # in one font, or not at all
    assert drawable_names(["a", CAT, f"{CAT}a"]) == ["a", CAT, "#3"]
    assert same(pictures(["a", CAT]), pictures(["a", "#2"])) == [False] * 4
    image = PIL.Image.new("RGB", (1000, 800), "gray")
    detections = sv.Detections(xyxy=np.array([[0.0, 400, 500, 700]]), confidence=np.ones(1), class_id=np.array([0]))
    drawn = np.asarray(draw_detections(image, detections, [CAT]))
    rows, columns = np.nonzero((drawn[:400, :12] == 255).all(axis=-1))  # of the label's first letter
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) > 80  # the square, without a gap


def test_a_font_without_digits_is_not_enough_for_a_label(install: Install) -> None:
    install(CAT)
    assert drawable_names([CAT]) == ["#1"]


def test_fonts_that_pretend_or_are_damaged_are_passed_over(install: Install, tmp_path: Path) -> None:
    install(BESIDE + CAT, "LastResort.ttf")
    damaged = install(BESIDE + CAT, "Corrupt.ttf")
    damaged.write_bytes(damaged.read_bytes()[:200])
    (tmp_path / "Empty.ttf").touch()
    lettering._characters.cache_clear()
    assert find_font(CAT) is None


def test_upright_sans_serif_comes_first(install: Install) -> None:
    for name in ("ABold.ttf", "BSerif.ttf", "ZSans.ttf"):
        install(BESIDE + CAT, name)
    font = find_font(CAT)
    assert font is not None
    assert font.name == "ZSans.ttf"


def test_a_script_whose_letters_join_is_numbered_where_nothing_joins_them(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    for can_shape, drawn in ((True, ARABIC), (False, "#1")):
        monkeypatch.setattr(lettering, "_can_shape", lambda can_shape=can_shape: can_shape)
        lettering._find_font.cache_clear()
        assert drawable_names([ARABIC]) == [drawn]
        monkeypatch.undo()


def test_file_names_keep_what_can_be_drawn(install: Install) -> None:
    assert drawable_text(f"Größe {CAT} 1.jpg") == "Größe ? 1.jpg"
    install(BESIDE + CAT + "Größejpg")
    assert drawable_text(f"Größe {CAT} 1.jpg") == f"Größe {CAT} 1.jpg"


def test_text_is_made_plain() -> None:
    assert plain("a\nb\x1b[31m", 20) == "a?b?[31m"
    assert plain("e\u0301a", 9) == "éa"  # one letter, in whichever way it is written
    assert plain("\u2764\ufe0f", 9) == "\u2764"  # without the selector of a coloured picture
    assert plain("a\u202eb", 9) == "ab"  # nothing turns the rest around
    assert plain("0123456789", 7) == "012…789"


def test_the_legend_is_written_where_classes_are_numbered(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_legend(tmp_path, ["a", "b"])
    assert not (tmp_path / "legend.txt").exists()
    write_legend(tmp_path, ["a", CAT, DOG])
    assert (tmp_path / "legend.txt").read_text(encoding="utf-8") == f"#2 {CAT}\n#3 {DOG}\n"
    assert f"2 class names. For their numbers see {tmp_path / 'legend.txt'}" in " ".join(
        capsys.readouterr().out.split()
    )


def test_the_fonts_of_this_machine_can_be_listed() -> None:
    assert all(Path(path).is_file() for path in findSystemFonts())
