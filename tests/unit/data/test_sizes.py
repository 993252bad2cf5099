"""The size that boxes refer to is found: as annotated, or as the file has it where the annotations err."""

import json
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from rfdetr_hwd.data import sizes
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.read import read_split, scan_split

Box = list[float]


def write(root: Path, images: list[tuple[dict[str, object], tuple[int, int], int, list[Box]]]) -> Path:
    """Write a split: for each image the sides it is annotated with, its stored (width, height), EXIF, boxes."""
    folder = root / "train"
    folder.mkdir(parents=True)
    content: dict[str, list] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    for number, (sides, stored, orientation, boxes) in enumerate(images):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        PIL.Image.new("RGB", stored).save(folder / f"{number}.jpg", exif=exif)
        content["images"].append({"id": number, "file_name": f"{number}.jpg", **sides})
        for box in boxes:
            annotation = {"id": len(content["annotations"]), "image_id": number, "category_id": 1, "bbox": box}
            content["annotations"].append({**annotation, "area": 1, "iscrowd": 0})
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def scan(root: Path, every_header: bool = False) -> tuple[DetectionData, Findings]:
    findings = Findings()
    return scan_split(find_layout(root).split("train"), findings, every_header=every_header), findings


def said(findings: Findings) -> dict[str, list[str]]:
    return {kind: [f"{e.who}: {e.reason}" for e in found] for kind, found in findings.examples.items()}


SMALL: Box = [5, 5, 10, 10]
WIDE: Box = [60, 5, 20, 10]  # lies in an image of 96x64, not in one of 64x96
TALL: Box = [5, 60, 10, 20]  # the other way round


@pytest.mark.parametrize(
    "sides",
    [
        {},
        {"width": 0, "height": 0},
        {"width": None, "height": 64},
        {"width": 96},
        {"width": "", "height": ""},
        {"width": -1, "height": -1},
        {"width": "0", "height": 64.0},
    ],
)
def test_a_missing_size_is_read_from_the_file(tmp_path: Path, sides: dict[str, object]) -> None:
    data, findings = scan(write(tmp_path, [(sides, (96, 64), 1, [WIDE]), (sides, (64, 96), 6, [WIDE])]))
    assert data.sizes.tolist() == [[64, 96], [64, 96]]  # the second one upright, as it is read
    about = "has no width and height, but its file has 96x64"
    assert said(findings)["missing_size"] == [f"image 0: {about}", f"image 1: {about}"]
    assert set(findings.counts) <= {"missing_size", "text_value"}


def test_a_missing_size_of_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    root = write(tmp_path, [({}, (96, 64), 1, [SMALL]), ({}, (96, 64), 1, [SMALL])])
    (root / "train" / "1.jpg").write_bytes(b"text")
    with pytest.raises(DatasetError, match=r"1.jpg: image 1: .*it is not an image.*\[unreadable_image\]"):
        read_split(find_layout(root).split("train"))
    assert read_split(find_layout(root).split("train"), ["unreadable_image"]).image_ids.tolist() == [0]


SWAPPED = {"width": 64, "height": 96}
RIGHT = {"width": 96, "height": 64}
FILE = (96, 64)


@pytest.mark.parametrize(
    ("images", "is_swapped"),
    [
        ([(SWAPPED, FILE, 1, [SMALL])] * 3, [True] * 3),  # all images: a slip of the tool's
        ([(SWAPPED, FILE, 1, [SMALL]), (RIGHT, FILE, 1, [SMALL])], [False, False]),  # turned since, for all we know
        ([(SWAPPED, FILE, 1, [WIDE]), (RIGHT, FILE, 1, [SMALL])], [True, False]),
        ([(SWAPPED, FILE, 1, [SMALL]), (SWAPPED, FILE, 1, [WIDE]), (RIGHT, FILE, 1, [])], [True, True, False]),
        ([(SWAPPED, FILE, 1, [TALL])] * 2, [False] * 2),  # turned since
        ([(SWAPPED, FILE, 1, [TALL]), (SWAPPED, FILE, 1, [SMALL])], [False] * 2),
        ([(SWAPPED, FILE, 1, [TALL]), (SWAPPED, FILE, 1, [WIDE])], [False, True]),
        ([(SWAPPED, FILE, 1, [TALL, WIDE])], [False]),
        ([(SWAPPED, FILE, 1, [SMALL]), ({"width": 64, "height": 64}, (64, 64), 1, [SMALL])], [True, False]),
    ],
)
def test_swapped_sides_are_set_right_unless_the_boxes_speak_against_it(
    tmp_path: Path, images: list, is_swapped: list[bool]
) -> None:
    data, findings = scan(write(tmp_path, images), every_header=True)
    expected = [
        [sides["width"], sides["height"]] if swap else [sides["height"], sides["width"]]
        for (sides, *_), swap in zip(images, is_swapped, strict=True)
    ]
    assert data.sizes.tolist() == expected
    about = "is annotated as 64x96, but its file has 96x64: width and height are swapped"
    assert said(findings).get("swapped_size", []) == [
        f"image {i}: {about}" for i, swap in enumerate(is_swapped) if swap
    ]
    wrong = [i for i, (sides, *_) in enumerate(images) if sides is SWAPPED and not is_swapped[i]]
    assert [example.who for example in findings.examples.get("size_mismatch", [])] == [f"image {i}" for i in wrong]
    for row, swap in enumerate(is_swapped):
        if swap:
            assert data.read(row).size == FILE


