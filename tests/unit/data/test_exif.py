"""Datasets annotated upright or as stored, in each layout: boxes are read, and written, as they lie in the pictures."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from rfdetr_hwd.curation.check import check_dataset
from rfdetr_hwd.curation.convert import convert
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import Findings
from rfdetr_hwd.data.formats import Exif, Target
from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.data.near_duplicates import hash_images
from rfdetr_hwd.data.read import scan_split
from tests.unit.data.voc_files import voc_xml

WIDTH, HEIGHT = 24, 16
X, Y, W, H = 3, 2, 9, 5  # of the red rectangle in the stored image; it lies in both frames
SIDEWAYS = (5, 6, 7, 8)


def red_box(image: PIL.Image.Image) -> list[float]:
    """Return the rectangle of a picture, xyxy."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 1] > 100)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def write(root: Path, layout: str, is_stored: bool, orientations: range | tuple[int, ...] = range(1, 9)) -> Path:
    """Write a training split with a picture for each orientation, annotated as stored or upright."""
    folder = root / {"yolo": "train/images", "coco": "train", "voc": "JPEGImages"}[layout]
    folder.mkdir(parents=True)
    content: dict[str, list] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    for number in orientations:
        pixels = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
        pixels[Y : Y + H, X : X + W] = 255, 0, 0
        exif = PIL.Image.Exif()
        exif[0x0112] = number
        path = folder / f"{number}.png"
        PIL.Image.fromarray(pixels).save(path, exif=exif)
        with PIL.Image.open(path) as image:
            frame = image.copy() if is_stored else PIL.ImageOps.exif_transpose(image)
        x0, y0, x1, y1 = map(int, red_box(frame))
        sides = {"width": frame.width, "height": frame.height}
        if layout == "coco":
            content["images"].append({"id": number, "file_name": path.name, **sides})
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": W * H, "iscrowd": 0}
            content["annotations"].append({"id": number, "image_id": number, "category_id": 1, **box})
        elif layout == "voc":
            size = f"<width>{frame.width}</width><height>{frame.height}</height>"
            file = root / "Annotations" / f"{number}.xml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(voc_xml(("x", x0 + 1, y0 + 1, x1, y1), size=size, file_name=path.name))
        else:
            values = ((x0 + x1) / 2 / frame.width, (y0 + y1) / 2 / frame.height)
            values += ((x1 - x0) / frame.width, (y1 - y0) / frame.height)
            file = root / "train" / "labels" / f"{number}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"0 {' '.join(map(str, values))}\n")
    if layout == "coco":
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
    elif layout == "yolo":
        (root / "data.yaml").write_text("names: [x]\ntrain: train/images\n")
    else:
        (root / "ImageSets" / "Main").mkdir(parents=True)
        (root / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{number}\n" for number in orientations))
    return root


def write_shard(root: Path, is_stored: bool) -> Path:
    """Write the same in a tar file, as upstream packs a COCO split."""
    folder = write(root / "unpacked", "coco", is_stored) / "train"
    content = json.loads((folder / "_annotations.coco.json").read_text())
    with tarfile.open(root / "train-0.tar", "w") as tar:
        for image, annotation in zip(content["images"], content["annotations"], strict=True):
            (folder / "sample.json").write_text(json.dumps({"image_id": image["id"], "annotations": [annotation]}))
            tar.add(folder / "sample.json", f"{image['id']}.json")
            tar.add(folder / image["file_name"], image["file_name"])
    index = {"shards": ["train-0.tar"], "categories": content["categories"]}
    (root / "train-index.json").write_text(json.dumps(index))
    shutil.rmtree(root / "unpacked")
    return root


def write_any(root: Path, layout: str, is_stored: bool) -> Path:
    return write_shard(root, is_stored) if layout == "webdataset" else write(root, layout, is_stored)


def scan(root: Path, exif: Exif = "auto") -> tuple[DetectionData, Findings]:
    findings = Findings()
    return scan_split(find_layout(root).split("train"), findings, ReadOptions(exif=exif), every_header=True), findings


def right_boxes(data: DetectionData) -> list[int]:
    """Return the orientations whose box is the rectangle of the image as it is read."""
    return [
        int(Path(str(data.file_names[row])).stem)
        for row in range(len(data))
        if np.abs(data.objects(row)[0] - red_box(data.read(row))).max() < 1e-3
    ]


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc", "webdataset"])
@pytest.mark.parametrize(("is_stored", "exif"), [(False, "apply"), (False, "auto"), (True, "ignore")])
def test_what_the_key_says_is_what_is_read(tmp_path: Path, layout: str, is_stored: bool, exif: Exif) -> None:
    data, findings = scan(write_any(tmp_path, layout, is_stored), exif)
    assert right_boxes(data) == list(range(1, 9))
    assert findings.counts == {}
    sides = [[HEIGHT, WIDTH] if is_stored or number not in SIDEWAYS else [WIDTH, HEIGHT] for number in range(1, 9)]
    assert data.sizes.tolist() == sides


@pytest.mark.parametrize("layout", ["coco", "voc"])
def test_auto_takes_the_stored_size_for_what_it_is(tmp_path: Path, layout: str) -> None:
    """And lets it decide for the images whose size does not tell."""
    data, findings = scan(write(tmp_path, layout, is_stored=True))
    assert right_boxes(data) == list(range(1, 9))
    assert right_boxes(data.take(np.arange(1, 4), "part")) == [2, 3, 4]
    assert findings.counts == {"unrotated_image": 7}
    undecided = [found.reason for found in findings.examples["unrotated_image"] if "does not tell" in found.reason]
    assert len(undecided) == 3
    assert "as the 4 images here whose size tells are annotated as they are stored" in undecided[0]
    _, findings = scan(write(tmp_path / "upright", layout, is_stored=False, orientations=(1, 2, 3, 4)))
    assert findings.counts == {}


def annotate_upright(root: Path, number: int) -> None:
    """Change the annotations of an image that EXIF lays on its side to those of the upright one."""
    path = root / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    (image,) = (image for image in content["images"] if image["id"] == number)
    image.update(width=image["height"], height=image["width"])
    path.write_text(json.dumps(content))


def test_where_both_are_annotated_nothing_decides_for_the_others(tmp_path: Path) -> None:
    """They are turned upright, which is said."""
    annotate_upright(write(tmp_path, "coco", is_stored=True), 5)
    data, findings = scan(tmp_path)
    assert right_boxes(data)[:1] == [1]
    assert not {2, 3, 4}.intersection(right_boxes(data))
    assert findings.counts == {"unrotated_image": 3, "unclear_rotation": 3}
    assert "set data.exif=ignore" in findings.examples["unclear_rotation"][0].reason


def test_a_size_that_is_missing_is_that_of_the_stored_image_where_the_others_are_so(tmp_path: Path) -> None:
    path = write(tmp_path, "coco", is_stored=True) / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    for image in content["images"][-2:]:
        del image["width"]
    path.write_text(json.dumps(content))
    data, findings = scan(tmp_path)
    assert right_boxes(data) == list(range(1, 9))
    assert data.sizes.tolist() == [[HEIGHT, WIDTH]] * 8
    assert findings.counts == {"unrotated_image": 7}


def test_what_boxes_refer_to_is_in_the_fingerprint(tmp_path: Path) -> None:
    """Also where no size tells; it is as it was for whoever does not use the key."""
    write(tmp_path, "coco", is_stored=True, orientations=(1, 3))
    auto, apply, ignore = (scan(tmp_path, exif)[0].fingerprint for exif in ("auto", "apply", "ignore"))  # type: ignore[arg-type]
    assert auto == apply != ignore
    write(tmp_path / "told", "coco", is_stored=True)
    auto, apply, ignore = (scan(tmp_path / "told", exif)[0].fingerprint for exif in ("auto", "apply", "ignore"))  # type: ignore[arg-type]
    assert auto == ignore != apply


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc", "webdataset"])
@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_a_conversion_writes_upright_boxes(tmp_path: Path, layout: str, is_stored: bool, to: Target) -> None:
    write_any(tmp_path / "in", layout, is_stored)
    options = ReadOptions(exif="ignore" if is_stored else "apply")
    result = convert(find_layout(tmp_path / "in"), to, tmp_path / "out", (), options)
    for exif in ("auto", "apply"):
        data, findings = scan(tmp_path / "out", exif)  # type: ignore[arg-type]
        assert right_boxes(data) == list(range(1, 9))
        assert findings.counts == {}
    for row in range(8):  # a reader that applies EXIF, and knows of nothing else
        with PIL.Image.open(data.path(row)) as image:
            turned = PIL.ImageOps.exif_transpose(image)
        np.testing.assert_allclose(data.objects(row)[0][0], red_box(turned), atol=1e-3)
    turned_note, changed_note = (
        "images with an EXIF orientation: boxes refer to the upright image, so readers must apply it",
        "images annotated as stored: their boxes were rotated upright",
    )
    (written,) = result.written
    notes = {turned_note: 7, changed_note: 7} if is_stored else {turned_note: 7}
    assert {note: count for note, count in written.notes.items() if "EXIF" in note or "stored" in note} == notes


def test_a_wrong_size_of_a_tool_is_that_of_the_image_as_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, "voc", is_stored=True)
    for path in tmp_path.glob("Annotations/*.xml"):
        path.write_text(re.sub("<size>.*</size>", "<size><width>5</width><height>5</height></size>", path.read_text()))
    data, findings = scan(tmp_path, "ignore")
    assert right_boxes(data) == list(range(1, 9))
    assert findings.counts == {"other_size": 8}
    for path in tmp_path.glob("Annotations/*.xml"):
        path.write_text(re.sub("<xmax>[0-9]*<", f"<xmax>{WIDTH}<", path.read_text()))  # in the stored image alone
    assert scan(tmp_path, "ignore")[1].counts == {"other_size": 8}


