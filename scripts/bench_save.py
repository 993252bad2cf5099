"""Time how long a checkpoint stops training: RF-DETR Nano with an average and AdamW's moments, on the disk of --out."""

import argparse
import shutil
import statistics
import time
from pathlib import Path

import torch

from rfdetr_hwd.config import DownsampleSection, ModelSection
from rfdetr_hwd.engine import checkpoint_write
from rfdetr_hwd.engine.random_state import random_state
from rfdetr_hwd.engine.state import TrainState
from rfdetr_hwd.model.build import build_model


def main() -> None:
    """Save a few times and print the medians: everything, and what hashing and flushing take of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench-save"), help="folder on the disk to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    network = build_model(ModelSection(pretrain_weights=None), DownsampleSection(), ["a"]).network
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    weights = {"plain": network.state_dict(), "ema": network.state_dict()}
    training = {"optimizer": optimizer.state_dict(), "random": [random_state()]}
    spent = {"hash": 0.0, "flush": 0.0}
    for name, function in (("hash", "sha256_of"), ("flush", "_flush")):
        setattr(checkpoint_write, function, _timed(getattr(checkpoint_write, function), spent, name))
    seconds = []
    for step in range(1, arguments.rounds + 1):
        begin = time.perf_counter()
        folder = checkpoint_write.save_checkpoint(
            arguments.out / f"step-{step:08d}", TrainState(step), {}, weights, training
        )
        seconds.append(time.perf_counter() - begin)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    shutil.rmtree(arguments.out)
    parts = ", ".join(f"{name} {value / arguments.rounds:.2f} s" for name, value in spent.items())
    print(f"{size:.0f} MiB: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s; of it {parts}")


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
