"""`rfdetr-hwd checkpoint replay`: replay a recorded step whose loss or gradient was non-finite."""

from pathlib import Path
from typing import Annotated

import typer

from rfdetr_hwd.console import print_table, say


def replay(path: Annotated[Path, typer.Argument(help="Directory in RUN/non-finite.")]) -> None:
    """Replay a step whose loss or gradient was non-finite."""
    import torch

    from rfdetr_hwd.checkpoint.read import CheckpointError, open_checkpoint
    from rfdetr_hwd.checkpoint.record import read_record
    from rfdetr_hwd.model.build import load_model
    from rfdetr_hwd.model.rfdetr import DetectionLoss
    from rfdetr_hwd.runtime.memory import MemoryShortageError, OutOfMemoryError
    from rfdetr_hwd.training.assignment import prepare_solver
    from rfdetr_hwd.training.replay import replay as replay_step
    from rfdetr_hwd.training.replay import stored_batches

    # Rebuild the model as it was before the step
    checkpoint = open_checkpoint(path.resolve())
    config, class_names = read_record(checkpoint)
    model = load_model(config.model, config.downsample, class_names, checkpoint.weights("raw"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepare_solver(device)
    network = model.network.to(device).train()
    criterion = DetectionLoss(model.stock, checkpoint.record.class_weights).to(device)

    # Replay the step, without the optimizer
    try:
        inputs, generators = stored_batches(checkpoint.inputs()), checkpoint.training()["random"]
        recorded = checkpoint.record.non_finite or ()
        outcomes = replay_step(network, criterion, inputs, generators, config)
        rows = [
            (name, was.terms[name], repr(value))
            for was, outcome in zip(recorded, outcomes, strict=True)
            for name, value in outcome.terms.items()
        ]
    except OutOfMemoryError:
        raise MemoryShortageError(f"{path}: the step does not fit into the memory of {device}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"{path}: the step cannot be replayed on {device} ({reason})") from None

    # Compare with the recorded losses
    print_table(f"loss terms of step {checkpoint.step + 1}", ("term", "in the run", "replayed"), rows)
    broken = [outcome for outcome in outcomes if not outcome.is_finite]
    if not broken:
        raise CheckpointError(f"{path}: the failure was not reproduced: loss and gradient are finite on {device}")
    say(f"reproduced: non-finite with images {[image_id for outcome in broken for image_id in outcome.image_ids]}")
