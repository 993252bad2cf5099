"""The command line with a fault in one rank, to be launched by torchrun: `FAULT=rank:step:kind[:always]`.

At that step the rank receives a signal (`TERM`, `KILL`), its next passes run out of memory (`memory`), its images are
not finite (`nan`), or cannot be loaded (`loader`); after a restart nothing happens any more, unless `always` says so.
`any` stands for every rank. With the kind `random` each rank takes up rank 0's random generators when it resumes.
Faults of further starts follow after semicolons.

With the kind `in PLACE` (see `PLACES`) the call number `step` of a function fails on that rank, counted from 0, and
whoever destroys the process group waits for ten minutes, as with NCCL while another rank waits for this one.
"""

import itertools
import os
import signal
import sys
import time

import torch
import torch.distributed as dist

from rfdetr_hwd.checkpoint import run_folder
from rfdetr_hwd.checkpoint.read import CheckpointError
from rfdetr_hwd.cli import app as cli
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.loader import EvalLoader, TrainLoader
from rfdetr_hwd.evaluation import measurement
from rfdetr_hwd.evaluation.coco import CocoMetric
from rfdetr_hwd.runtime import gradient_averaging
from rfdetr_hwd.training import data as training_data
from rfdetr_hwd.training import learner as learner_module
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training import setup
from rfdetr_hwd.training import train_step as step_module
from rfdetr_hwd.training.trackers import JsonLinesTracker
from rfdetr_hwd.training.trainer import Trainer

PLACES = {
    "reading": (training_data, "_read_split", DatasetError("a disk that is gone")),
    "probing": (training_data, "_probe", RuntimeError("a defect")),
    "building": (setup, "build_model", RuntimeError("a defect")),
    "weights": (setup, "build_learner", torch.OutOfMemoryError("CUDA out of memory")),
    "making the folder": (run_folder.RunFolder, "create", OSError(28, "No space left on device")),
    "passes": (step_module, "forward_in_amp", RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")),
    "buckets": (gradient_averaging._Bucket, "send", RuntimeError("a defect")),
    "no room for buckets": (gradient_averaging._Bucket, "send", torch.OutOfMemoryError("CUDA out of memory")),
    "optimizer": (torch.optim.AdamW, "step", RuntimeError("a defect")),
    "no room for the optimizer": (torch.optim.AdamW, "step", torch.OutOfMemoryError("CUDA out of memory")),
    "metrics file": (JsonLinesTracker, "log", OSError(28, "No space left on device")),
    "generators": (learner_module, "random_state", RuntimeError("a defect")),
    "saving": (run_folder, "save_checkpoint", CheckpointError("cannot write the checkpoint")),
    "evaluating": (measurement, "detect_in_amp", RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")),
    "images to evaluate": (EvalLoader, "__iter__", DatasetError("a disk that is gone")),
    "computing metrics": (CocoMetric, "compute", ValueError("a defect")),
    "recording metrics": (run_folder, "record_in_manifest", CheckpointError("cannot write the manifest")),
    "restoring": (train_command, "restore", CheckpointError("it does not hold the state of this run")),
    "the end": (train_command, "_fit", RuntimeError("a defect")),
}
"""Functions by what they are for, with the error that one raises on one rank."""

attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
faults = os.environ["FAULT"].split(";")
rank, step, kind, *always = faults[min(attempt, len(faults) - 1)].split(":")
step_of = Trainer._step
forward = step_module.forward_in_amp
epoch = TrainLoader.epoch


def faulty_step(self, batch, totals):  # type: ignore[no-untyped-def]
    """Strike before the step after `step`."""
    if self.state.step == int(step) and rank in ("any", os.environ["RANK"]):
        if kind in ("memory", "nan"):
            step_module.forward_in_amp = narrow if kind == "memory" else poisoned
        else:
            os.kill(os.getpid(), getattr(signal, f"SIG{kind}"))
    return step_of(self, batch, totals)


def faulty_epoch(self, number, first=0):  # type: ignore[no-untyped-def]
    """Fail before the step after `step`, of the first epoch."""
    for update, batches in enumerate(epoch(self, number, first), start=first):
        if update == int(step) and os.environ["RANK"] == rank:
            raise DatasetError("a disk that is gone")
        yield batches


def poisoned(network, images, args):  # type: ignore[no-untyped-def]
    """Give outputs that are not finite."""
    return forward(network, images * float("nan"), args)


def narrow(network, images, args):  # type: ignore[no-untyped-def]
    """Fit one image into memory."""
    if len(images) > 1:
        raise torch.OutOfMemoryError("no room")
    return forward(network, images, args)


def never_returns():  # type: ignore[no-untyped-def]
    """Wait for other ranks, which wait for this one."""
    print("the process group is destroyed", flush=True)
    time.sleep(600)


def fail_in(place):  # type: ignore[no-untyped-def]
    """Let a call of the function of a place fail; `the end`: when it returns."""
    owner, name, error = PLACES[place]
    function, calls = getattr(owner, name), itertools.count()

    def replaced(*arguments, **options):  # type: ignore[no-untyped-def]
        is_due = next(calls) == int(step) and os.environ["RANK"] == rank
        result = None if is_due and place != "the end" else function(*arguments, **options)
        if is_due:
            raise error
        return result

    setattr(owner, name, replaced)
    if "no room for buckets" not in place:
        dist.destroy_process_group = never_returns


if attempt < len(faults) or always:
    if kind.startswith("in "):
        fail_in(kind.removeprefix("in "))
    elif kind == "loader":
        TrainLoader.epoch = faulty_epoch
    elif kind == "random":
        learner_module.rank = lambda: 0
    else:
        Trainer._step = faulty_step
sys.exit(cli.main())
