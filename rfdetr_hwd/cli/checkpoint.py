"""`rfdetr-hwd checkpoint`: show and verify checkpoints, and make an update again that was not finite."""

from pathlib import Path

import torch

from rfdetr_hwd.checkpoint.read import (
    MANIFEST,
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    open_checkpoint,
    verify_files,
)
from rfdetr_hwd.checkpoint.record import read_record
from rfdetr_hwd.console import digits, print_table, say
from rfdetr_hwd.model.build import load_model
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime.memory import MemoryShortageError, OutOfMemoryError
from rfdetr_hwd.training.assignment import prepare_solver
from rfdetr_hwd.training.replay import replay, stored_batches


def run_show(path: Path) -> None:
    """Print step, epoch, figures, class names and files of a checkpoint, or of each checkpoint of a run.

    Raises:
        CheckpointError: It is no checkpoint, or damaged.
    """
    for folder in _folders(path):
        _show(open_checkpoint(folder))


def run_verify(path: Path) -> None:
    """Check every file of a checkpoint, or of each checkpoint of a run, against its hash.

    Raises:
        CheckpointError: A file is not what was written; the message names it.
    """
    damaged: list[str] = []
    for folder in _folders(path):
        try:
            files = verify_files(folder)
        except CheckpointError as error:
            if not (folder / MANIFEST).exists() and folder == path.resolve():
                raise  # it is something else
            damaged.append(str(error))
            continue
        print_table(str(folder), ("file", "state"), [(name, problem or "ok") for name, problem in files.items()])
        damaged += [f"{folder / name} {problem}" for name, problem in files.items() if problem]
        if not any(files.values()):
            open_checkpoint(folder)  # what the hashes do not see: that the content makes sense
    if damaged:
        raise CheckpointError("\n  ".join(["not what was written:", *damaged]))
    say("every file is what was written")


def run_replay(path: Path) -> None:
    """Make the update of a bundle again, up to the optimiser step, and compare with what was recorded.

    Raises:
        CheckpointError: It is no bundle, or the update is finite here.
    """
    checkpoint = open_checkpoint(path.resolve())
    config, class_names = read_record(checkpoint)
    model = load_model(config.model, config.downsample, class_names, checkpoint.weights("plain"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepare_solver(device)
    network, criterion = model.network.to(device).train(), DetectionLoss(model.stock).to(device)
    try:
        inputs, generators = stored_batches(checkpoint.inputs()), checkpoint.training()["random"]
        recorded = checkpoint.record["non_finite"]
        outcomes = replay(network, criterion, inputs, generators, config)
        rows = [
            (name, was["terms"][name], repr(value))
            for was, outcome in zip(recorded, outcomes, strict=True)
            for name, value in outcome.terms.items()
        ]
    except OutOfMemoryError:
        raise MemoryShortageError(f"{path}: the update does not fit into the memory of {device} here") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"{path}: no update of it can be made again on {device} ({reason})") from None
    print_table(f"loss terms of step {checkpoint.step + 1}", ("term", "in the run", "again"), rows)
    broken = [outcome for outcome in outcomes if not outcome.is_finite]
    if not broken:
        raise CheckpointError(f"{path}: on {device} the loss and gradient are finite: nothing was reproduced")
    say(f"not finite again, with images {[image_id for outcome in broken for image_id in outcome.image_ids]}")


def _folders(path: Path) -> list[Path]:
    """Return the checkpoint folders that a path stands for."""
    parent = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    found = list_checkpoints(parent)
    if parent != path and not found:
        raise CheckpointError(f"{path} has no checkpoint yet")
    return found or [path.resolve()]


def _show(checkpoint: Checkpoint) -> None:
    state, names = checkpoint.state, checkpoint.record.get("class_names", [])
    due = ", evaluation due" if state.is_evaluation_due else ""
    say(f"{checkpoint.path}\nstep {state.step}, epoch {state.epoch}, update {state.update_in_epoch} of the next{due}")
    say(f"classes: {', '.join(map(str, names))}")
    if state.best_ap is None:
        say("best so far: none, nothing was evaluated yet")
    else:
        say(f"best so far: {state.best_weights} AP {digits(state.best_ap)} at step {state.best_step}")
    figures = [(name, digits(value)) for name, value in state.current_figures.items()]
    if figures:
        print_table("figures", ("figure", "value"), figures)
    files = [(name, f"{entry['bytes']:,}", entry["sha256"][:16]) for name, entry in checkpoint.files.items()]
    print_table("files", ("file", "bytes", "sha256"), files)
