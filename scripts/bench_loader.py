"""Images per second that one process serves for training, beside upstream's data loader.

    python scripts/bench_loader.py --upstream-python VENV/bin/python --out benchmarks/loader-DATE.json

640x480 JPEGs of quality 90 are served at 384 px with the default augmentation of either (flip and crop), by one process
with one thread. Upstream's loader needs `rfdetr[train]` and simplejpeg, so another Python may run it; without one it is
skipped. Every kind has its own process, and they take turns, an epoch each. `ours` serves 8-bit batches, which a GPU
normalises. `ours_normalised` also normalises them on the CPU, as upstream does. The last line is JSON, medians over the
rounds: `ratio_to_upstream` (images per second), `normalised_ratio`, `processor_ratio` (of processor time, which other
programs lengthen less), `parts_ms`, the milliseconds of each part of a loaded image of ours, and what other libraries
take for its two largest parts: `decoding_ms`, `resizing_ms`, and how their pixels differ from Pillow's.
"""

import argparse
import importlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import PIL.Image
from synthetic_photos import write_dataset

SIDE, BATCH = 384, 16
ANSWER = "measured: "  # begins the lines that are not output of a library
KINDS = ("ours", "ours_normalised", "upstream")


def main() -> None:
    """Measure an epoch of every kind in turn, `--rounds` times, then the parts of ours, and write the file."""
    arguments = read_arguments()
    if arguments.child:
        answer(arguments.child, arguments.data)
        return
    with tempfile.TemporaryDirectory() as scratch:
        size = write_dataset(Path(scratch), arguments.images)
        names = [kind for kind in KINDS if kind != "upstream" or arguments.upstream_python]
        kinds = {name: start_child(name, arguments, Path(scratch)) for name in names}
        for child in kinds.values():
            ask(child)  # not measured
        rounds = [{name: ask(child) for name, child in kinds.items()} for _ in range(arguments.rounds)]
        runs = {name: [measured[name] for measured in rounds] for name in names}
        others = [start_child(name, arguments, Path(scratch)) for name in ("parts", "others")]
        parts, compared = map(ask, others)
        for child in (*kinds.values(), *others):
            child.communicate()
    summary = {**ratios(runs), **parts, **compared}
    if arguments.out is not None:
        from rfdetr_hwd.runtime.environment import describe_environment

        content = {
            "command": f"python scripts/bench_loader.py --upstream-python VENV/bin/python --images {arguments.images} "
            f"--rounds {arguments.rounds}",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores",
            "environment": describe_environment(),
            "settings": {"resolution": SIDE, "batch": BATCH, "images": arguments.images, "mean_jpeg_kb": size},
            "runs": runs,
            "summary": summary,
        }
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary))


def read_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--upstream-python", help="Python that has rfdetr[train] and simplejpeg")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--child", choices=(*KINDS, "parts", "others"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def start_child(kind: str, arguments: argparse.Namespace, data: Path) -> "subprocess.Popen[str]":
    """Start a process with one thread that measures one kind whenever it is asked."""
    is_upstreams = kind in ("upstream", "others") and arguments.upstream_python  # which has simplejpeg
    python = arguments.upstream_python if is_upstreams else sys.executable
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [python, __file__, f"--child={kind}", f"--data={data}"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread)


def ask(child: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return the next measurement of a child process."""
    assert child.stdin is not None
    assert child.stdout is not None
    print("go", file=child.stdin, flush=True)
    for line in child.stdout:
        if line.startswith(ANSWER):
            measured: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
            return measured
    raise SystemExit(f"a process failed with exit status {child.wait()}")


def answer(kind: str, data: Path) -> None:
    """Measure in this process, once for each line of the standard input."""
    import torch

    torch.set_num_threads(1)
    measure = build_measurement(kind, data)
    for _ in sys.stdin:
        print(ANSWER + json.dumps(measure()), flush=True)


def build_measurement(kind: str, data: Path) -> Callable[[], dict[str, Any]]:
    """Return a function that measures a kind once."""
    if kind == "others":
        return lambda: measure_others(data)
    epochs = {"upstream": upstream_epochs, "ours_normalised": our_normalised_epochs}.get(kind, our_epochs)(data)
    if kind == "parts":
        sum(next(epochs))  # not measured
        return lambda: measure_parts(epochs)
    return lambda: measure_epoch(epochs)


def measure_epoch(epochs: Iterator[Iterator[int]]) -> dict[str, Any]:
    """Serve an epoch; return images per second of wall time and of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    served = sum(next(epochs))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    speeds = {"images_per_second": served / wall, "images_per_processor_second": served / processor}
    return {name: round(speed, 2) for name, speed in speeds.items()}


def measure_parts(epochs: Iterator[Iterator[int]]) -> dict[str, Any]:
    """Serve an epoch; return the milliseconds of each part of an image, which measuring lengthens a little."""
    with timed_parts() as spent:
        start = time.perf_counter()
        served = sum(next(epochs))
        total = time.perf_counter() - start
    parts = {**spent, "everything else": total - sum(spent.values())}
    return {"parts_ms": {name: round(1000 * seconds / served, 3) for name, seconds in parts.items()}}


def measure_others(root: Path) -> dict[str, Any]:
    """Return the milliseconds of decoding and of resizing an image by several libraries, in turns, and differences."""
    import torch
    from torchvision.io import decode_jpeg

    decoders: dict[str, Callable[[bytes], Any]] = {
        "pillow": lambda data: PIL.Image.open(io.BytesIO(data)).convert("RGB"),
        "torchvision": lambda data: decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)),
    }
    with suppress(ImportError):
        decoders["simplejpeg"] = importlib.import_module("simplejpeg").decode_jpeg
    resizers: dict[str, Callable[[PIL.Image.Image], Any]] = {
        "pillow": lambda image: image.resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR),
        "torchvision": lambda image: torch.nn.functional.interpolate(
            torch.from_numpy(np.array(image)).permute(2, 0, 1)[None], (SIDE, SIDE), mode="bilinear", antialias=True
        ),
    }
    torch.set_num_threads(1)
    files = [path.read_bytes() for path in sorted((root / "train").glob("*.jpg"))[:48]]
    images = [decoders["pillow"](data) for data in files]
    pairs = [[resize(image) for resize in resizers.values()] for image in images]
    gaps = np.abs([np.asarray(one, int).transpose(2, 0, 1) - np.asarray(other[0], int) for one, other in pairs])
    return {
        "decoding_ms": time_in_turns(decoders, files),
        "resizing_ms": time_in_turns(resizers, images),
        "resizing_difference": {"largest": int(gaps.max()), "fraction": round(float((gaps > 0).mean()), 3)},
    }


