"""Pascal VOC is read box by box as it is written; what cannot be read is named and skips no more than itself."""

import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import KINDS, DatasetError, Findings
from rfdetr_hwd.data.read import read_split, scan_split
from tests.unit.data.voc_files import CAT, CAT_BOX, boxes_of, read_all, save, voc_xml, write_devkit, write_files

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import supervision as sv


def test_boxes_by_hand(tmp_path: Path) -> None:
    """1-based, inclusive: a box from pixel 11 to pixel 20 is ten wide and begins at 10."""
    found, findings = read_all(write_devkit(tmp_path))
    assert found == {
        "train": {
            "JPEGImages/b.jpg": [("cat", [4.5, 5, 4.75, 3])],
            "JPEGImages/a.jpg": [("dog", [0, 0, 64, 48]), CAT_BOX],
        },
        "val": {"JPEGImages/c.jpg": [("ant", [2, 3, 28, 5])], "JPEGImages/d.jpg": []},
    }
    assert findings.counts == {
        **{"difficult_object": 1, "swapped_corners": 1, "other_size": 1},
        **{"unlabelled_image": 1, "missing_size": 2},  # d has no annotation file, b no size in it
    }
    for split in ("train", "val"):
        data = read_split(find_layout(tmp_path).split(split))  # notices, no errors
        assert data.class_names == ("ant", "cat", "dog")
        assert data.category_ids == (1, 2, 3)
        assert data.sizes.tolist() == [[48, 64]] * 2
    assert data.areas.tolist() == [140]


def test_boxes_agree_with_supervision(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abcdef":
        save(tmp_path / "train" / f"{name}.jpg")
        corners = [(x0, y0, rng.integers(x0, 65), rng.integers(y0, 49)) for x0, y0 in rng.integers(1, 48, (4, 2))]
        things = [(str(rng.choice(["cat", "dog"])), *map(int, box)) for box in corners]
        text = voc_xml(*things).replace("<part>", "<p>").replace("</part>", "</p>")
        (tmp_path / "train" / f"{name}.xml").write_text(text)
    mine = read_all(tmp_path)[0]["train"]
    seen = sv.DetectionDataset.from_pascal_voc(str(tmp_path / "train"), str(tmp_path / "train"))
    assert len(seen.image_paths) == len(mine) == 6
    for path, found in seen.annotations.items():
        expected = mine[f"train/{Path(path).name}"]
        assert [seen.classes[i] for i in found.class_id] == [label for label, _ in expected]
        corners = np.array([[x, y, x + w, y + h] for _, (x, y, w, h) in expected])
        if tuple(map(int, sv.__version__.split(".")[:2])) < (0, 31):  # it took one off the maximum, too
            corners[:, 2:] -= 1
        assert found.xyxy.tolist() == corners.tolist()


def test_one_minimum_of_0_in_any_split_says_that_pixels_count_from_0(tmp_path: Path) -> None:
    files = {"train/a.jpg": "", "train/a.xml": voc_xml(CAT), "valid/b.jpg": "", "valid/b.xml": voc_xml(CAT)}
    found, findings = read_all(write_files(tmp_path, files))
    assert found == {"train": {"train/a.jpg": [CAT_BOX]}, "valid": {"valid/b.jpg": [CAT_BOX]}}
    write_files(tmp_path, {"valid/b.xml": voc_xml(("cat", 0, 5, 10, 20))})
    found, findings = read_all(tmp_path)
    assert found["train"] == {"train/a.jpg": [("cat", [11, 21, 9, 9])]}
    assert found["valid"] == {"valid/b.jpg": [("cat", [0, 5, 10, 15])]}
    assert findings.counts == {"pixels_from_0": 2}


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ("<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>10</h><angle>0</angle></robndbox>", [19, 14, 21, 11]),
        ("<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>10</h><angle>1.5707963</angle></robndbox>", [24, 9, 11, 21]),
        ("<robndbox><xmin>5</xmin><ymin>6</ymin><xmax>9</xmax><ymax>8</ymax></robndbox>", [4, 5, 5, 3]),
        ("<polygon><x1>5</x1><y1>9</y1><x2>20</x2><y2>6</y2><x3>9</x3><y3>30</y3></polygon>", [4, 5, 16, 25]),
        (
            "<polygon><username>me</username><pt><x>5</x><y>9</y></pt><pt><x>20</x><y>6</y></pt>"
            "<pt><x>9</x><y>30</y></pt></polygon>",
            [4, 5, 16, 25],
        ),
    ],
)
def test_a_shape_that_is_no_upright_box_has_the_box_around_it_and_is_said(
    tmp_path: Path, shape: str, box: list[float]
) -> None:
    more = f"<object><name>ship</name>{shape}</object>"
    found, findings = read_all(write_files(tmp_path, {"a.jpg": "", "a.xml": voc_xml(CAT, more=more)}))
    ((_, cat), (name, ship)) = found["train"]["a.jpg"]
    assert (cat, name) == (CAT_BOX[1], "ship")
    np.testing.assert_allclose(ship, box, atol=1e-5)
    assert findings.counts == {"enclosing_box": 1}


