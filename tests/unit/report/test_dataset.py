"""The figures of a dataset are those counted by hand, and boxes are drawn where they are."""

import matplotlib
import matplotlib.colors
import numpy as np
import PIL.Image
import PIL.ImageColor
import pytest

from rfdetr_hwd.report import dataset
from rfdetr_hwd.report.lettering import plain
from rfdetr_hwd.report.objects import (
    Objects,
    collect_objects,
    count_aspect_ratios,
    count_per_image,
    count_positions,
    count_sizes,
    side_edges,
)
from rfdetr_hwd.report.plots import render
from rfdetr_hwd.report.samples import PALETTE, Sample, draw_sample, draw_sheet

# Three images, the second without objects. Boxes xyxy, and what follows from them:
#                 side   share of the image    centre in percent   width / height
BOXES = (
    ((0, 0, 16, 64), 32, 32, (8, 32), 1 / 4),  # image 0, 100 x 100
    ((50, 50, 60, 60), 10, 10, (55, 55), 1),
    ((0, 0, 96, 96), 96, 48, (48, 12), 1),  # image 2, 100 wide, 400 high
    ((0, 150, 100, 151), 10, 5, (50, 37.625), 100),
)
LABELS = (1, 0, 1, 1)


class Split:
    """Annotations as a split holds them; the last one is a crowd, which `objects` leaves out."""

    class_names = ("cat", "dog", r"<b>$\frac$</b>")
    sizes = np.array([[100, 100], [50, 80], [400, 100]])
    labels = np.array([*LABELS, 0])

    def objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = {0: [0, 1], 1: [], 2: [2, 3]}[index]
        boxes = np.array([BOXES[row][0] for row in rows], dtype=np.float32).reshape(-1, 4)
        return boxes, np.array([LABELS[row] for row in rows], dtype=np.int64)


def without_objects() -> Objects:
    nothing = np.zeros(0, dtype=np.int64)
    return Objects(("cat",), np.array([[10, 20]]), nothing, nothing, np.zeros((0, 4)), 0)


def test_objects_are_gathered_with_their_images() -> None:
    objects = collect_objects(Split())
    assert objects.boxes_xyxy.tolist() == [list(box) for box, *_ in BOXES]
    assert objects.image_rows.tolist() == [0, 0, 2, 2]
    assert objects.per_class.tolist() == [1, 3, 0]
    assert objects.per_image.tolist() == [2, 0, 2]
    assert objects.num_ignored == 1


def test_sizes_positions_and_shapes_by_hand() -> None:
    objects = collect_objects(Split())
    assert objects.sides.tolist() == [side for _, side, *_ in BOXES]
    assert objects.relative_sizes.tolist() == [relative for _, _, relative, *_ in BOXES]
    assert objects.centres.tolist() == [list(centre) for *_, centre, _ in BOXES]
    assert objects.aspect_ratios.tolist() == [ratio for *_, ratio in BOXES]


def test_sizes_at_the_model_s_input_by_hand() -> None:
    box = np.array([[0.0, 0, 20, 20]])
    one = np.zeros(1, dtype=np.int64)
    objects = Objects(("cat",), np.array([[100, 400]]), one, one, box, 0)
    assert objects.input_sides(200, keeps_aspect=False).tolist() == [20]  # 20 x 20 becomes 10 x 40
    assert objects.input_sides(200, keeps_aspect=True).tolist() == [10]


def test_the_boundaries_of_coco_are_bin_edges() -> None:
    sides = np.array([31.99, 32, 95.99, 96, 3000, 2])
    edges = side_edges(sides)
    assert np.isclose(edges[:, None], [32, 96]).any(axis=0).all()
    assert edges[0] <= 2 < edges[1]
    assert edges[-2] <= 3000 < edges[-1]
    assert np.allclose(np.diff(np.log(edges)), np.log(3) / 8)
    assert count_sizes(sides) == (2, 2, 2)
    counts, _ = np.histogram(sides, edges)
    below, above = edges < 31.9, edges > 95.9
    assert counts[below[:-1]].sum() == 2
    assert counts[above[:-1]].sum() == 2


