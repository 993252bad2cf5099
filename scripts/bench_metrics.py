"""Time and memory of COCO metrics on a problem of val2017's size, beside pycocotools with a dictionary a box.

    python scripts/bench_metrics.py --images 5000 --out benchmarks/metrics-DATE.json

The problem is synthetic: 300 detections an image over 80 classes, 7.4 objects an image, a part of the detections near
objects. "before" is the code of commit 8745355: a dictionary a box, `loadRes`, `evaluate` and `accumulate` of
pycocotools. "now" is `CocoMetric`, whose time includes the confidence thresholds with the best F1. Every run has its
own process. Time is that of all updates and one computation. Memory is the growth of the largest resident size over
that after the ground truth is built. The last line is JSON: `ratio_to_pycocotools` (time), `cpu_ratio` (processor
time of all threads, which other programs of the machine do not lengthen), `memory_ratio`, and `largest_difference` of
all metrics.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rfdetr_hwd.evaluation.coco import COCO_METRICS, CocoMetric
from rfdetr_hwd.runtime.environment import describe_environment

VAL2017_IMAGES, VAL2017_OBJECTS = 5000, 36_781
NUM_CLASSES, DETECTIONS, BATCH, MAX_DETS = 80, 300, 16, 500
NEAR = 0.2  # of the detections, those near an object
CATEGORY_IDS = tuple(range(1, NUM_CLASSES + 1))
ROUNDS = {"now": 3, "before": 1}


def main() -> None:
    """Measure both kinds, each run in its own process, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=VAL2017_IMAGES)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--child", choices=ROUNDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.images)))
        return
    runs = {kind: [run_child(kind, arguments.images) for _ in range(rounds)] for kind, rounds in ROUNDS.items()}
    summary = summarise(runs)
    content = {
        "command": f"python scripts/bench_metrics.py --images {arguments.images}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "environment": describe_environment(),
        "images": arguments.images,
        "objects": num_objects(arguments.images),
        "detections": arguments.images * DETECTIONS,
        "classes": NUM_CLASSES,
        "runs": runs,
        "summary": summary,
    }
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary))


def run_child(kind: str, images: int) -> dict[str, Any]:
    """Measure one kind in a fresh process."""
    command = [sys.executable, __file__, "--images", str(images), "--child", kind]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    run: dict[str, Any] = json.loads(output.splitlines()[-1])
    print(kind, {key: run[key] for key in ("update_s", "compute_s", "cpu_s", "gb")}, flush=True)
    return run