def test_an_image_annotated_as_stored_keeps_that_size(tmp_path: Path) -> None:
    images = [(RIGHT, FILE, 6, [SMALL]), (SWAPPED, FILE, 6, [SMALL]), (RIGHT, FILE, 1, [SMALL])]
    data, findings = scan(write(tmp_path, images), every_header=True)
    assert data.sizes.tolist() == [[64, 96], [96, 64], [64, 96]]
    about = "is annotated as it is stored, 96x64: its EXIF orientation is not applied"
    assert said(findings) == {"unrotated_image": [f"image 0: {about}"]}


def test_a_stored_size_with_boxes_in_the_upright_image_is_a_slip(tmp_path: Path) -> None:
    data, findings = scan(write(tmp_path, [(RIGHT, FILE, 6, [TALL]), (RIGHT, FILE, 6, [WIDE])]), every_header=True)
    assert data.sizes.tolist() == [[96, 64], [64, 96]]
    assert {kind: [e.who for e in found] for kind, found in findings.examples.items()} == {
        "swapped_size": ["image 0"],
        "unrotated_image": ["image 1"],
    }


def test_another_size_is_an_error_where_every_file_is_looked_at(tmp_path: Path) -> None:
    root = write(tmp_path, [({"width": 50, "height": 40}, FILE, 1, [SMALL]), (RIGHT, FILE, 1, [SMALL])])
    assert scan(root)[1].counts == {}  # in training, an image that cannot be used, which is said when it is decoded
    _, findings = scan(root, every_header=True)
    assert said(findings) == {"size_mismatch": ["image 0: is annotated as 50x40 and decodes to 96x64"]}


@pytest.mark.parametrize("every_header", [False, True])
def test_a_large_split_is_compared_as_a_whole_only_where_a_sample_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_header: bool
) -> None:
    monkeypatch.setattr(sizes, "_SAMPLE", 4)
    read: list[str] = []
    real: Callable = sizes.read_header
    monkeypatch.setattr(sizes, "read_header", lambda path: read.append(path.name) or real(path))
    scan(write(tmp_path / "right", [(RIGHT, FILE, 1, [SMALL])] * 12), every_header)
    assert sorted(read) == sorted(f"{i}.jpg" for i in range(0, 12, 1 if every_header else 3))
    data, findings = scan(write(tmp_path / "swapped", [(SWAPPED, FILE, 1, [SMALL])] * 12), every_header)
    assert findings.counts == {"swapped_size": 12}
    assert data.sizes.tolist() == [[64, 96]] * 12
    square = ({"width": 64, "height": 64}, (64, 64), 3, [SMALL])  # decided by an image that the sample lacks
    told = (RIGHT, FILE, 6, [SMALL])
    data, findings = scan(write(tmp_path / "turned", [square, told, told] * 4), every_header)
    assert (data.is_stored, findings.counts) == (True, {"unrotated_image": 12})


@pytest.mark.parametrize(
    ("boxes", "is_stored"),
    [
        ([TALL, SMALL], False),  # SMALL lies in both: what else is said of the split decides
        ([SMALL, WIDE], True),
        ([SMALL, SMALL], True),
    ],
)
def test_boxes_of_other_images_tell_what_a_stored_size_means(tmp_path: Path, boxes: list[Box], is_stored: bool) -> None:
    data, findings = scan(write(tmp_path, [(RIGHT, FILE, 6, [box]) for box in boxes]), every_header=True)
    assert data.sizes.tolist() == [[64, 96] if is_stored else [96, 64]] * 2
    assert findings.counts == {"unrotated_image" if is_stored else "swapped_size": 2}
    assert [data.read(row).size for row in range(2)] == [FILE if is_stored else (64, 96)] * 2
