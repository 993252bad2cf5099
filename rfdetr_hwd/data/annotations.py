"""The annotations of one split, in a few flat arrays that data loader workers share without copies."""

import hashlib
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from rfdetr_hwd.data.deep_images import DeepValues
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.images import (
    USUAL,
    Header,
    ImageError,
    ReadOptions,
    check_file,
    measure_depth,
    read_header,
    read_image,
)


def _clipped(boxes_xywh: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the parts of boxes (n, 4) that lie in their images, xyxy; sizes are (height, width), one or (n, 2)."""
    corners = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
    limits = np.concatenate([sizes[..., ::-1], sizes[..., ::-1]], axis=-1)
    clipped: NDArray[np.float64] = np.clip(corners, 0, limits)
    return clipped.astype(np.float32)


def _have_area(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (boxes_xyxy[:, 2] > boxes_xyxy[:, 0]) & (boxes_xyxy[:, 3] > boxes_xyxy[:, 1])


@dataclass(frozen=True)
class Shards:
    """Where the images of a split lie in tar files.

    Attributes:
        paths: The tar files.
        members: Shape (N, 3) int64; for each image its tar file, and the offset and size of its bytes.
    """

    paths: tuple[Path, ...]
    members: NDArray[np.int64]


@dataclass(frozen=True)
class ClassMap:
    """The classes of a model found by name in a dataset.

    Attributes:
        category_ids: For each class of the model the dataset's category id; `None` where the dataset lacks it.
        only_model: Classes that only the model has. They are not evaluated.
        only_dataset: Classes that only the dataset has: their AP is 0.
    """

    category_ids: tuple[int | None, ...]
    only_model: tuple[str, ...]
    only_dataset: tuple[str, ...]

    def describe_difference(self) -> str:
        """Return the classes that only the dataset has, each with a class of the model of similar spelling."""
        plain = {_plainly(name): name for name in self.only_model}
        nearly = ((name, plain.get(_plainly(name))) for name in self.only_dataset)
        return ", ".join(f"{name!r} (is it {other!r}?)" if other else repr(name) for name, other in nearly)


def _plainly(name: str) -> str:
    """Return a class name without common differences of spelling: case, spaces, hyphens, Unicode form."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c not in " -_")


@dataclass(frozen=True)
class DetectionData:
    """The annotations of one split, one row an image; see `rfdetr_hwd.data.read.read_split`.

    Attributes:
        name: Name of the split.
        images: Directory of the images, or of the shards.
        class_names: Class names in label order.
        category_ids: The dataset's own category id of each label.
        image_ids: Shape (N,) int64.
        file_names: Paths below `images`, N of them; in shards the names of the members.
        sizes: Shape (N, 2) int64, (height, width) in pixels as annotated.
        offsets: Shape (N + 1,) int64; the objects of image i are rows `offsets[i]:offsets[i + 1]`.
        boxes_xywh: Shape (M, 4) float64, in pixels, as annotated.
        labels: Shape (M,) int64.
        crowd: Shape (M,) bool; crowd regions are ignored, in training and as defined by COCO's evaluation.
        areas: Shape (M,) float64, in pixels.
        fingerprint: sha256 of the annotations and of the images that are used.
        shards: Where the images lie, if not in files of their own.
        options: How the images are read.
        is_stored: Whether all images are annotated as stored, also those whose size is the same upright.
    """

    name: str
    images: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: NDArray[np.int64]
    file_names: NDArray[Any]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    fingerprint: str
    shards: Shards | None = None
    options: ReadOptions = USUAL
    is_stored: bool = False

    @property
    def own_options(self) -> ReadOptions:
        """How the images of this split are read, given what its annotations refer to."""
        return replace(self.options, exif="ignore") if self.is_stored else self.options

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: NDArray[np.intp], name: str) -> "DetectionData":
        """Return some of the images, as a split of its own; its fingerprint is that of these images.

        Args:
            rows: Ascending, each once.
            name: Name of the split.
        """
        objects = np.isin(np.repeat(np.arange(len(self)), self.objects_per_image()), rows)
        image_ids = self.image_ids[rows]
        shards = self.shards and Shards(self.shards.paths, self.shards.members[rows])
        return replace(
            self,
            name=name,
            image_ids=image_ids,
            file_names=self.file_names[rows],
            sizes=self.sizes[rows],
            offsets=np.concatenate([[0], np.cumsum(self.objects_per_image()[rows])]).astype(np.int64),
            boxes_xywh=self.boxes_xywh[objects],
            labels=self.labels[objects],
            crowd=self.crowd[objects],
            areas=self.areas[objects],
            fingerprint=hashlib.sha256(f"{self.fingerprint} {image_ids.tolist()}".encode()).hexdigest(),
            shards=shards,
        )

    def path(self, index: int) -> Path:
        """Return the path of an image. In shards, it is the path as if the shard were a directory."""
        directory = self.images if self.shards is None else self.shards.paths[self.shards.members[index, 0]]
        return directory / str(self.file_names[index])

    def size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of an image in pixels as annotated."""
        height, width = self.sizes[index].tolist()
        return height, width

    def header(self, index: int) -> Header:
        """Return the header of an image file; see `rfdetr_hwd.data.images.read_header`.

        Raises:
            ImageError: It cannot be read.
        """
        return read_header(self.path(index), None if self.shards is None else self._open(index))

    def read(self, index: int) -> PIL.Image.Image:
        """Decode an image; see `rfdetr_hwd.data.images.read_image`.

        Raises:
            ImageError: It cannot be read, or does not have the size that the annotations say.
        """
        path, (height, width) = self.path(index), self.size(index)
        image = read_image(path, self._open(index), self.own_options, (height, width))
        if (height, width) != (image.height, image.width):
            raise ImageError(f"{path} is annotated as {width}x{height} and decodes to {image.width}x{image.height}")
        return image

    def measure(self, index: int) -> DeepValues:
        """Return the value range of an image with more than 8 bits per channel; see `images.measure_depth`.

        Raises:
            ImageError: It cannot be read.
        """
        return measure_depth(self.path(index), self._open(index))

    def _open(self, index: int) -> io.BytesIO:
        try:
            return io.BytesIO(self.read_bytes(index))
        except OSError as error:
            raise ImageError(f"cannot read {self.path(index)}: {error.strerror or error}") from None

    def read_bytes(self, index: int) -> bytes:
        """Return the bytes of an image file.

        Raises:
            OSError: It does not exist, or cannot be read.
        """
        if self.shards is None:
            check_file(self.path(index))
            return self.path(index).read_bytes()
        shard, offset, size = self.shards.members[index].tolist()
        with self.shards.paths[shard].open("rb") as file:
            file.seek(offset)
            content: bytes = file.read(size)
        return content

    def objects(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the boxes (n, 4) xyxy in pixels and labels (n,) for training.

        Crowd regions and boxes without area are skipped, boxes are clipped to the image.
        """
        rows = slice(self.offsets[index], self.offsets[index + 1])
        boxes = _clipped(self.boxes_xywh[rows], self.sizes[index])
        usable = ~self.crowd[rows] & _have_area(boxes)
        return boxes[usable], self.labels[rows][usable]

    def usable(self) -> NDArray[np.bool_]:
        """Return which objects can be trained on and evaluated, shape (M,): no crowds, with an area in the image."""
        boxes = _clipped(self.boxes_xywh, np.repeat(self.sizes, self.objects_per_image(), axis=0))
        return ~self.crowd & _have_area(boxes)

    def describe_lack(self) -> str:
        """Return why there is no object to train on or to evaluate. The text is empty if there is one."""
        if self.usable().any():
            return ""
        if not len(self.labels):
            return "it has no box"
        crowds = int(self.crowd.sum())
        return (
            f"none of its {len(self.labels)} boxes can be used: {crowds} are crowd regions (iscrowd), "
            f"{len(self.labels) - crowds} have no area in their image"
        )

    def objects_per_image(self) -> NDArray[np.int64]:
        """Return how many objects each image has, shape (N,)."""
        return np.diff(self.offsets)

    def map_classes(self, class_names: Sequence[str]) -> ClassMap:
        """Find the classes of a model by name; ids and order may differ.

        Raises:
            DatasetError: No class has a name in common.
        """
        ids = dict(zip(self.class_names, self.category_ids, strict=True))
        only_model = tuple(name for name in class_names if name not in ids)
        only_dataset = tuple(name for name in self.class_names if name not in class_names)
        classes = ClassMap(tuple(ids.get(name) for name in class_names), only_model, only_dataset)
        if len(only_model) == len(class_names):
            raise DatasetError(
                f"no class name of {self.images} matches a class of the model. The model has "
                f"{', '.join(map(repr, only_model))}. The dataset has {classes.describe_difference()}. Rename the "
                "categories, or train on this dataset"
            )
        return classes

    def ground_truth(self) -> dict[str, Any]:
        """Return the split as a COCO dictionary with the dataset's own image and category ids.

        Annotations are numbered from 1: the COCO evaluation reads a match with annotation 0 as no match, and Roboflow
        numbers from 0.
        """
        image_rows = np.repeat(np.arange(len(self)), self.objects_per_image())
        annotations = [
            {
                "id": i + 1,
                "image_id": int(self.image_ids[image_rows[i]]),
                "category_id": self.category_ids[self.labels[i]],
                "bbox": box_xywh,
                "area": float(self.areas[i]),
                "iscrowd": int(self.crowd[i]),
            }
            for i, box_xywh in enumerate(self.boxes_xywh.tolist())
        ]
        images = [
            {"id": int(image_id), "height": int(height), "width": int(width)}
            for image_id, (height, width) in zip(self.image_ids, self.sizes, strict=True)
        ]
        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.class_names, strict=True)]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}
