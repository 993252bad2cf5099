"""Time how long a checkpoint stops training: RF-DETR Nano with EMA and AdamW's moments.

python scripts/bench_save.py --folder DISK --out benchmarks
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from rfdetr_hwd.checkpoint import write as checkpoint_write
from rfdetr_hwd.checkpoint.schema import DataIdentity, Record
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.schema import DownsampleSection, ModelSection
from rfdetr_hwd.model.build import build_model
from rfdetr_hwd.runtime.environment import describe_environment
from rfdetr_hwd.runtime.random_state import random_state
from rfdetr_hwd.training.optimizer import moments_by_name


def main() -> None:
    """Save a few times and print the medians: the whole save, and its hashing and flushing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="directory on the disk to measure")
    parser.add_argument("--out", type=Path, help="directory of the dated JSON file")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    network = build_model(ModelSection(pretrain_weights=None), DownsampleSection(), ["a"]).network
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    weights = {"raw": network.state_dict(), "ema": network.state_dict()}
    training = {"optimizer": moments_by_name(optimizer, network), "random": [random_state()]}
    spent = {"hash": 0.0, "flush": 0.0}
    for name, function in (("hash", "sha256_of"), ("flush", "flush")):
        setattr(checkpoint_write, function, _timed(getattr(checkpoint_write, function), spent, name))
    split = DataIdentity(images=0, boxes=0, sha256="")
    record = Record(config={}, class_names=("a",), category_ids=(1,), training_data=split, validation_data=split)
    seconds = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        for step in range(1, arguments.rounds + 1):
            begin = time.perf_counter()
            place = Path(scratch) / f"step-{step:08d}"
            folder = checkpoint_write.save_checkpoint(place, TrainState(step), record, weights, training)
            seconds.append(time.perf_counter() - begin)
        size = sum(path.stat().st_size for path in folder.iterdir())
    content = {
        "command": "python scripts/bench_save.py",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "environment": describe_environment(),
        "checkpoint_mb": size / 1e6,
        "median_seconds": statistics.median(seconds),
        "longest_seconds": max(seconds),
        "mean_seconds_of": {name: value / arguments.rounds for name, value in spent.items()},
    }
    text = json.dumps(content, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"save-{content['date']}.json").write_text(text + "\n", encoding="utf-8")


def _timed(function, spent, name):  # type: ignore[no-untyped-def]
    def timed(*arguments):  # type: ignore[no-untyped-def]
        begin = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            spent[name] += time.perf_counter() - begin

    return timed


if __name__ == "__main__":
    main()