def time_in_turns(functions: dict[str, Callable[[Any], Any]], values: Sequence[Any]) -> dict[str, float]:
    """Return the median milliseconds of each function over the values, called one after another."""
    spent: dict[str, list[float]] = {name: [] for name in functions}
    for value in values:
        for name, function in functions.items():
            start = time.perf_counter()
            function(value)
            spent[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(times), 3) for name, times in spent.items()}


def our_epochs(root: Path, normalised: bool = False) -> Iterator[Iterator[int]]:
    """Yield the epochs of this package's loader, each as the number of images of its batches."""
    import torch

    from rfdetr_hwd.config.schema import AugmentSection
    from rfdetr_hwd.data.augmentation import Augmentation
    from rfdetr_hwd.data.dataset import DetectionDataset
    from rfdetr_hwd.data.detect import find_layout
    from rfdetr_hwd.data.loader import Partition, TrainLoader, TrainOrder
    from rfdetr_hwd.data.read import read_split
    from rfdetr_hwd.data.workers import Workers

    data, cpu = read_split(find_layout(root).split("train")), torch.device("cpu")
    dataset = DetectionDataset(data, Augmentation(0, AugmentSection()))
    loader = TrainLoader(dataset, TrainOrder(len(data), BATCH, 0, [SIDE]), Workers(0, 60), Partition(), print)
    epoch = 0
    while True:
        batches = loader.epoch(epoch)
        yield (len((batch.to(cpu) if normalised else batch).image_ids) for batch in batches)
        epoch += 1


def our_normalised_epochs(root: Path) -> Iterator[Iterator[int]]:
    """Yield the epochs of this package's loader, with batches that are normalised in this process."""
    return our_epochs(root, normalised=True)


def upstream_epochs(root: Path) -> Iterator[Iterator[int]]:
    """Yield the epochs of upstream's loader at its defaults, except for the settings that must be equal."""
    from rfdetr.config import RFDETRNanoConfig, TrainConfig
    from rfdetr.training.module_data import RFDETRDataModule

    config = TrainConfig(
        dataset_dir=str(root),
        batch_size=BATCH,
        grad_accum_steps=1,
        num_workers=0,
        multi_scale=False,
        expanded_scales=False,
    )
    module = RFDETRDataModule(RFDETRNanoConfig(resolution=SIDE, num_classes=3, pretrain_weights=None), config)
    module.setup("fit")
    loader = module.train_dataloader()
    while True:
        yield (len(samples.tensors) for samples, _ in loader)


@contextmanager
def timed_parts() -> Iterator[dict[str, float]]:
    """Collect the seconds that are spent in each part of this package's loader."""
    from rfdetr_hwd.data import dataset, workers
    from rfdetr_hwd.data.annotations import DetectionData

    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = function(*values, **named)
            spent[name] += time.perf_counter() - start
            return result

        return call

    parts = (
        ("read and decode", DetectionData, "read"),
        ("resize", dataset, "fit_image"),
        ("flip and crop", dataset, "augment"),
        ("annotations", DetectionData, "objects"),
        ("boxes", dataset, "normalise_boxes"),
        ("collate", workers, "collate"),
    )
    with ExitStack() as stack:
        for name, owner, attribute in parts:
            stack.enter_context(mock.patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        yield spent


def ratios(runs: dict[str, list[dict[str, Any]]]) -> dict[str, float | None]:
    """Return the medians of the rounds' ratios to upstream; `None` where it was not measured."""

    def ratio(kind: str, key: str) -> float | None:
        pairs = zip(runs[kind], runs.get("upstream", []), strict="upstream" in runs)
        return (
            round(statistics.median(found), 3)
            if (found := [ours[key] / theirs[key] for ours, theirs in pairs])
            else None
        )

    return {
        "ratio_to_upstream": ratio("ours", "images_per_second"),
        "normalised_ratio": ratio("ours_normalised", "images_per_second"),
        "processor_ratio": ratio("ours", "images_per_processor_second"),
    }


if __name__ == "__main__":
    main()
