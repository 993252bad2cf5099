"""Draw docs/resume.png: the loss of a run that is killed five times, over the loss of the same run left alone.

usage: python scripts/draw_resume.py

The script trains a tiny model twice on the built-in dataset, on the CPU. It sends SIGKILL to the second run at steps
drawn at random and resumes it each time with `rfdetr-hwd train --resume`. It fails if the two losses differ in one bit.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
from drawing import BLUE, INK, LINE, MUTED, ORANGE, save

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "rfdetr_hwd"]
KILLS = 5
EVERY = 8
"""Optimizer steps between two checkpoints within an epoch."""
SETTINGS = [
    *("model.resolution=64", "model.num_queries=10", "model.group_detr=1", "data.workers=1"),
    *("train.epochs=3", "train.log_every=1", "evaluation.every=3", f"output.save_every_steps={EVERY}"),
]


def start(*arguments: object) -> "subprocess.Popen[bytes]":
    """Start the command line in a process group of its own."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def train(*arguments: object) -> None:
    """Run the command line to its end."""
    if start(*arguments).wait() != 0:
        sys.exit(f"failed: {arguments}")


def losses(run: Path) -> dict[int, float]:
    """Return the training loss of each step that a run has recorded; a line that is still being written is skipped."""
    found = {}
    path = run / "metrics.jsonl"
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        record = json.loads(line) if line.endswith("\n") else {}
        if "loss" in record:
            found[record["step"]] = record["loss"]
    return found


def kill_at(run: Path, step: int, *arguments: object) -> int:
    """Start a run and kill it with SIGKILL when it has recorded a step; return the last step it recorded."""
    process = start(*arguments)
    while max(losses(run), default=0) < step:
        if process.poll() is not None:
            sys.exit(f"the run ended before step {step}")
        time.sleep(0.02)
    os.killpg(process.pid, 9)
    process.wait()
    return max(losses(run))


def newest_checkpoint(run: Path) -> int:
    """Return the step of the newest checkpoint."""
    return max((int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*")), default=0)


def run_both(folder: Path) -> tuple[dict[int, float], dict[int, float], list[tuple[int, int]]]:
    """Return the losses of the run left alone and of the killed run, and (killed at, resumed from) of each kill."""
    train("data", "demo", "--out", folder / "data")
    first = ["train", "--config", ROOT / "configs/demo.yaml", *SETTINGS, f"data.root={folder / 'data'}"]
    alone, killed = folder / "alone", folder / "killed"
    train(*first, f"output.dir={alone}")
    whole = losses(alone)
    part = len(whole) // KILLS
    draw = random.Random(0)
    steps = [part * number + draw.randrange(part // 3, part - 4) for number in range(KILLS)]
    kills = []
    for number, step in enumerate(steps):
        again = [*first, f"output.dir={killed}"] if number == 0 else ["train", "--resume", killed]
        reached = kill_at(killed, step, *again)
        kills.append((reached, newest_checkpoint(killed)))
    train("train", "--resume", killed)
    return whole, losses(killed), kills


def draw_losses(whole: dict[int, float], killed: dict[int, float], kills: list[tuple[int, int]]) -> None:
    """Draw both curves, the kills, and the steps that were made again."""
    figure, axes = plt.subplots(figsize=(10, 4.2))
    for reached, resumed in kills:
        axes.axvspan(resumed, reached, color=LINE, alpha=0.35, linewidth=0)
    axes.plot(list(whole), list(whole.values()), color="#a9c4de", linewidth=5, label="one run, left alone")
    label = f"the same run, killed {KILLS} times"
    axes.plot(list(killed), list(killed.values()), color=BLUE, linewidth=1.3, label=label)
    axes.scatter(
        [reached for reached, _ in kills],
        [whole[reached] for reached, _ in kills],
        marker="X",
        s=75,
        color=ORANGE,
        edgecolor="white",
        linewidth=0.8,
        zorder=4,
        label="kill -9, then train --resume",
    )
    axes.fill_between([], [], color=LINE, alpha=0.35, linewidth=0, label="steps repeated from the newest checkpoint")
    largest = max(abs(whole[step] - killed[step]) for step in whole)
    title = f"{len(whole)} optimizer steps; largest difference between the losses: {largest:g}"
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("training loss")
    axes.set_xlim(0, max(whole) + 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=LINE, alpha=0.4, linewidth=0.6)
    axes.tick_params(color=MUTED)
    axes.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)
    figure.tight_layout()
    save(figure, "resume.png")


def main() -> None:
    """Train, compare, draw."""
    with tempfile.TemporaryDirectory() as folder:
        whole, killed, kills = run_both(Path(folder))
    if whole != killed:
        sys.exit("the losses of the two runs differ")
    print(f"{len(whole)} losses are equal to the bit; (killed at, resumed from): {kills}")
    draw_losses(whole, killed, kills)


if __name__ == "__main__":
    main()