def test_every_box_of_an_object_counts_and_objects_deleted_in_labelme_do_not(tmp_path: Path) -> None:
    corners = ["<xmin>{0}</xmin><ymin>{0}</ymin><xmax>{1}</xmax><ymax>{1}</ymax>".format(i, i + 9) for i in (1, 5)]
    twice = "".join(f"<bndbox>{box}</bndbox>" for box in corners)
    more = f"<object><name>x</name>{twice}</object><object><name>y</name><deleted>1</deleted></object>"
    found, findings = read_all(write_files(tmp_path, {"a.jpg": "", "a.xml": voc_xml(more=more)}))
    assert found["train"]["a.jpg"] == [("x", [0, 0, 10, 10]), ("x", [4, 4, 10, 10])]
    assert not findings.counts


GOOD = voc_xml(CAT)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (GOOD.replace("<xmax>20", "<xmax>a20"), "bad_box", "object 1: 'cat' must have a box of four numbers"),
        (GOOD.replace("<xmax>20", "<xmax>"), "bad_box", "object 1: 'cat' must have a box of four numbers"),
        (GOOD.replace("<xmax>20", "<xmax>nan"), "bad_box", "object 1: 'cat' must have a box of four numbers"),
        (GOOD.replace("<xmax>20", "<xmax>1e300"), "bad_box", "object 1: 'cat' must have a box of four numbers"),
        (GOOD.replace("xmax", "max"), "bad_box", "object 1: 'cat' must have a box of four numbers"),
        (
            GOOD.replace("bndbox", "box"),
            "bad_box",
            "object 1: 'cat' has no box: neither bndbox nor robndbox nor polygon",
        ),
        (GOOD.replace("bndbox", "robndbox").replace("xmin", "cx"), "bad_box", "must have a box of four numbers"),
        (GOOD.replace("bndbox", "polygon"), "bad_box", "must have a box of four numbers"),
        (GOOD.replace("<name>cat</name>", ""), "bad_annotation", "object 1: must have a name"),
        (GOOD.replace("cat", " \n"), "bad_annotation", "object 1: must have a name"),
        (voc_xml(("cat", 100, 1, 120, 5)), "outside_box", "lies outside its image of 64x48"),
    ],
)
def test_one_bad_object_is_named_and_skips_only_itself(tmp_path: Path, text: str, kind: str, message: str) -> None:
    files = {"a.jpg": "", "a.xml": text.replace("</annotation>", "") + GOOD.partition("</size>")[2], "b.jpg": ""}
    found, findings = read_all(write_files(tmp_path, {**files, "b.xml": GOOD}))
    assert found == {"train": {"a.jpg": [CAT_BOX], "b.jpg": [CAT_BOX]}}
    assert findings.counts == {kind: 1}
    assert message in str(findings.examples[kind][0])
    split = find_layout(tmp_path).split("train")
    with pytest.raises(DatasetError, match=f"a.xml.*{kind}"):
        read_split(split)
    assert boxes_of(read_split(split, [kind])) == found["train"]


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(12))


@pytest.mark.parametrize(
    "text",
    [
        f"<!DOCTYPE x [{LAUGHS}]><annotation>&l11;</annotation>",
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation>&f;</annotation>',
        '<!DOCTYPE x SYSTEM "http://host/x.dtd"><annotation/>',
        GOOD[:-20],
        GOOD.replace("cat", "R&B"),
        "",
        "\x00\xff",
        '<?xml version="1.0" encoding="none"?><annotation/>',
        '<?xml version="1.0" encoding="zip"?><annotation/>',
        GOOD.replace("annotation>", "annotations>"),
        "<a>" * 100_000 + "</a>" * 100_000,
    ],
)
def test_hostile_and_broken_xml_skips_its_image_alone(tmp_path: Path, text: str) -> None:
    write_files(tmp_path, {"a.jpg": "", "b.jpg": "", "b.xml": GOOD})
    (tmp_path / "a.xml").write_text(text, encoding="latin-1")
    found, findings = read_all(tmp_path)
    assert found == {"train": {"b.jpg": [CAT_BOX]}}
    assert findings.counts == {"unreadable_label": 1}
    assert str(findings.examples["unreadable_label"][0]).startswith(str(tmp_path / "a.xml"))


