"""What a split had and what of it is used: every difference has a reason, or reading fails."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rfdetr_hwd.data.account import SKIPS_IMAGE, SKIPS_OBJECT, take_account, unlisted_images
from rfdetr_hwd.data.coco.read import read_coco
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import KINDS, DatasetError, Findings
from rfdetr_hwd.data.read import scan_counted
from tests.unit.data.coco_files import CONTENT, write_split


def test_every_kind_that_skips_something_is_counted() -> None:
    for kind, about in KINDS.items():
        skips_image = about.effect.startswith(("the image is skipped", "the image is not read"))
        skips_image |= kind in ("duplicate_image", "unreadable_image")
        assert (kind in SKIPS_IMAGE) == skips_image, kind
        skips_object = about.effect.startswith(("the annotation is skipped", "used once"))
        assert (kind in SKIPS_OBJECT) == skips_object, kind
    assert set(SKIPS_IMAGE + SKIPS_OBJECT) <= KINDS.keys()


def test_what_is_skipped_is_counted_by_its_reason(tmp_path: Path) -> None:
    content = json.loads(json.dumps(CONTENT))
    content["images"].append({"id": 9, "file_name": "none.jpg", "width": 10, "height": 10})
    for image_id, box in ((9, [1, 1, 5, 5]), (9, [1, 1, -5, 5]), (5, [1, 1, -5, 5]), (77, [1, 1, 5, 5])):
        content["annotations"].append({"id": 100, "image_id": image_id, "category_id": 7, "bbox": box})
    data, account = scan_counted(find_layout(write_split(tmp_path, content)).split("train"), Findings())
    assert account == (
        *("train", 3, 2, 8, 4),
        {
            "images skipped, missing_file": 1,
            "objects skipped, unknown_image": 1,
            "objects skipped, negative_box": 1,
            "objects skipped with their image, class or file": 2,
        },
        {"a.jpg", "b.jpg", "none.jpg"},
    )
    (tmp_path / "train" / "c.png").touch()
    (tmp_path / "train" / "none.jpg").touch()  # it is listed, though it was not there
    assert list(unlisted_images(tmp_path, [(data, account)])) == [tmp_path / "train" / "c.png"]


def test_a_loss_without_a_reason_is_an_error(tmp_path: Path) -> None:
    split = find_layout(write_split(tmp_path)).split("train")
    data, account = scan_counted(split, Findings())
    assert account.skipped == {}
    raw = read_coco(split.annotations)
    more = replace(raw, annotations=raw.annotations + raw.annotations[:1])
    with pytest.raises(DatasetError, match="1 objects of train were lost without a finding"):
        take_account(more, data, Counter(), Counter())
    with pytest.raises(DatasetError, match="1 images of train were lost without a finding"):
        take_account(replace(raw, images=[*raw.images, {}]), data, Counter(), Counter())