@pytest.mark.parametrize("side", [32.0, 96.0])
def test_a_side_on_a_boundary_is_counted_above_it(side: float) -> None:
    edges = side_edges(np.array([side]))
    counts, _ = np.histogram([side], edges)
    assert edges[np.argmax(counts)] == side


def test_aspect_ratios_by_hand() -> None:
    edges, counts = count_aspect_ratios(np.array([1, 1.05, 2, 0.5, 0.5, 1000, 1 / 1000]))
    assert len(counts) == 25
    found = {float((edges[i] + edges[i + 1]) / 2): int(counts[i]) for i in np.flatnonzero(counts)}
    assert found == {-3: 1, -1: 2, 0: 2, 1: 1, 3: 1}


def test_positions_by_hand() -> None:
    counts = count_positions(np.array([[0, 0], [4.9, 4.9], [5, 0], [100, 100], [52, 97]]))
    found = {(int(row), int(column)): int(counts[row, column]) for row, column in np.argwhere(counts)}
    assert found == {(0, 0): 2, (0, 1): 1, (19, 19): 1, (19, 10): 1}
    assert counts.shape == (20, 20)


def test_objects_of_an_image_by_hand() -> None:
    edges, counts = count_per_image(np.array([0, 2, 2, 3]))
    assert edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert counts.tolist() == [1, 0, 2, 1]
    edges, counts = count_per_image(np.array([0, 1, 2, 80]))
    assert edges[:3].tolist() == [-0.5, 2.5, 5.5]
    assert (counts[0], counts[26], counts.sum(), len(counts)) == (3, 1, 4, 27)


def test_the_plots_show_the_counts() -> None:
    objects = collect_objects(Split())
    labels = dataset.plot_labels(objects).axes[0]
    assert [patch.get_width() for patch in labels.patches] == [3, 1, 0]
    assert [text.get_text() for text in labels.get_yticklabels()] == ["dog", "cat", r"<b>$\frac$</b>"]
    assert [text.get_text().strip() for text in labels.texts] == ["3 (75.0%)", "1 (25.0%)", "0 (0.0%)"]
    assert [patch.get_facecolor()[:3] for patch in labels.patches] == [
        matplotlib.colors.to_rgb(PALETTE[label]) for label in (1, 0, 2)
    ]
    sides = dataset.plot_sides(objects).axes[0]
    assert [text.get_text() for text in sides.texts] == ["small\n2 (50%)", "medium\n1 (25%)", "large\n1 (25%)"]
    assert dataset.plot_positions(objects).axes[0].images[0].get_array().sum() == 4
    assert [patch.get_height() for patch in dataset.plot_per_image(objects).axes[0].patches] == [1, 0, 2]
    assert sum(patch.get_height() for patch in dataset.plot_aspect_ratios(objects).axes[0].patches) == 4
    sizes = dataset.plot_image_sizes(objects).axes[0]
    assert [text.get_text() for text in sizes.get_yticklabels()] == ["80 x 50", "100 x 100", "100 x 400"]
    relative = dataset.plot_relative_sizes(objects).axes[0].patches[0].get_data()
    assert {int(relative.edges[i]): int(relative.values[i]) for i in np.flatnonzero(relative.values)} == {
        4: 1, 8: 1, 32: 1, 48: 1
    }  # fmt: skip


def test_many_classes_and_many_image_sizes_are_cut_and_scattered() -> None:
    labels = np.repeat(np.arange(50), np.arange(50))
    rows = np.zeros(len(labels), dtype=np.int64)
    sizes = np.array([[100 + row, 200] for row in range(12)])
    objects = Objects(tuple(map(str, range(50))), sizes, rows, labels, np.tile([0.0, 0, 5, 5], (len(labels), 1)), 0)
    axes = dataset.plot_labels(objects).axes[0]
    assert [patch.get_width() for patch in axes.patches] == list(range(49, 9, -1))
    assert axes.texts[0].get_text().strip() == "49 (4.0%)"  # of all 1225 objects
    assert axes.get_title(loc="left") == "Objects of each class (the 40 most frequent of 50)"
    places = dataset.plot_image_sizes(objects).axes[0].collections[0].get_offsets()
    assert places.tolist() == [[200, 100 + row] for row in range(12)]