def test_files_and_images_that_lead_out_of_the_dataset_are_refused(tmp_path: Path) -> None:
    root = write_devkit(tmp_path / "voc")
    for place, name in (("JPEGImages", "a.jpg"), ("Annotations", "c.xml"), ("Annotations", "b.xml")):
        (root / place / name).rename(tmp_path / name)
        (root / place / name).symlink_to(tmp_path / name)
    (root / "ImageSets/Main/val.txt").write_text("c\nd\n../../secret\n")
    write_files(root, {"JPEGImages/e.jpg": "", "Annotations/e.xml": GOOD})
    with pytest.raises(DatasetError, match="lists no images that can be used: .* is a link out of"):
        read_all(root)  # neither of the two images of train is left
    (root / "ImageSets/Main/train.txt").write_text("a\nb\ne\n")
    found, findings = read_all(root)
    assert found == {"train": {"JPEGImages/e.jpg": [CAT_BOX]}, "val": {"JPEGImages/d.jpg": []}}
    assert findings.counts == {"unsafe_path": 3, "missing_file": 1, "unlabelled_image": 1, "missing_size": 1}
    with pytest.raises(DatasetError, match="is a link out of"):
        read_split(find_layout(root).split("train"), [kind for kind in KINDS if KINDS[kind].can_allow])