def summarise(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Return the ratios of medians, now to before, and the largest difference of a metric.

    Raises:
        ValueError: A metric is measured by one of them alone.
    """
    seconds = {kind: statistics.median(run["update_s"] + run["compute_s"] for run in runs[kind]) for kind in runs}
    processor = {kind: statistics.median(run["cpu_s"] for run in runs[kind]) for kind in runs}
    memory = {kind: statistics.median(run["gb"] for run in runs[kind]) for kind in runs}
    now, before = (runs[kind][0]["metrics"] for kind in ("now", "before"))
    if {name for name, value in now.items() if value is None} != {
        name for name, value in before.items() if value is None
    }:
        raise ValueError("some metrics are measured by one of them alone")
    return {
        "ratio_to_pycocotools": seconds["now"] / seconds["before"],
        "cpu_ratio": processor["now"] / processor["before"],
        "memory_ratio": memory["now"] / memory["before"],
        "largest_difference": max(abs(now[name] - before[name]) for name in before if before[name] is not None),
    }


def measure(kind: str, images: int) -> dict[str, Any]:
    """Return seconds of the updates and of the computation, memory and metrics of one kind."""
    truth = make_ground_truth(images)
    metric = (CocoMetric if kind == "now" else DictionaryMetric)(truth, CATEGORY_IDS, MAX_DETS)
    before = resident_gb()
    spent = {"update_s": 0.0, "compute_s": 0.0, "cpu_s": 0.0}
    for image_ids, results in make_results(truth):
        with timed(spent, "update_s"):
            metric.update(image_ids, results)
    with timed(spent, "compute_s"):
        metrics = metric.measure() if isinstance(metric, CocoMetric) else metric.compute()
    metrics = {name: value for name, value in metrics.items() if not name.startswith("threshold")}
    return {**spent, "gb": resident_gb() - before, "metrics": metrics}


@contextlib.contextmanager
def timed(spent: dict[str, float], name: str) -> Iterator[None]:
    """Add the time of the block under a name, and its processor time."""
    start, processor = time.perf_counter(), time.process_time()
    yield
    spent[name] += time.perf_counter() - start
    spent["cpu_s"] += time.process_time() - processor


def resident_gb() -> float:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def num_objects(images: int) -> int:
    """Return the number of objects in as many images of val2017."""
    return round(images * VAL2017_OBJECTS / VAL2017_IMAGES)


def make_ground_truth(images: int) -> dict[str, Any]:
    """Return a COCO dictionary of random objects, a few of them crowds."""
    rng = np.random.default_rng(0)
    number = num_objects(images)
    places = np.sort(rng.integers(0, images, number)).tolist()
    boxes_xywh = np.concatenate([rng.uniform(0, 400, (number, 2)), 4 * np.exp(rng.uniform(0, 4, (number, 2)))], axis=1)
    labels, crowds = rng.integers(0, NUM_CLASSES, number).tolist(), (rng.random(number) < 0.01).tolist()
    annotations = [
        {
            "id": row + 1,
            "image_id": place + 1,
            "category_id": CATEGORY_IDS[label],
            "bbox": box,
            "area": 0.6 * box[2] * box[3],
            "iscrowd": int(crowd),
        }
        for row, (place, label, box, crowd) in enumerate(zip(places, labels, boxes_xywh.tolist(), crowds, strict=True))
    ]
    return {
        "info": {},
        "images": [{"id": i + 1, "height": 480, "width": 640} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in CATEGORY_IDS],
    }


def make_results(truth: Mapping[str, Any]) -> Iterator[tuple[tuple[int, ...], list[dict[str, Tensor]]]]:
    """Yield image ids and what a network finds, batch by batch: best first, a fifth near objects, float32."""
    rng = np.random.default_rng(1)
    objects: dict[int, list[Any]] = {}
    for annotation in truth["annotations"]:
        objects.setdefault(annotation["image_id"], []).append((*annotation["bbox"], annotation["category_id"] - 1))
    image_ids = [image["id"] for image in truth["images"]]
    for start in range(0, len(image_ids), BATCH):
        part = tuple(image_ids[start : start + BATCH])
        yield part, [find(rng, np.array(objects.get(image_id, []))) for image_id in part]


def find(rng: np.random.Generator, objects: np.ndarray) -> dict[str, Tensor]:
    """Return detections in an image with objects (n, 5): xywh and label."""
    boxes_xywh = np.concatenate([rng.uniform(0, 400, (DETECTIONS, 2)), rng.uniform(4, 200, (DETECTIONS, 2))], axis=1)
    labels = rng.integers(0, NUM_CLASSES, DETECTIONS)
    scores = rng.random(DETECTIONS) * 0.5
    if len(objects):
        near = int(NEAR * DETECTIONS)
        chosen = objects[rng.integers(0, len(objects), near)]
        boxes_xywh[:near] = chosen[:, :4] * rng.normal(1, 0.08, (near, 4))
        labels[:near] = chosen[:, 4]
        scores[:near] += rng.random(near) * 0.5
    order = np.argsort(-scores)
    boxes_xyxy = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)[order]
    return {
        "boxes": torch.from_numpy(boxes_xyxy.astype(np.float32)),
        "scores": torch.from_numpy(scores[order].astype(np.float32)),
        "labels": torch.from_numpy(labels[order]),
    }


class DictionaryMetric:
    """The metric of commit 8745355 with its default backend."""

    def __init__(self, ground_truth: Mapping[str, Any], category_ids: Sequence[int | None], max_dets: int) -> None:
        self.ground_truth, self.category_ids, self.max_dets = ground_truth, category_ids, max_dets
        self.class_names = {c["id"]: c["name"] for c in ground_truth["categories"]}
        self.detections: list[dict[str, Any]] = []

    def update(self, image_ids: Sequence[int], results: Sequence[Mapping[str, Tensor]]) -> None:
        """Add a dictionary a box."""
        for image_id, result in zip(image_ids, results, strict=True):
            boxes_xyxy = result["boxes"].double().cpu().numpy()
            boxes_xywh = np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)
            rows = zip(boxes_xywh.tolist(), result["scores"].tolist(), result["labels"].tolist(), strict=True)
            self.detections.extend(
                [
                    {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
                    for box, score, label in rows
                    if label < len(self.category_ids) and self.category_ids[label] is not None
                ]
            )

    def compute(self) -> dict[str, float | None]:
        """Return the metrics by name."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = dict(self.ground_truth)
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes([dict(d) for d in self.detections]), "bbox")
            evaluation.params.maxDets = [1, 10, 100, self.max_dets]
            evaluation.evaluate()
            evaluation.accumulate()
        precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
        slices = [precision[..., 0, 2], precision[0, ..., 0, 2], precision[5, ..., 0, 2]]
        slices += [precision[..., area, 2] for area in (1, 2, 3)]
        slices += [recall[..., 0, dets] for dets in (0, 1, 2)] + [recall[..., area, 2] for area in (1, 2, 3)]
        metrics = dict(zip(COCO_METRICS, map(mean_of_known, slices), strict=True))
        metrics[f"AP@{self.max_dets}"] = mean_of_known(precision[..., 0, 3])
        for row, category_id in enumerate(evaluation.params.catIds):
            metrics[f"AP/{self.class_names[category_id]}"] = mean_of_known(precision[:, :, row, 0, 2])
        return metrics


def mean_of_known(values: np.ndarray) -> float | None:
    """Return the mean of the values that are not -1, which stands for no ground truth."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


if __name__ == "__main__":
    main()
