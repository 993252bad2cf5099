"""Pascal VOC datasets are recognised as tools and people lay them out: every image with its boxes, in its split."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.voc.splits import find_voc_splits
from tests.unit.data.voc_files import CAT, CAT_BOX, boxes_of, read_all, voc_xml, write_files

XML = voc_xml(CAT)


def pair(image: str, label: str) -> dict[str, str]:
    return {image: "", label: XML}


def devkit(home: str, *names: str, **lists: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in names:
        files |= pair(f"{home}JPEGImages/{name}.jpg", f"{home}Annotations/{name}.xml")
    return files | {f"{home}ImageSets/Main/{name}.txt": text for name, text in lists.items()}


LAYOUTS: Mapping[str, tuple[dict[str, str], dict[str, list[str]]]] = {
    "devkit": (
        devkit("", "a", "b", "c", train="a\n", val="b\n", trainval="a\nb\n", test="c\n"),
        {"train": ["JPEGImages/a.jpg"], "val": ["JPEGImages/b.jpg"], "test": ["JPEGImages/c.jpg"]},
    ),
    "devkit one level down": (
        devkit("VOCdevkit/VOC2012/", "a", "b", train="a\n", val="b\n"),
        {"train": ["VOCdevkit/VOC2012/JPEGImages/a.jpg"], "val": ["VOCdevkit/VOC2012/JPEGImages/b.jpg"]},
    ),
    "several years": (
        devkit("VOC2007/", "1", "2", trainval="1\n", test="2\n") | devkit("VOC2012/", "3", "1", train="3\n", val="1\n"),
        {
            "train": ["VOC2007/JPEGImages/1.jpg", "VOC2012/JPEGImages/3.jpg"],
            "val": ["VOC2012/JPEGImages/1.jpg"],
            "test": ["VOC2007/JPEGImages/2.jpg"],
        },
    ),
    "trainval and test alone": (
        devkit("", "a", "b", "c", trainval="a\nc\n", test="b\n"),
        {"trainval": ["JPEGImages/a.jpg", "JPEGImages/c.jpg"], "test": ["JPEGImages/b.jpg"]},
    ),
    "trainval and val: the rest is for training": (
        devkit("", "a", "b", "c", trainval="a\nb\nc\n", val="b\n"),
        {"trainval": ["JPEGImages/a.jpg", "JPEGImages/c.jpg"], "val": ["JPEGImages/b.jpg"]},
    ),
    "train and trainval: the rest is for validation": (
        devkit("", "a", "b", "c", trainval="a\nb\nc\n", train="b\n"),
        {"train": ["JPEGImages/b.jpg"], "trainval": ["JPEGImages/a.jpg", "JPEGImages/c.jpg"]},
    ),
    "trainval without test: what it does not list is in no split": (
        devkit("", "a", "b", trainval="a\n"),
        {"trainval": ["JPEGImages/a.jpg"]},
    ),
    "a single list whose name says nothing, as CVAT has it": (
        pair("JPEGImages/cam0/a.jpg", "Annotations/cam0/a.xml")
        | pair("JPEGImages/b.jpg", "Annotations/b.xml")
        | {"ImageSets/Main/default.txt": "cam0/a\nb\n"},
        {"default": ["JPEGImages/b.jpg", "JPEGImages/cam0/a.jpg"]},
    ),
    "lists in other places, spelled otherwise": (
        pair("JPEGImages/a b.v1.jpg", "Annotations/a b.v1.xml")
        | pair("JPEGImages/c.jpg", "Annotations/c.xml")
        | {"ImageSets/Train.txt": "\ufeffa b.v1\r\n", "ImageSets/VAL.txt": "c.jpg\r\n"},
        {"train": ["JPEGImages/a b.v1.jpg"], "val": ["JPEGImages/c.jpg"]},
    ),
    "lists of pairs, as PaddleDetection has them": (
        pair("images/a.jpg", "annotations/a.xml")
        | pair("images/c.jpg", "annotations/c.xml")
        | {"train.txt": "./images/a.jpg ./annotations/a.xml\n", "valid.txt": "images\\c.jpg annotations\\c.xml\n"},
        {"train": ["images/a.jpg"], "valid": ["images/c.jpg"]},
    ),
    "a text file that is no list": (
        pair("a.jpg", "a.xml") | {"train.txt": "epoch 1\nepoch 2\n"},
        {"train": ["a.jpg"]},
    ),
    "no lists": (devkit("", "a", "b"), {"train": ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]}),
    "Kaggle": (pair("images/a.png", "annotations/a.xml"), {"train": ["images/a.png"]}),
    "annots": (pair("images/a.jpg", "annots/a.xml"), {"train": ["images/a.jpg"]}),
    "any case": (pair("Images/A.JPG", "ANNOTATIONS/a.XML"), {"train": ["Images/A.JPG"]}),
    "xmls below annotations": (pair("images/a.jpg", "annotations/xmls/a.xml"), {"train": ["images/a.jpg"]}),
    "LabelImg, beside": (pair("a.jpg", "a.xml") | pair("sub/b.jpg", "sub/b.xml"), {"train": ["a.jpg", "sub/b.jpg"]}),
    "subdirectories of both": (
        pair("images/x/1.jpg", "annotations/x/1.xml") | pair("images/y/1.jpg", "annotations/y/1.xml"),
        {"train": ["images/x/1.jpg", "images/y/1.jpg"]},
    ),
    "subdirectories of the images": (
        pair("JPEGImages/x/1.jpg", "Annotations/1.xml"),
        {"train": ["JPEGImages/x/1.jpg"]},
    ),
    "subdirectories of the annotations": (pair("images/1.jpg", "labels/x/1.xml"), {"train": ["images/1.jpg"]}),
    "Stanford Dogs, without suffix": (
        pair("Images/n02-dog/n02_1.jpg", "Annotation/n02-dog/n02_1"),
        {"train": ["Images/n02-dog/n02_1.jpg"]},
    ),
    "Roboflow": (
        pair("train/a.jpg", "train/a.xml") | pair("valid/b.jpg", "valid/b.xml") | pair("test/c.jpg", "test/c.xml"),
        {"train": ["train/a.jpg"], "valid": ["valid/b.jpg"], "test": ["test/c.jpg"]},
    ),
    "directories of splits, each with both": (
        pair("Train/images/1.jpg", "Train/annotations/1.xml")
        | pair("Validation/images/1.jpg", "Validation/annotations/1.xml"),
        {"Train": ["Train/images/1.jpg"], "Validation": ["Validation/images/1.jpg"]},
    ),
    "directories of both, each with the splits": (
        pair("images/train/1.jpg", "annotations/train/1.xml") | pair("images/test/1.jpg", "annotations/test/1.xml"),
        {"train": ["images/train/1.jpg"], "test": ["images/test/1.jpg"]},
    ),
    "names of splits with more": (
        pair("train_images/1.jpg", "train_annotations/1.xml") | pair("val_images/1.jpg", "val_annotations/1.xml"),
        {"train_images": ["train_images/1.jpg"], "val_images": ["val_images/1.jpg"]},
    ),
    "a class called train": (
        pair("images/bullet train/1.jpg", "annotations/bullet train/1.xml")
        | pair("images/x/2.jpg", "annotations/x/2.xml"),
        {"train": ["images/bullet train/1.jpg", "images/x/2.jpg"]},
    ),
    "a test set without annotations is no split": (
        pair("images/1.jpg", "annotations/1.xml") | {"test_images/2.jpg": "", "test_images/3.jpg": ""},
        {"train": ["images/1.jpg"]},
    ),
    "a listed test set without annotations is no split": (
        devkit("", "a", "b", train="a\n", val="b\n", test="c\n") | {"JPEGImages/c.jpg": ""},
        {"train": ["JPEGImages/a.jpg"], "val": ["JPEGImages/b.jpg"]},
    ),
    "masks are no background": (
        devkit("", "a", "b", train="a\nb\n") | {"SegmentationClass/a.png": "", "SegmentationObject/a.png": ""},
        {"train": ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]},
    ),
    "another tool's XML": (
        pair("a.jpg", "a.xml") | {"project.xml": "<project/>", "cvat.xml": "<annotations><image/></annotations>"},
        {"train": ["a.jpg"]},
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts(tmp_path: Path, case: str) -> None:
    files, expected = LAYOUTS[case]
    write_files(tmp_path, files)
    found, findings = read_all(tmp_path)
    assert {name: sorted(images) for name, images in found.items()} == expected
    assert all(boxes == [CAT_BOX] for images in found.values() for boxes in images.values())
    assert not findings.counts


def test_a_list_can_be_named(tmp_path: Path) -> None:
    lists = {"train": "a\n", "val": "b\n", "trainval": "a\nb\n", "fold 3": "c\n", "cat_train": "a  1\n"}
    write_files(tmp_path, devkit("", "a", "b", "c", **lists))
    layout = find_layout(tmp_path)
    assert len(read_split(layout.split("train", "trainval"))) == 2
    assert boxes_of(read_split(layout.split("val", "fold 3"))) == {"JPEGImages/c.jpg": [CAT_BOX]}
    with pytest.raises(DatasetError, match="fold 4"):
        read_split(layout.split("val", "fold 4"))


@pytest.mark.parametrize(
    ("files", "kind", "message", "kept"),
    [
        (  # an annotation file without image
            pair("JPEGImages/a.jpg", "Annotations/a.xml") | {"Annotations/b.xml": voc_xml(CAT, file_name="b.jpg")},
            "missing_file",
            "Annotations/b.xml: there is no image for it: none has the stem 'b' or the name 'b.jpg'",
            {"JPEGImages/a.jpg": [CAT_BOX]},
        ),
        (  # in one directory two images of one stem: the one that the file names
            pair("a.jpg", "a.xml") | {"a.png": "", "a.xml": voc_xml(CAT, file_name="A.PNG")},
            "same_stem",
            "a.jpg: shares its stem with another image, and a.xml is for a.png",
            {"a.png": [CAT_BOX]},
        ),
        (  # ... and none of them where it names neither
            pair("b.jpg", "b.xml") | {"a.jpg": "", "a.png": "", "a.xml": voc_xml(CAT, file_name="x")},
            "same_stem",
            "a.jpg: shares its stem with another image, and a.xml does not tell which of a.jpg, a.png it is for",
            {"b.jpg": [CAT_BOX]},
        ),
        (  # two annotation files for one image
            pair("images/a.jpg", "annotations/a.xml") | {"annotations/old/a.xml": voc_xml(("dog", 1, 1, 5, 5))},
            "duplicate_label",
            "annotations/old/a.xml: images/a.jpg has the annotation file annotations/a.xml already",
            {"images/a.jpg": [CAT_BOX]},
        ),
        (  # the image that the file names, where none has its stem
            {"images/photo 1.jpg": "", "annotations/0001.xml": voc_xml(CAT, file_name=r"C:\x\Photo 1.jpg")},
            "image_by_name",
            "annotations/0001.xml: names the image images/photo 1.jpg, and no image has its stem",
            {"images/photo 1.jpg": [CAT_BOX]},
        ),
        (  # not where that image has an annotation file of its own
            pair("a.jpg", "a.xml") | {"b.xml": voc_xml(CAT, file_name="a.jpg")},
            "missing_file",
            "b.xml: there is no image for it",
            {"a.jpg": [CAT_BOX]},
        ),
        (  # an image without annotation file
            pair("a.jpg", "a.xml") | {"b.jpg": ""},
            "unlabelled_image",
            "b.jpg: has no annotation file",
            {"a.jpg": [CAT_BOX], "b.jpg": []},
        ),
        (  # a list that names an image which is not there
            devkit("", "a", train="a\nb\n"),
            "missing_file",
            "ImageSets/Main/train.txt: lists 'b', but there is no image of that name",
            {"JPEGImages/a.jpg": [CAT_BOX]},
        ),
    ],
)
def test_what_is_no_pair_is_named(
    tmp_path: Path, files: dict[str, str], kind: str, message: str, kept: dict[str, list]
) -> None:
    found, findings = read_all(write_files(tmp_path, files))
    assert found == {"train": kept}
    assert (
        findings.counts[kind] == len(findings.examples[kind]) == (2 if "neither" in message else 1)
        or kind == "same_stem"
    )
    assert any(message in str(example) for example in findings.examples[kind])


def test_names_that_differ_in_case_or_accents_are_pairs(tmp_path: Path) -> None:
    files = pair("images/IMG_1.JPG", "annotations/img_1.xml") | pair(
        "images/Mo\u0308we.jpg", "annotations/M\u00f6we.xml"
    )
    found, findings = read_all(write_files(tmp_path, files))
    assert found == {"train": {"images/IMG_1.JPG": [CAT_BOX], "images/Mo\u0308we.jpg": [CAT_BOX]}}
    assert not findings.counts


def test_images_that_no_list_has_are_counted(tmp_path: Path) -> None:
    files = devkit("", "a", "b", "c", trainval="a\n") | {"logo.png": "", "JPEGImages/d.jpg": ""}
    found = find_voc_splits(tmp_path, FileList.scan(write_files(tmp_path, files)))
    assert found is not None
    assert found.notes == (
        "2 images with annotation files are in no split, the first: JPEGImages/b.jpg",
        "2 images without annotation files are in no split, the first: JPEGImages/d.jpg",
    )
    assert find_voc_splits(tmp_path, FileList(tmp_path, frozenset({"a.xml", "a.jpg"}))) is None  # nothing in a.xml


def test_the_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    files = pair("train/a.jpg", "train/a.xml") | {"valid/b.jpg": "", "valid/b.xml": voc_xml(("ant", 1, 1, 5, 5))}
    layout = find_layout(write_files(tmp_path, files))
    for role in ("train", "val"):
        assert read_split(layout.split(role)).class_names == ("ant", "cat")