@pytest.mark.parametrize(
    ("encoding", "declared", "name"),
    [
        ("utf-8", "", "кот"),
        ("utf-8-sig", "", "кот"),
        ("utf-8-sig", "utf-8", "кот"),
        ("utf-16", "", "кот"),
        ("utf-16", "utf-16", "кот"),
        ("cp1251", "windows-1251", "кот"),
        ("latin-1", "ISO-8859-1", "Möwe"),
        ("gbk", "gb2312", "汽车"),
        ("gb18030", "GBK", "汽车"),
        ("big5", "big5", "汽車"),
        ("cp932", "Shift_JIS", "犬"),
        ("euc_kr", "euc-kr", "고양이"),
    ],
)
def test_class_names_are_read_in_the_files_own_encoding(
    tmp_path: Path, encoding: str, declared: str, name: str
) -> None:
    header = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    save(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_bytes((header + GOOD.replace("cat", name)).encode(encoding))
    found, findings = read_all(tmp_path)
    assert found == {"train": {"a.jpg": [(name, CAT_BOX[1])]}}
    assert not findings.counts


def test_a_directory_in_another_encoding_is_no_matter_but_a_class_name_is(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg")
    text = GOOD.replace("<size>", "<path>C:/Bücher</path><size>")
    (tmp_path / "a.xml").write_bytes(text.encode("latin-1"))
    assert read_all(tmp_path)[0] == {"train": {"a.jpg": [CAT_BOX]}}
    (tmp_path / "a.xml").write_bytes((text[:-13] + GOOD.replace("cat", "Möwe")[12:]).encode("latin-1"))
    found, findings = read_all(tmp_path)
    assert found == {"train": {"a.jpg": [CAT_BOX]}}
    assert findings.counts == {"bad_annotation": 1}


def test_names_of_elements_in_any_case_and_namespace(tmp_path: Path) -> None:
    text = GOOD.replace("<annotation>", '<Annotation xmlns="http://host/voc" verified="yes">')
    for tag in ("object", "name", "bndbox", "xmin"):
        text = text.replace(f"<{tag}>", f"<{tag.title()}>").replace(f"</{tag}>", f"</{tag.title()}>")
    text = text.replace("</annotation>", "</Annotation>").replace("\n", "\r\n")
    found, findings = read_all(write_files(tmp_path, {"a.jpg": "", "a.xml": text}))
    assert found == {"train": {"a.jpg": [CAT_BOX]}}
    assert not findings.counts


def sized(width: object, height: object) -> str:
    return f"<width>{width}</width><height>{height}</height>"


@pytest.mark.parametrize("size", ["", sized(0, 0), sized("", ""), sized("?", 5), sized(-64, 48)])
def test_a_size_that_is_missing_or_0_is_the_files(tmp_path: Path, size: str) -> None:
    found, findings = read_all(write_files(tmp_path, {"a.jpg": "", "a.xml": voc_xml(CAT, size=size)}))
    assert found == {"train": {"a.jpg": [CAT_BOX]}}
    assert not findings.kinds("error")
    assert read_split(find_layout(tmp_path).split("train")).sizes.tolist() == [[48, 64]]


@pytest.mark.parametrize(
    ("said", "box", "kind"),
    [
        ((9, 9), (1, 1, 64, 48), "other_size"),  # the box fits into the file's size alone
        ((500, 500), (1, 1, 60, 40), "other_size"),  # it fits into both, and the aspect ratio is another
        ((640, 480), (1, 1, 60, 40), "size_mismatch"),  # shrunk to a tenth after it was annotated?
        ((640, 600), (1, 1, 600, 480), "size_mismatch"),  # the box fits into the size that is said alone
    ],
)
def test_another_size_than_the_files_is_told_from_a_resized_image(
    tmp_path: Path, said: tuple[int, int], box: tuple[int, int, int, int], kind: str
) -> None:
    files = {"a.jpg": "", "a.xml": voc_xml(("cat", *box), size=sized(*said)), "b.jpg": "", "b.xml": GOOD}
    findings = Findings()
    data = scan_split(find_layout(write_files(tmp_path, files)).split("train"), findings, every_header=True)
    assert findings.counts == {kind: 1}
    says = (
        "says {}x{} of a.jpg, which has 64x48" if kind == "other_size" else "is annotated as {}x{} and decodes to 64x48"
    )
    assert says.format(*said) in str(findings.examples[kind][0])
    assert data.sizes.tolist()[0] == [48, 64] if kind == "other_size" else [said[1], said[0]]


def test_one_resized_image_makes_the_doubtful_ones_doubtful(tmp_path: Path) -> None:
    doubtful, resized = voc_xml(("cat", 1, 1, 60, 40), size=sized(500, 500)), (("cat", 1, 1, 499, 499), sized(500, 500))
    write_files(tmp_path, {"a.jpg": "", "a.xml": doubtful, "b.jpg": ""})
    write_files(tmp_path, {"b.xml": voc_xml(resized[0], size=resized[1])})
    findings = Findings()
    scan_split(find_layout(tmp_path).split("train"), findings, every_header=True)
    assert findings.counts["size_mismatch"] == 2


def test_difficult_and_truncated_objects_are_kept_and_counted(tmp_path: Path) -> None:
    text = voc_xml(("dog", 1, 1, 5, 5), CAT).replace("<difficult>0", "<truncated>1</truncated><difficult>0")
    found, findings = read_all(write_files(tmp_path, {"a.jpg": "", "a.xml": text}))
    assert [label for label, _ in found["train"]["a.jpg"]] == ["dog", "cat"]
    assert findings.counts == {"difficult_object": 1}


def test_a_dataset_without_any_object_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.jpg": "", "a.xml": voc_xml()})
    with pytest.raises(DatasetError, match="no object in its 1 annotation files"):
        read_split(find_layout(tmp_path).split("train"))


def test_an_image_that_cannot_be_read_skips_itself_where_its_size_is_needed(tmp_path: Path) -> None:
    sizeless = voc_xml(CAT, size="")
    found, findings = read_all(
        write_files(tmp_path, {"a.jpg": "no image", "a.xml": sizeless, "b.jpg": "", "b.xml": GOOD})
    )
    assert found == {"train": {"b.jpg": [CAT_BOX]}}
    assert findings.counts == {"unreadable_image": 1}


def test_the_fingerprint_tells_one_annotation_from_another(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.jpg": "", "a.xml": GOOD})
    split = find_layout(tmp_path).split("train")
    before = read_split(split).fingerprint
    assert read_split(split).fingerprint == before
    (tmp_path / "a.xml").write_text(GOOD.replace("<xmax>20", "<xmax>21"))
    assert read_split(split).fingerprint != before


def test_an_image_turned_by_exif_has_its_upright_size_where_the_boxes_say_so(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.jpg", 64, 48, exif=exif)
    (tmp_path / "a.xml").write_text(voc_xml(("cat", 1, 1, 10, 60)))
    data = read_split(find_layout(tmp_path).split("train"))
    assert data.sizes.tolist() == [[64, 48]]
    assert data.boxes_xywh.tolist() == [[0, 0, 10, 60]]
