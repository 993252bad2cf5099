"""Time and memory of reading COCO-size annotations, and the memory that data loader workers add.

    python scripts/bench_data.py --out benchmarks

Writes a synthetic dataset of COCO train2017's size (118,287 images, 860,001 objects with polygons) into a temporary
directory. Its image files are empty, because nothing is decoded.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

NUM_IMAGES, NUM_OBJECTS, NUM_CLASSES, NUM_WORKERS = 118_287, 860_001, 80, 4


def write_dataset(root: Path) -> int:
    """Write the dataset and return the size of its annotations in bytes."""
    rng = np.random.default_rng(0)
    images_folder = root / "train2017"
    images_folder.mkdir()
    (root / "annotations").mkdir()
    images = [
        {"id": i * 5 + 9, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480, "license": 3, "date_captured": ""}
        for i in range(NUM_IMAGES)
    ]
    for image in images:
        (images_folder / str(image["file_name"])).touch()
    rows = rng.integers(0, NUM_IMAGES, NUM_OBJECTS).tolist()
    labels = rng.integers(1, NUM_CLASSES + 1, NUM_OBJECTS).tolist()
    corners = np.round(rng.uniform(0, 300, (NUM_OBJECTS, 2)), 2).tolist()
    extents = np.round(rng.uniform(4, 170, (NUM_OBJECTS, 2)), 2).tolist()
    polygon = np.round(rng.uniform(0, 400, 44), 2).tolist()
    path = root / "annotations" / "instances_train2017.json"
    with path.open("w", encoding="utf-8") as file:
        categories = [{"id": i, "name": f"class {i}", "supercategory": "x"} for i in range(1, NUM_CLASSES + 1)]
        file.write(f'{{"info": {{}}, "categories": {json.dumps(categories)}, "images": {json.dumps(images)}')
        file.write(', "annotations": [')
        for number, (row, label, corner, extent) in enumerate(zip(rows, labels, corners, extents, strict=True)):
            annotation = {
                "id": number + 1,
                "image_id": images[row]["id"],
                "category_id": label,
                "bbox": [*corner, *extent],
                "area": extent[0] * extent[1] * 0.6,
                "iscrowd": 0,
                "segmentation": [polygon],
            }
            file.write((", " if number else "") + json.dumps(annotation))
        file.write("]}")
    return path.stat().st_size


def measure_check(root: Path) -> dict[str, float]:
    """Check the annotations in a fresh process: seconds, and its largest memory in GB."""
    from rfdetr_hwd.curation.check import check_dataset
    from rfdetr_hwd.data.detect import find_layout

    start = time.perf_counter()
    report = check_dataset(find_layout(root), decode=False, num_queries=300)
    seconds = time.perf_counter() - start
    assert report.splits[0].images == NUM_IMAGES
    return {"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def measure_workers(root: Path) -> dict[str, float]:
    """Read the split and let data loader workers read all of it: proportional memory of all and of one, in GB."""
    from rfdetr_hwd.data.detect import find_layout
    from rfdetr_hwd.data.read import read_split

    data = read_split(find_layout(root).split("train"))
    alone = _proportional_gb(os.getpid())
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(NUM_WORKERS + 1)

    def walk() -> None:
        for index in range(len(data)):
            data.objects(index), data.path(index)
        barrier.wait()  # all have read
        barrier.wait()  # all are measured

    workers = [context.Process(target=walk) for _ in range(NUM_WORKERS)]
    for worker in workers:
        worker.start()
    barrier.wait()
    together = sum(_proportional_gb(process) for process in [os.getpid(), *(worker.pid for worker in workers)])
    barrier.wait()
    for worker in workers:
        worker.join()
    return {"alone_gb": alone, "with_workers_gb": together, "ratio": together / alone}


def _proportional_gb(process: int | None) -> float:
    """Return the proportional set size: shared pages divided among those that share them."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e6


def _in_fresh_process(function: Any, root: Path) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result: dict[str, float] = pool.apply(_call, (function.__name__, root))
    return result


def _call(name: str, root: Path) -> dict[str, float]:
    multiprocessing.current_process().daemon = False  # a daemon cannot have child processes
    result: dict[str, float] = globals()[name](root)
    return result


def main() -> None:
    """Measure, print, and write a dated file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="directory of the dated JSON file")
    out = parser.parse_args().out
    from rfdetr_hwd.runtime.environment import describe_environment

    with tempfile.TemporaryDirectory() as folder:
        size = write_dataset(Path(folder))
        content = {
            "command": "python scripts/bench_data.py",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores",
            "environment": describe_environment(),
            "dataset": {"images": NUM_IMAGES, "objects": NUM_OBJECTS, "annotation_mb": size / 1e6},
            "check": _in_fresh_process(measure_check, Path(folder)),
            f"{NUM_WORKERS} data loader workers": _in_fresh_process(measure_workers, Path(folder)),
        }
    text = json.dumps(content, indent=1)
    print(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"data-{content['date']}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
