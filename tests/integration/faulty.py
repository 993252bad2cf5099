"""The command line with a fault in one rank, to be launched by torchrun: `FAULT=rank:step:kind[:always]`.

At that step the rank receives a signal (`TERM`, `KILL`), its next passes run out of memory (`memory`), its images are
not finite (`nan`), or cannot be loaded (`loader`); after a restart nothing happens any more, unless `always` says so.
`any` stands for every rank. With the kind `random` each rank takes up rank 0's random generators when it resumes.
"""

import os
import signal
import sys

import torch

from rfdetr_hwd import cli
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.engine import learner as learner_module
from rfdetr_hwd.engine import train_step as step_module
from rfdetr_hwd.engine import trainer

rank, step, kind, *always = os.environ["FAULT"].split(":")
update = trainer._update
forward = step_module.forward_in_amp
epoch = TrainLoader.epoch


def faulty_update(learner, parts, state, *rest):  # type: ignore[no-untyped-def]
    """Strike before the update after `step`."""
    if state.step == int(step) and rank in ("any", os.environ["RANK"]):
        if kind in ("memory", "nan"):
            step_module.forward_in_amp = narrow if kind == "memory" else poisoned
        else:
            os.kill(os.getpid(), getattr(signal, f"SIG{kind}"))
    return update(learner, parts, state, *rest)


def faulty_epoch(self, number, first=0):  # type: ignore[no-untyped-def]
    """Fail before the update after `step`, of the first epoch."""
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


if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" or always:
    if kind == "loader":
        TrainLoader.epoch = faulty_epoch
    elif kind == "random":
        learner_module.rank = lambda: 0
    else:
        trainer._update = faulty_update
sys.exit(cli.main())
