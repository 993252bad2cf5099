"""The layouts of datasets that are recognised, as tools and public datasets have them: for messages, docs and tests.

Annotation files are recognised by what is in them, so this is no list to search: whatever looks like one of these, in
any case and any directories deeper, is found as well.
"""

from typing import NamedTuple

from rfdetr_hwd.data.formats import Format


class KnownLayout(NamedTuple):
    """A layout.

    Attributes:
        format: What it is read as.
        made_by: The tools that write it, or where it is usual.
        annotations: Where the annotations are; SPLIT stands for train, valid and the like, in any spelling.
        images: Where the images are; a directory ends in `/`.
    """

    format: Format
    made_by: str
    annotations: str
    images: str


LAYOUTS: tuple[KnownLayout, ...] = (
    KnownLayout("roboflow", "Roboflow", "SPLIT/_annotations.coco.json", "SPLIT/"),
    KnownLayout("roboflow", "Roboflow, not split", "_annotations.coco.json", "./"),
    KnownLayout("coco", "COCO", "annotations/instances_SPLIT2017.json", "SPLIT2017/"),
    KnownLayout("coco", "COCO, other years and names", "annotations/instances_SPLIT.json", "SPLIT2017/"),
    KnownLayout("coco", "CVAT, Datumaro", "annotations/instances_SPLIT.json", "images/SPLIT/"),
    KnownLayout("coco", "CVAT without subsets", "annotations/instances_default.json", "images/default/"),
    KnownLayout("coco", "Supervisely", "annotations/instances.json", "images/"),
    KnownLayout("coco", "Supervisely, a project", "SPLIT/annotations/instances.json", "SPLIT/images/"),
    KnownLayout("coco", "DETR", "annotations/custom_SPLIT.json", "SPLIT2017/"),
    KnownLayout("coco", "FiftyOne", "labels.json", "data/"),
    KnownLayout("coco", "Label Studio", "result.json", "images/"),
    KnownLayout("coco", "VIA, makesense", "NAME.json", "./"),
    KnownLayout("coco", "labelme2coco", "SPLIT.json", "images/"),
    KnownLayout("coco", "many", "annotations.json", "images/"),
    KnownLayout("coco", "many", "SPLIT/annotations.json", "SPLIT/images/"),
    KnownLayout("coco", "many", "annotations/SPLIT.json", "images/"),
    KnownLayout("yolo", "Ultralytics", "NAME.yaml, labels/SPLIT/*.txt", "images/SPLIT/"),
    KnownLayout("yolo", "Roboflow", "data.yaml, SPLIT/labels/*.txt", "SPLIT/images/"),
    KnownLayout("yolo", "many, labels beside images", "data.yaml, SPLIT/*.txt", "SPLIT/"),
    KnownLayout("yolo", "many, lists of images", "data.yaml, SPLIT.txt, labels/*.txt", "images/"),
    KnownLayout("yolo", "Darknet, CVAT", "obj.data, obj.names, SPLIT.txt, obj_SPLIT_data/*.txt", "obj_SPLIT_data/"),
    KnownLayout("yolo", "Roboflow for Darknet", "SPLIT/_darknet.labels, SPLIT/*.txt", "SPLIT/"),
    KnownLayout("yolo", "Label Studio, LabelImg", "classes.txt, labels/*.txt", "images/"),
    KnownLayout("yolo", "makesense", "*.txt", "./"),
    KnownLayout("voc", "Pascal VOC", "Annotations/*.xml, ImageSets/Main/SPLIT.txt", "JPEGImages/"),
    KnownLayout("voc", "Roboflow", "SPLIT/*.xml", "SPLIT/"),
    KnownLayout("voc", "Kaggle", "annotations/*.xml", "images/"),
    KnownLayout("voc", "LabelImg", "*.xml", "./"),
    KnownLayout("voc", "many", "SPLIT/annotations/*.xml", "SPLIT/images/"),
    KnownLayout("webdataset", "rfdetr", "SPLIT-index.json", "*.tar"),
)
