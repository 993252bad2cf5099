"""What tests of interrupted runs share: a run's state as tensors, and starting the command without waiting for it."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from rfdetr_hwd.checkpoint.read import list_checkpoints, open_checkpoint
from rfdetr_hwd.checkpoint.train_state import TrainState
from tests.integration.conftest import COMMAND

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def last_step(run: Path) -> int:
    """Return the step of the newest checkpoint."""
    return open_checkpoint(list_checkpoints(run / "checkpoints")[0]).step


def weights_and_state(run: Path, step: int) -> tuple[dict[str, torch.Tensor], TrainState]:
    """Return everything that a checkpoint remembers: weights, average, optimizer, random generators; and the state."""
    checkpoint = open_checkpoint(run / "checkpoints" / f"step-{step:08d}")
    tensors = {f"{kind}/{k}": v for kind in checkpoint.weights_kinds for k, v in checkpoint.weights(kind).items()}
    training = checkpoint.training()
    for parameter, entry in training["optimizer"].items():
        tensors |= {f"optimizer/{parameter}/{name}": value for name, value in entry.items()}
    for number, state in enumerate(training["random"]):
        tensors[f"random/{number}/torch"] = state["torch"]
        tensors |= {f"random/{number}/cuda/{device}": value for device, value in enumerate(state["cuda"])}
        tensors[f"random/{number}/numpy"] = state["numpy"][1]
        tensors[f"random/{number}/python"] = torch.tensor(state["python"][1])
    return tensors, checkpoint.state


def differing(run: Path, other: Path, step: int) -> list[str]:
    """Return the names of what differs between two runs at a step; empty: they are the same to the bit."""
    (tensors, state), (expected, expected_state) = (weights_and_state(folder, step) for folder in (run, other))
    names = [key for key in {**expected, **tensors} if key not in tensors or key not in expected]
    names += [key for key in expected if key in tensors and not torch.equal(tensors[key], expected[key])]
    return names + (["state"] if state != expected_state else [])


def start(*arguments: object, ranks: int = 0, launcher: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """Start `rfdetr-hwd` in a process group of its own, under torchrun if `ranks` are asked for."""
    command = [str(COMMAND)]
    if ranks:
        command = [*TORCHRUN, f"--nproc-per-node={ranks}", *launcher, "-m", "rfdetr_hwd"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONUNBUFFERED": "1"},
    )


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """Read the output of a started command up to a line that holds a text, and return what was read."""
    seen = []
    assert process.stdout is not None
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return "".join(seen)
    raise AssertionError(f"{text!r} was never printed:\n{''.join(seen)}")


def finish(process: "subprocess.Popen[str]", timeout: float = 300) -> tuple[int, str]:
    """Wait for a started command and return its exit status and the rest of its output."""
    rest, _ = process.communicate(timeout=timeout)
    return process.returncode, rest