@pytest.mark.parametrize("objects", [collect_objects(Split()), without_objects()], ids=["some", "none"])
def test_every_plot_becomes_a_picture_and_leaves_no_trace(objects: Objects) -> None:
    before = dict(matplotlib.rcParams)
    for plot in (
        *(dataset.plot_labels, dataset.plot_sides, dataset.plot_relative_sizes, dataset.plot_positions),
        *(dataset.plot_per_image, dataset.plot_aspect_ratios, dataset.plot_image_sizes),
    ):
        picture = render(plot(objects))
        assert picture.mode == "RGB"
        assert picture.width == 726
        assert picture.getpixel((0, 0)) == (255, 255, 255)
        assert picture.tobytes() == render(plot(objects)).tobytes()
    assert dict(matplotlib.rcParams) == before


def colour_extent(image: PIL.Image.Image, label: int) -> list[int]:
    """Return the box around the pixels of a class's colour."""
    rows, columns = np.nonzero((np.asarray(image) == PIL.ImageColor.getrgb(PALETTE[label])).all(axis=-1))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_boxes_are_drawn_where_they_are_in_the_colour_of_their_class() -> None:
    boxes = np.array([[10.0, 20, 60, 50], [70, 30, 90, 80]])
    image = PIL.Image.new("RGB", (100, 90))
    drawn = draw_sample(Sample(image, boxes, np.array([0, 2]), ""), ("a", "b", "c"))
    for label, box in zip((0, 2), boxes.tolist(), strict=True):
        assert np.abs(np.array(colour_extent(drawn, label)) - box).max() <= 2  # the line is 2 pixels wide
    assert image.getextrema() == ((0, 0),) * 3
    assert drawn.getpixel((35, 35)) == (0, 0, 0)


def test_a_sheet_scales_the_boxes_with_their_images() -> None:
    samples = [
        Sample(PIL.Image.new("RGB", (400, 200)), np.array([[40.0, 40, 200, 160]]), np.array([1]), "first.jpg"),
        Sample(PIL.Image.new("RGB", (400, 200)), np.zeros((0, 4)), np.zeros(0, dtype=np.int64), "second.jpg"),
    ]
    sheet = draw_sheet(samples, ("a", "b"), columns=2, cell_size=204, headings=("left", "right"))
    assert sheet.size == (408, 26 + 26 + 100 + 20 + 4)  # legend, headings, image, caption, gap
    tiles = sheet.crop((0, 52, 408, sheet.height))
    expected = [2 + 20, 2 + 20, 2 + 100, 2 + 80]  # half the size, behind the gap
    assert np.abs(np.array(colour_extent(tiles, 1)) - expected).max() <= 2
    assert colour_extent(sheet.crop((0, 0, 408, 26)), 1)[3] <= 20  # the legend


def test_a_narrow_image_stands_in_the_middle_of_its_cell() -> None:
    sample = Sample(PIL.Image.new("RGB", (100, 200)), np.array([[0.0, 0, 100, 200]]), np.array([0]), "")
    sheet = draw_sheet([sample], ("a",), columns=1, cell_size=204)
    found = colour_extent(sheet.crop((0, 26, 204, sheet.height)), 0)
    assert np.abs(np.array(found) - [2 + 55, 2, 2 + 145, 2 + 180]).max() <= 2  # 90 x 180 in a cell of 200


def test_more_classes_than_colours_are_written_on_the_boxes() -> None:
    names = tuple(f"class {i}" for i in range(len(PALETTE) + 1))
    sample = Sample(PIL.Image.new("RGB", (200, 200)), np.array([[50.0, 60, 150, 160]]), np.array([12]), "")
    named, unnamed = draw_sample(sample, names), draw_sample(sample, names[:-1])
    assert (np.asarray(named)[40:58, 50:150] == 255).any()
    assert not (np.asarray(unnamed)[40:58, 50:150] == 255).any()
    sheet = draw_sheet([sample], names, columns=1, cell_size=204)
    assert sheet.height == 180 + 20 + 4  # no legend


def test_text_from_outside_is_printable_and_short() -> None:
    assert plain("a\nb\x1b[31m", 20) == "a?b?[31m"
    assert plain("x" * 9, 9) == "x" * 9
    assert plain("0123456789", 7) == "012…789"
