"""The doctor finds in a dataset on disk what was put there, and nothing in one that is sound."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.curation.check import Report, check_dataset
from rfdetr_hwd.data.annotations import ClassMap
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import KINDS, DatasetError


def check(root: Path, decode: bool = True, num_queries: int = 300) -> Report:
    return check_dataset(find_layout(root), decode, num_queries)


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes_root, tmp_path / "data"))


def edit(root: Path, split: str, change: Callable[[dict], None]) -> None:
    path = root / split / "_annotations.coco.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_sound_dataset_has_no_errors(root: Path) -> None:
    report = check(root)
    assert report.findings.kinds("error") == []
    assert [(split.name, split.images) for split in report.splits] == [("train", 24), ("valid", 8), ("test", 2)]
    content = json.loads((root / "train" / "_annotations.coco.json").read_text())
    assert sum(report.splits[0].objects.values()) == len(content["annotations"])


def image(root: Path, number: int) -> Path:
    return root / "train" / f"train_{number:05d}.jpg"


def truncate(root: Path) -> None:
    image(root, 3).write_bytes(image(root, 3).read_bytes()[:900])


def shrink(root: Path) -> None:
    PIL.Image.open(image(root, 3)).resize((50, 40)).save(image(root, 3))


def turn(root: Path) -> None:
    """Store the image turned, with the EXIF orientation that turns it back."""
    upright = PIL.Image.open(image(root, 3))
    exif = upright.getexif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(image(root, 3), exif=exif)


def copy_across(root: Path) -> None:
    shutil.copy(image(root, 3), root / "valid" / "valid_00001.jpg")


def copy_within(root: Path) -> None:
    shutil.copy(image(root, 3), image(root, 5))


def resave_across(root: Path) -> None:
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    picture.resize((96, 80)).save(image(root, 3))
    picture.resize((96, 80)).save(root / "valid" / "valid_00001.jpg", quality=40)


def remove(root: Path) -> None:
    image(root, 3).unlink()


def add_file(root: Path) -> None:
    shutil.copy(image(root, 3), root / "train" / "extra.png")


def add_folder(root: Path) -> None:
    (root / "pool").mkdir()
    shutil.copy(image(root, 3), root / "pool" / "more.jpg")


def empty_class(content: dict) -> None:
    content["categories"].append({"id": 9, "name": "hexagon"})


def double_box(content: dict) -> None:
    content["annotations"].append({**content["annotations"][0], "id": 10_000})


def clear(content: dict) -> None:
    content["annotations"] = []


def rename(content: dict) -> None:
    content["categories"][1]["name"] = "disc"


@pytest.mark.parametrize(
    ("change", "kind", "count", "parts"),
    [
        (truncate, "unreadable_image", 1, ["train_00003.jpg", "image 3", "truncated"]),
        (shrink, "size_mismatch", 1, ["train_00003.jpg", "annotated as 96x80 and decodes to 50x40"]),
        (turn, "rotated_image", 1, ["train_00003.jpg", "is stored rotated, and annotated upright"]),
        (copy_across, "same_image", 1, ["valid_00001.jpg", "train_00003.jpg", "across splits"]),
        (copy_across, "repeated_image", 0, []),
        (copy_within, "repeated_image", 1, ["train_00005.jpg", "train_00003.jpg", "in one split"]),
        (copy_within, "same_image", 0, []),
        (resave_across, "similar_image", 1, ["valid_00001.jpg", "train_00003.jpg", "across splits"]),
        (remove, "missing_file", 1, ["_annotations.coco.json", "image 3", "no file 'train_00003.jpg'"]),
        (add_file, "unlisted_image", 1, ["extra.png"]),
        (add_folder, "unlisted_image", 1, ["pool/more.jpg"]),
        (lambda root: edit(root, "train", empty_class), "class_without_boxes", 1, ["'hexagon'", "train"]),
        (lambda root: edit(root, "train", double_box), "duplicate_box", 1, ["image 0", "is listed twice"]),
        (lambda root: edit(root, "valid", clear), "no_boxes", 1, ["valid", "nothing to train on or to evaluate"]),
        (lambda root: edit(root, "valid", clear), "image_without_boxes", 8, ["image 0", "has no box"]),
        (
            lambda root: edit(root, "valid", rename),
            "classes_differ",
            1,
            ["has 'disc', which train lacks. train has 'circle' instead"],
        ),
        (lambda root: (root / "valid" / "_annotations.coco.json").write_text("{"), "unreadable_split", 1, ["JSON"]),
    ],
)
def test_findings_name_file_entry_and_reason(
    root: Path, change: Callable[[Path], object], kind: str, count: int, parts: list[str]
) -> None:
    before = check(root).findings
    change(root)
    findings = check(root).findings
    assert findings.counts[kind] == before.counts[kind] + count
    new = [str(example) for example in findings.examples.get(kind, []) if example not in before.examples.get(kind, [])]
    assert not count or any(all(part in text for part in parts) for text in new), new
    assert (kind in findings.kinds("error")) == (KINDS[kind].level == "error" and count > 0)


def test_too_many_objects_are_counted_by_image(root: Path) -> None:
    content = json.loads((root / "train" / "_annotations.coco.json").read_text())
    counts = np.bincount([a["image_id"] for a in content["annotations"]])
    findings = check(root, decode=False, num_queries=0).findings
    assert findings.counts["too_many_objects"] >= (counts > 0).sum() > 0
    assert "has 1 objects, more than the model's 0 queries" in str(findings.examples["too_many_objects"][0])
    assert check(root, decode=False, num_queries=int(counts.max())).findings.counts["too_many_objects"] == 0


def test_an_image_is_not_decoded_unless_asked(root: Path) -> None:
    truncate(root)
    assert check(root, decode=False).findings.kinds("error") == []


def test_the_report_is_json(root: Path) -> None:
    truncate(root)
    layout = find_layout(root)
    report = json.loads(json.dumps(check(root).as_json(layout)))
    assert report["format"] == "roboflow"
    (entry,) = [entry for entry in report["findings"] if entry["level"] == "error"]
    assert (entry["kind"], entry["count"]) == ("unreadable_image", 1)
    assert entry["examples"][0]["who"] == "image 3"


def test_a_split_that_cannot_be_read_gives_its_own_reason(root: Path) -> None:
    edit(root, "train", lambda content: content["images"].append({"id": 99, "file_name": "none.jpg"}))
    edit(root, "valid", lambda content: content["images"].clear())
    (unreadable,) = check(root, decode=False).findings.examples["unreadable_split"]
    assert unreadable.reason.endswith("lists no images")
    edit(root, "valid", lambda content: content["images"].append({"id": 1, "file_name": 7}))
    (unreadable,) = check(root, decode=False).findings.examples["unreadable_split"]
    assert unreadable.reason.endswith("image 1: file_name must be text of at most 1024 characters, not 7")


def test_splits_whose_names_say_nothing_are_an_error_that_names_them(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_annotations.coco.json").write_text("{}")
    with pytest.raises(
        DatasetError, match="no split that is recognised as train, val or test. not used: one/_ann.*, other/_ann"
    ):
        check(tmp_path)


def test_names_that_are_written_nearly_alike_are_named() -> None:
    classes = ClassMap((None, 2, None), ("cat", "e-bike", "bus"), ("Cat ", "E bike", "tram"))
    assert classes.describe_difference() == "'Cat ' (is it 'cat'?), 'E bike' (is it 'e-bike'?), 'tram'"
