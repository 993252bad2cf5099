"""The audit of a small dataset: its numbers, its page, its COCO files, its pictures."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.analysis.audit import Label, Suggestion
from rfdetr_hwd.data.coco.ground_truth import read_annotations
from rfdetr_hwd.report.audit import AuditedSplit, AuditError, AuditInputs, audit, lead, overview
from rfdetr_hwd.report.audit_files import write_audit
from rfdetr_hwd.report.judges import Judge
from rfdetr_hwd.report.objects import Objects, collect_objects
from rfdetr_hwd.report.small_objects import count_small_objects
from rfdetr_hwd.report.split_differences import compare_splits
from rfdetr_hwd.report.suggestion_pictures import NEW, OLD, OTHER, TWIN, draw_suggestion, find_window
from tests.unit.report.evaluations import CAT, DOG, HOSTILE, make_inputs

TINY = [150, 80, 3, 9]


@pytest.fixture
def inputs(tmp_path: Path) -> AuditInputs:
    """In training, a dog is annotated as a cow and a cat twice. In validation, a cat is overlooked."""
    splits = []
    for role, objects, found in (
        ("train", [(0, "cow", DOG), (1, HOSTILE, CAT), (1, HOSTILE, CAT), (2, "=dog", TINY)], [(0, "=dog", DOG, 0.9)]),
        ("val", [(0, "=dog", DOG)], [(0, HOSTILE, CAT, 0.8), (0, "=dog", DOG, 0.7)]),
    ):
        (tmp_path / role).mkdir()
        made = make_inputs(tmp_path / role, objects, found)
        judge = Judge("the run", "runs/mine", "ema", 3, role == "train", made.data.image_ids, 0.5)
        splits.append(AuditedSplit(role, replace(made.data, name=HOSTILE), made.detections, [judge]))
    return AuditInputs(
        splits, (HOSTILE, "=dog", "cow"), 0.5, 100, False, {"data": f"data/{HOSTILE.replace('/', '')}", "step": 3}
    )


def test_all_splits_are_ranked_together(inputs: AuditInputs) -> None:
    found = audit(inputs)
    assert [(one.rank, one.split.role, one.suggestion.kind) for one in found.suggestions] == [
        (1, "train", "duplicate"),
        (2, "train", "swapped"),
        (3, "val", "overlooked"),
    ]
    header, rows = overview(inputs, found)
    assert header[-4:] == ("overlooked", "swapped", "badly placed", "duplicate")
    assert rows == [
        ("train", HOSTILE, 3, 4, "0.500", 0, 1, 0, 1),
        ("val", HOSTILE, 3, 1, "0.500", 1, 0, 0, 0),
    ]
    assert lead(inputs, found) == [
        "3 suggestions at a confidence of 0.50 or more: 1 overlooked, 1 swapped, 1 duplicate.",
        "1 object is under 4 pixels wide or high at the model's input of 100 pixels.",
        "No difference between the splits is shown.",
    ]


def test_a_model_that_detects_nothing_is_refused(inputs: AuditInputs) -> None:
    message = "no detection in 6 images reaches a confidence of 0.95: the highest is 0.90. Lower --threshold, or"
    with pytest.raises(AuditError, match=message):
        audit(replace(inputs, threshold=0.95))


def test_the_coco_files_hold_the_annotations_and_the_suggestions(inputs: AuditInputs, tmp_path: Path) -> None:
    files = write_audit(inputs, audit(inputs), 50, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html",
        "suggestions-train.json",
        "suggestions-val.json",
    }
    train, val = (json.loads(path.read_text()) for path in files)
    original = inputs.splits[0].data.ground_truth()["annotations"]
    assert [{k: v for k, v in one.items() if k != "suggestion"} for one in train["annotations"]] == original
    swapped, _, repeated, _ = (one.get("suggestion") for one in train["annotations"])
    assert (swapped["kind"], swapped["rank"], swapped["score"]) == ("swapped", 2, 0.9)
    assert (swapped["old"], swapped["new"]) == (
        {"category_id": 2, "bbox": DOG},
        {"category_id": 1, "bbox": DOG},
    )
    assert (repeated["kind"], repeated["new"], repeated["twin"]) == ("duplicate", None, 2)
    assert sum("suggestion" in one for one in train["annotations"]) == 2

    _, added = val["annotations"]
    assert (added["id"], added["category_id"], added["bbox"], added["area"]) == (2, 0, CAT, 1600)
    assert (added["suggestion"]["kind"], added["suggestion"]["old"]) == ("overlooked", None)
    names = [image["file_name"] for image in val["images"]]
    assert names == inputs.splits[1].data.file_names.tolist()
    assert len(read_annotations(files[1]).labels) == 2  # other programs can read it


def test_the_page_shows_the_first_suggestions_and_escapes_names(inputs: AuditInputs, tmp_path: Path) -> None:
    write_audit(inputs, audit(inputs), 2, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "<h1>Label audit: &lt;script&gt;" in page
    assert page.count('class="photo"') == 2
    captions = re.findall("<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert unescape(captions[0]).endswith("suggested: remove it")
    assert unescape(captions[1]).splitlines() == [
        "2. swapped: cow annotated, =dog detected, score 0.90",
        f"train: {inputs.splits[0].data.file_names[0]}",
        "annotated: cow, 50 x 50 at 100, 20",
        "suggested: =dog, 50 x 50 at 100, 20, confidence 0.90",
    ]
    assert "The first 2 of 3 by score" in page


def test_the_page_says_which_model_judged_which_images(inputs: AuditInputs, tmp_path: Path) -> None:
    train, val = inputs.splits
    write_audit(inputs, audit(inputs), 50, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "repeat the audit with --folds 5" in page
    assert "judged by" not in page
    judges = [
        Judge("fold-1", "audit/fold-1", "raw", 7, False, np.array([1]), 0.25),
        Judge("fold-2", "audit/fold-2", "ema", 8, False, np.array([0, 2]), 0.5),
        Judge("fold-3", "audit/fold-3", "ema", 9, False, np.array([], np.int64), None),
    ]
    folded = replace(inputs, splits=[replace(train, judges=judges), val])
    found = audit(folded)
    assert overview(folded, found)[1][0][4] == "0.375"  # the mean of those that have one
    write_audit(folded, found, 50, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Each image was judged by a model that was not trained on it." in page
    captions = re.findall("<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert [re.findall("judged by (.*)", caption) for caption in captions] == [["fold-1"], ["fold-2"], []]
    cells = re.findall("<t[dh][^>]*>(.*?)</t[dh]>", page[page.index("trained on them") :])
    assert cells[4:12] == ["train", "fold-1", "1", "no", "0.250", "raw", "7", "audit/fold-1"]


def test_an_image_that_is_missing_is_named(inputs: AuditInputs, tmp_path: Path) -> None:
    inputs.splits[1].data.path(0).unlink()
    write_audit(inputs, audit(inputs), 50, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('class="photo"') == 2
    assert "Without a picture: 1, the first: " in page


def test_clean_annotations_give_a_page_without_pictures(inputs: AuditInputs, tmp_path: Path) -> None:
    val = inputs.splits[1]
    clean = replace(inputs, splits=[replace(val, detections=val.detections[1:])])
    found = audit(clean)
    assert found.suggestions == []
    write_audit(clean, found, 50, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "There is none." in page
    assert "There is no other split with objects to compare with." in page
    assert lead(clean, found)[2] == "There is one split, which is compared with no other."


def test_small_objects_are_counted_at_the_input(inputs: AuditInputs) -> None:
    """3 x 9 pixels of an image of 200 x 100, at 100 pixels: stretched to 1.5 x 9, or scaled to 1.5 x 4.5."""
    objects = {"train": collect_objects(inputs.splits[0].data)}
    (one,) = count_small_objects(objects, 100, keeps_aspect=False)
    assert (one.split, one.class_name, one.number, one.of, one.image) == ("train", "=dog", 1, 1, 2)
    assert one.smallest == pytest.approx((1.5, 9))
    (one,) = count_small_objects(objects, 100, keeps_aspect=True)
    assert one.smallest == pytest.approx((1.5, 4.5))
    assert count_small_objects(objects, 400, keeps_aspect=False) == []


def make_objects(label: int, side: float, size: tuple[int, int], names: tuple[str, ...], num_images: int) -> Objects:
    """Return images with two objects each."""
    rows = np.arange(num_images).repeat(2)
    boxes = np.array([[0, 0, side, side]] * len(rows))
    return Objects(names, np.array([size] * num_images), rows, np.full(len(rows), label), boxes, 0)


def test_splits_that_differ_are_named() -> None:
    """Other classes, sizes of objects and sizes of images; classes are compared by name."""
    train = make_objects(0, 10, (100, 200), ("cat", "dog"), 30)
    other = make_objects(0, 30, (200, 100), ("dog", "cat"), 20)
    found = compare_splits({"train": train, "val": other}, 100, keeps_aspect=False)
    assert [(one.what, one.distance, one.is_real) for one in found] == [
        ("class shares", 1, True),
        ("object size at the model's input", 1, True),
        ("objects per image", 0, False),
        ("image size", 0, False),  # the area is the same
    ]
    assert found[0].values == ("cat 100.0%", "cat 0.0%")
    assert found[1].values == ("median 7 px", "median 21 px")
    assert found[3].values == ("mostly 200 x 100", "mostly 100 x 200")
    assert found[0].p_value == 4 / 2000  # Holm: four tests, and no permutation is as far apart
    alike = make_objects(1, 10, (100, 200), ("dog", "cat"), 20)
    assert not any(one.is_real for one in compare_splits({"train": train, "val": alike}, 100, keeps_aspect=False))


def colours(image: PIL.Image.Image) -> set[str]:
    return {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in image.getcolors(1 << 20)}


def test_a_picture_shows_the_image_and_the_place() -> None:
    old, new = Label(0, (20.0, 30.0, 10.0, 10.0)), Label(0, (25.0, 30.0, 10.0, 10.0))
    image = PIL.Image.new("RGB", (200, 100), "black")
    moved = draw_suggestion(image, Suggestion("badly placed", 0.5, 0, 0, old, new, 0.5), [(100, 20, 50, 50)])
    assert moved.size == (480 + 6 + 240, 240)
    assert {OLD, NEW, OTHER} <= colours(moved)
    part = moved.crop((486, 0, 726, 240))
    assert OTHER not in colours(part)
    left, top, side = find_window([old.box_xywh, new.box_xywh], image.size)
    corner = round((20 - left) * 240 / side), round((35 - top) * 240 / side)
    assert "#{:02x}{:02x}{:02x}".format(*part.getpixel(corner)) == OLD
    repeated = draw_suggestion(image, Suggestion("duplicate", 1, 0, 1, old, None, None, 0), [], old.box_xywh)
    assert {OLD, TWIN} <= colours(repeated)


def test_a_window_lies_in_the_image() -> None:
    assert find_window([(40, 40, 20, 20)], (200, 100)) == (28, 28, 44)
    assert find_window([(0, 0, 20, 10)], (200, 100)) == (0, 0, 44)
    assert find_window([(190, 95, 10, 5)], (200, 100)) == (176, 76, 24)
    assert find_window([(0, 40, 160, 20)], (200, 100)) == (0, 0, 160)  # as wide as the box, over the lower edge
    assert find_window([(2, 2, 4, 4)], (8, 8)) == (0, 0, 8)