def test_images_are_compared_as_they_are_read(tmp_path: Path) -> None:
    write(tmp_path, "coco", is_stored=True)
    hashes = {exif: hash_images(scan(tmp_path, exif)[0]).values.tolist() for exif in ("auto", "ignore")}  # type: ignore[arg-type]
    assert len(set(hashes["ignore"])) == 1
    assert hashes["auto"] == hashes["ignore"]
    annotate_upright(tmp_path, 5)
    mixed = hash_images(scan(tmp_path)[0]).values.tolist()
    assert set(mixed[5:]) == {mixed[0]}, "those that are annotated as stored"
    assert len(set(mixed)) > 1


def test_auto_converts_each_image_by_its_size(tmp_path: Path) -> None:
    write(tmp_path / "in", "coco", is_stored=True, orientations=range(1, 9))
    (written,) = convert(find_layout(tmp_path / "in"), "coco", tmp_path / "out").written
    assert [count for note, count in written.notes.items() if "upright" in note] == [7, 7]
    data, findings = scan(tmp_path / "out", "apply")
    assert right_boxes(data) == list(range(1, 9))
    assert data.sizes.tolist() == [[HEIGHT, WIDTH]] * 4 + [[WIDTH, HEIGHT]] * 4
    assert findings.counts == {}


@pytest.mark.parametrize(
    ("exif", "kinds"),
    [
        ("auto", {"unrotated_image": 7}),
        ("ignore", {"unrotated_image": 7}),
        ("apply", {"swapped_size": 4, "rotated_image": 7}),
    ],
)
def test_the_check_says_how_images_are_read(tmp_path: Path, exif: Exif, kinds: dict[str, int]) -> None:
    write(tmp_path, "coco", is_stored=True)
    report = check_dataset(find_layout(tmp_path), True, 300, exif=exif)
    about = {"unrotated_image", "unclear_rotation", "rotated_image", "swapped_size", "size_mismatch"}
    assert {kind: count for kind, count in report.findings.counts.items() if kind in about} == kinds
