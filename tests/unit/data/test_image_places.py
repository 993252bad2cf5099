"""Names of images that differ from the files are resolved where one file alone can be meant, never to another image."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.image_directory import Owner, plain_path
from rfdetr_hwd.data.image_places import place_images
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.read import scan_split
from rfdetr_hwd.data.roles import Role
from tests.unit.data.pictures import annotate, draw, num_right, write_json


def scan(root: Path, role: str = "train") -> tuple[DetectionData, Findings]:
    findings = Findings()
    return scan_split(find_layout(root).split(role), findings), findings  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ("images/im{}.jpg", "im{}.JPG"),
        ("images/Im{}.JPG", "images/im{}.jpg"),
        ("Images/im{}.jpg", "images\\im{}.jpg"),
        ("im{}.jpg", "C:\\Users\\me\\set\\im{}.jpg"),
        ("images/im{}.jpg", "D:/data/set/images/im{}.jpg"),
        ("images/im{}.jpg", "/home/someone/im{}.jpg"),
        ("images/a b {}.jpg", "images/a%20b%20{}.jpg"),
        ("images/a%20b{}.jpg", "a%20b{}.jpg"),
        ("images/im{}.jpg", "https://example.org/d/im{}.jpg?token=1&x=/y.png#z"),
        ("images/im{}.jpg", "s3://bucket/a/im{}.jpg"),
        ("images/im{}.jpg", "file:///mnt/set/images/im{}.jpg"),
        (unicodedata.normalize("NFD", "images/é{}.jpg"), "é{}.jpg"),
        ("images/é{}.jpg", unicodedata.normalize("NFD", "é{}.jpg")),
        ("images/im{}.jpg", "upload/3/im{}.jpg"),
        ("images/cam/im{}.jpg", "images/im{}.jpg"),
        ("images/im{}.jpg", "./images//im{}.jpg"),
        ("images\\im{}.jpg", "images/im{}.jpg"),
    ],
)
def test_names_of_other_machines_and_tools_are_resolved_and_that_is_said(tmp_path: Path, there: str, name: str) -> None:
    for number in range(3):
        draw(tmp_path / there.format(number), number)
    write_json(tmp_path / "annotations" / "instances.json", annotate([name.format(number) for number in range(3)]))
    data, findings = scan(tmp_path)
    assert (len(data), num_right(data)) == (3, 3)
    is_plain = name.removeprefix("./").replace("//", "/") in (there, Path(there).name)
    assert findings.counts["path_differs"] == (0 if is_plain else 3)
    assert findings.kinds("error") == []


def test_an_address_stands_in_for_a_name_that_is_not_given(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "train2017" / f"{number}.jpg", number)
        draw(tmp_path / "val2017" / f"{number}.jpg", number + 50)
    content = annotate([f"http://images.cocodataset.org/train2017/{number}.jpg" for number in range(3)])
    for image in content["images"]:
        image["coco_url"] = image.pop("file_name")  # as LVIS has it
    write_json(tmp_path / "lvis_v1_train.json", content)
    data, findings = scan(tmp_path)
    assert (len(data), num_right(data), findings.kinds("error")) == (3, 3, [])


def test_what_may_be_meant_by_a_missing_name_is_said(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "im0.png", 0)
    write_json(tmp_path / "all.json", annotate(["im0.png", "im0.jpg"]))
    _, findings = scan(tmp_path)
    assert "no file 'im0.jpg' in" in str(findings.examples["missing_file"][0])
    assert "a similar file is 'images/im0.png'" in str(findings.examples["missing_file"][0])


def test_where_no_name_fits_the_message_says_what_is_there(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "photos" / f"{number}.jpeg", number)
    write_json(tmp_path / "all.json", annotate(["a.png", "b.png"]))
    with pytest.raises(DatasetError) as caught:
        scan(tmp_path)
    assert "none of the 2 images that it names is below" in str(caught.value)
    assert "which contains 3 JPEGs in photos. Specify their directory as {annotations: FILE" in str(caught.value)


def test_absolute_paths_below_the_root_are_read_from_there(tmp_path: Path) -> None:
    names = [str(draw(tmp_path / "train" / f"im{number}.png", number)) for number in range(3)]
    for number in range(3):
        draw(tmp_path / "other" / f"im{number}.png", number + 50)
    write_json(tmp_path / "train" / "_annotations.coco.json", annotate(names))
    data, findings = scan(tmp_path)
    assert (len(data), num_right(data), findings.counts["path_differs"]) == (3, 3, 3)


def test_images_in_several_directories_are_found_by_their_names(tmp_path: Path) -> None:
    for number in range(6):
        draw(tmp_path / "images" / "ab"[number % 2] / f"im{number}.png", number)
    write_json(tmp_path / "all.json", annotate([f"im{number}.png" for number in range(6)]))
    data, findings = scan(tmp_path)
    assert (len(data), num_right(data), findings.counts["path_differs"]) == (6, 6, 3)
    assert sorted(map(str, data.file_names)) == [f"{'ab'[n % 2]}/im{n}.png" for n in (0, 2, 4, 1, 3, 5)]


def test_the_directory_of_the_own_split_is_taken(tmp_path: Path) -> None:
    names = [f"im{number}.png" for number in range(4)]
    for number, name in enumerate(names):
        draw(tmp_path / "train2017" / name, number)
        draw(tmp_path / "val2017" / name, number + 50)
    (tmp_path / "train2017" / "im3.png").unlink()
    write_json(tmp_path / "annotations" / "instances_train.json", annotate(names))
    write_json(tmp_path / "annotations" / "instances_val.json", annotate(names, 50))
    for role, count in (("train", 3), ("val", 4)):
        data, findings = scan(tmp_path, role)
        assert (len(data), num_right(data)) == (count, count)
        assert findings.counts["missing_file"] == 4 - count  # another split's image of that name is another image


def test_a_missing_image_of_one_directory_is_not_taken_from_another(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "images" / "a" / f"im{number}.png", number)
    draw(tmp_path / "images" / "b" / "im3.png", 60)
    write_json(tmp_path / "all.json", annotate([f"a/im{number}.png" for number in range(4)]))
    data, findings = scan(tmp_path)
    assert (len(data), num_right(data)) == (3, 3)
    assert "no file 'a/im3.png'" in str(findings.examples["missing_file"][0])
    assert "a similar file is 'images/b/im3.png'" in str(findings.examples["missing_file"][0])


def test_two_names_never_become_one_file(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "im0.png", 0)
    draw(tmp_path / "images" / "im1.png", 1)
    write_json(tmp_path / "all.json", annotate(["im0.png", "x/im1.png", "y/im1.png", "IM0.png"]))
    data, findings = scan(tmp_path)
    assert (len(data), num_right(data), findings.counts["missing_file"]) == (1, 1, 3)
    assert "another image matches it too" in str(findings.examples["missing_file"][0])


def test_an_ambiguous_name_is_not_resolved_and_the_files_are_named(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "im0.png", 0)
    for folder in ("p", "q"):
        draw(tmp_path / folder / "im1.png", 1)
    write_json(tmp_path / "all.json", annotate(["im0.png", "IM1.png"]))
    data, findings = scan(tmp_path)
    assert len(data) == 1
    assert "several files match: ['p/im1.png', 'q/im1.png']" in str(findings.examples["missing_file"][0])


def test_masks_and_thumbnails_of_the_same_names_are_not_the_images(tmp_path: Path) -> None:
    names = [f"im{number}.png" for number in range(3)]
    for number, name in enumerate(names):
        draw(tmp_path / "pictures" / name, number)
        for other in ("masks", "thumbs", "SegmentationClass"):
            draw(tmp_path / other / name, number + 50)
    write_json(tmp_path / "all.json", annotate(names))
    data, findings = scan(tmp_path)
    assert (num_right(data), findings.counts) == (3, {})


def test_two_directories_that_may_be_meant_are_an_error(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        draw(tmp_path / folder / "im0.png", 0)
    write_json(tmp_path / "all.json", annotate(["im0.png"]))
    with pytest.raises(DatasetError, match=r"may be in 'one' or 'two'.*annotations: FILE, images: DIRECTORY"):
        scan(tmp_path)


def test_images_below_a_directory_of_another_name_belong_to_the_split(tmp_path: Path) -> None:
    for number in range(2):
        draw(tmp_path / "train" / f"patch{number}" / "im.jpg", number)
    write_json(
        tmp_path / "annotations" / "objv2_train.json", annotate([f"images/v1/patch{n}/im.jpg" for n in range(2)])
    )
    data, findings = scan(tmp_path)
    assert (num_right(data), findings.counts) == (2, {"path_differs": 2})
    assert not any("no annotations" in remark for remark in find_layout(tmp_path).remarks())


PARTS = st.sampled_from(["images", "Images", "train", "val", "a", "b", "é", "e\u0301", "x y", "x%20y", "..", ""])
NAMES = st.builds(lambda parts, stem: "/".join([*parts, f"{stem}.jpg"]), st.lists(PARTS, max_size=3), PARTS)
SPELLINGS = st.sampled_from([str, str.upper, lambda name: name.replace("/", "\\"), lambda name: f"C:\\{name}", quote])


@given(
    st.lists(NAMES, max_size=12),
    st.lists(st.tuples(NAMES, SPELLINGS), max_size=8, unique_by=lambda pair: pair[1](pair[0])),
    st.sampled_from([None, "train", "val"]),
)
def test_whatever_is_named_becomes_a_file_that_is_there_and_each_file_one_image(
    there: list[str], spelled: list[tuple[str, Callable[[str], str]]], role: Role | None
) -> None:
    files = FileList(Path("/set"), frozenset(plain_path(name.lstrip("/")) for name in there if ".." not in name))
    names = [spell(name) for name, spell in spelled]
    try:
        places = place_images(names, Owner("annotations", "all", role), files)
    except DatasetError:  # two directories may be meant
        return
    below = files.below(places.directory)
    used = {name: str(PurePosixPath(places.paths.get(name, name))) for name in names}
    assert all(used[name] in below.names for name in places.resolved)
    for name in places.resolved:
        assert [other for other in names if used[other] == used[name]] == [name]
        assert ".." not in used[name]
    for name in names:  # what is there as it is named is what is used, where nothing else may be meant
        path = plain_path(name)
        rivals = [other for other in files.names if other.rpartition("/")[2] == path.rpartition("/")[2]]
        is_claimed = any(used[other] == path for other in names if other != name)
        if rivals == [path] and places.directory == "" and not is_claimed:
            assert used[name] == path


@pytest.mark.parametrize(
    "name", ["../im0.png", "images/../../im0.png", "..\\im0.png", "im0.png\0", "link.png", "out/x.png"]
)
def test_what_leads_out_is_refused_whatever_lies_inside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    draw(root / "images" / "good.png", 1)
    draw(root / "images" / "x.png", 2)
    draw(tmp_path / "im0.png", 0)
    os.symlink(tmp_path / "im0.png", root / "images" / "link.png")
    os.symlink(tmp_path, root / "images" / "out")
    write_json(root / "all.json", annotate(["good.png", name]))
    data, findings = scan(root)
    assert list(data.file_names) == ["good.png"]
    kind = "missing_file" if "\\" in name else "unsafe_path"
    assert {kind: 1} == {k: n for k, n in findings.counts.items() if k in ("missing_file", "unsafe_path")}


def test_what_comes_after_dots_is_looked_for_inside(tmp_path: Path) -> None:
    """The dots are not followed: the file of the name that lies there is not the one that is read."""
    root, upload = tmp_path / "sets" / "root", "../../label-studio/data/media/upload/1"
    for number in range(3):
        draw(root / "images" / f"im{number}.png", number)
    draw(tmp_path / "label-studio" / "data" / "media" / "upload" / "1" / "im0.png", 7)
    names = [f"{upload}/im0.png", "../images/im1.png", f"..\\{upload}\\im2.png"]
    write_json(root / "annotations" / "all.json", annotate(names))
    data, findings = scan(root)
    assert (num_right(data), findings.counts) == (3, {"path_differs": 3})


def test_dots_are_refused_where_several_files_may_be_meant_or_another_image_is(tmp_path: Path) -> None:
    for name in ("images/a/im0.png", "images/b/im0.png", "images/im1.png", "images/im2.png"):
        draw(tmp_path / name, 0)
    names = ["im2.png", "../up/im0.png", "im1.png", "../up/im1.png", "../x.png", ".."]
    write_json(tmp_path / "all.json", annotate(names))
    data, findings = scan(tmp_path)
    assert list(data.file_names) == ["im2.png", "im1.png"]
    assert findings.counts == {"unsafe_path": 4}
    assert "several files match: ['images/a/im0.png', 'images/b/im0.png']" in findings.examples["unsafe_path"][0].reason


def test_several_images_of_one_id_are_skipped_with_their_boxes(tmp_path: Path) -> None:
    names = [draw(tmp_path / f"im{number}.png", number).name for number in range(4)]
    content = annotate([*names, names[3]])
    content["images"][1]["id"] = 1  # as im0.png
    content["images"][4]["id"] = 4  # im3.png, listed twice
    content["annotations"][1]["image_id"] = 1
    del content["annotations"][4]
    write_json(tmp_path / "all.json", content)
    data, findings = scan(tmp_path)
    assert list(data.file_names) == ["im2.png", "im3.png"]
    assert (num_right(data), len(data.labels)) == (2, 2)
    assert findings.counts["duplicate_image"] == 3
    assert "several images have the id: 'im0.png', 'im1.png'" in str(findings.examples["duplicate_image"][0])
