"""Write detections in COCO's formats: as annotations with their images, or as results with the ids of a dataset."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import supervision as sv

from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.prediction.frame import Frame
from rfdetr_hwd.prediction.growing_file import GrowingFile

_CHUNK = 1 << 20


class CocoWriter:
    """Writes `coco.json`: categories with ids from 1, and for each image its entry and its annotations, with a score.

    Args:
        out: Its directory.
        class_names: Class names in label order.
    """

    def __init__(self, out: Path, class_names: Sequence[str]) -> None:
        categories = json.dumps([{"id": number, "name": name} for number, name in enumerate(class_names, 1)])
        head = f'{{"categories": {categories}, "annotations": ['
        self._file = GrowingFile(out / "coco.json", head.encode(), b'\n], "images": []}\n')
        # The images follow the annotations in the file, and there may be too many to be kept in memory
        self._images: IO[bytes] = tempfile.TemporaryFile(dir=out)  # noqa: SIM115, closed by `close`
        self._num_images = self._num_annotations = 0

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write an image and its annotations."""
        entry: dict[str, Any] = {"id": self._num_images + 1, "file_name": frame.place.as_posix()}
        entry |= {"width": frame.image.width, "height": frame.image.height}
        annotations = [
            {
                **{"id": self._num_annotations + number, "image_id": entry["id"], "category_id": label + 1},
                **{"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "score": score},
            }
            for number, (label, box, score) in enumerate(_rows(detections), 1)
        ]
        self._file.append(b"".join(_listed(annotations, self._num_annotations)))
        self._images.write(b"".join(_listed([entry], self._num_images)))
        self._num_images += 1
        self._num_annotations += len(annotations)

    def close(self) -> dict[str, Path]:
        """Write the images, and put the file in place."""
        with self._images:
            self._file.close(self._end())
        return {"COCO annotations": self._file.path}

    def _end(self) -> Iterator[bytes]:
        yield b'\n], "images": ['
        self._images.seek(0)
        while part := self._images.read(_CHUNK):
            yield part
        yield b"\n]}\n"


class ResultsWriter:
    """Writes `results.json`, a COCO results file with the image and category ids of a dataset.

    An image is that of the same relative path, or else the only one of the same file name.

    Args:
        out: Its directory.
        class_names: Class names in label order.
        data: The dataset.

    Raises:
        DatasetError: No class has a name in common.
    """

    def __init__(self, out: Path, class_names: Sequence[str], data: DetectionData) -> None:
        self._file = GrowingFile(out / "results.json", b"[", b"\n]\n")
        self._category_ids = data.map_classes(class_names).category_ids
        names, ids = data.file_names.tolist(), data.image_ids.tolist()
        self._by_path = dict(zip(names, ids, strict=True))
        counts = Counter(Path(name).name for name in names)
        by_name = {Path(name).name: image_id for name, image_id in self._by_path.items()}
        self._by_name = {name: image_id for name, image_id in by_name.items() if counts[name] == 1}
        self._found: set[int] = set()
        self._num_unknown = self._num_written = 0

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write the results of an image, if it is one of the dataset. Classes that the dataset lacks have none."""
        image_id = self._find(frame.place)
        if image_id is None or image_id in self._found:
            self._num_unknown += 1
            return
        self._found.add(image_id)
        results = [
            {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
            for label, box, score in _rows(detections)
            if (category_id := self._category_ids[label]) is not None
        ]
        self._file.append(b"".join(_listed(results, self._num_written)))
        self._num_written += len(results)

    def close(self) -> dict[str, Path]:
        """Put the file in place, and report the images that only one side has."""
        self._file.close()
        if self._num_unknown:
            say(f"images without results, because the ground truth lacks them: {self._num_unknown}")
        if missing := len(self._by_path) - len(self._found):
            say(f"images of the ground truth without results: {missing} of {len(self._by_path)}")
        return {"COCO results": self._file.path}

    def _find(self, place: Path) -> int | None:
        return self._by_path.get(place.as_posix(), self._by_name.get(place.name))


def _rows(detections: sv.Detections) -> Iterator[tuple[int, list[float], float]]:
    """Yield label, xywh box in pixels, and score of each detection."""
    boxes = detections.xyxy.astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    yield from zip(detections.class_id.tolist(), boxes.tolist(), detections.confidence.tolist(), strict=True)


def _listed(values: Sequence[object], num_before: int) -> Iterator[bytes]:
    """Yield the JSON text of values that follow so many others of a list."""
    for number, value in enumerate(values, num_before):
        yield (",\n" if number else "\n").encode() + json.dumps(value).encode()
