"""Verify the parity of an exported and a trained model: keys, class names, outputs and AP."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.model.release import BatchSize, ReleasedModel

RELATIVE_TOLERANCE = 1e-5
"""Largest difference of raw outputs between the trained model and the released one, relative to the largest output."""
RUNTIME_TOLERANCE = 1e-3
"""The same for another runtime, whose kernels sum in another order."""
_DYNAMIC_SIZES = (1, 2, 3, 5)


class ParityError(UserError):
    """An exported model that differs from the trained one."""


@torch.inference_mode()
def check_released(detector: Detector, released: ReleasedModel, stock: nn.Module, batch: Tensor) -> None:
    """Compare the model as loaded by rfdetr with the trained one: keys, class names, raw outputs."""
    # Compare the tensors and the class names.
    ours, theirs = stock.state_dict(), released.network.state_dict()
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in (ours, theirs)]
    if shapes[0] != shapes[1] or any(not torch.equal(theirs[key].cpu(), ours[key].cpu()) for key in ours):
        raise ParityError(
            "rfdetr does not load every tensor of the file. This is a bug in rfdetr-hwd: please report it"
        )
    if released.class_names != list(detector.class_names):
        raise ParityError(f"rfdetr reads the class names {released.class_names}, not {list(detector.class_names)}")
    # Compare the outputs.
    trained = detector.network.float().cpu().eval()(batch)
    difference = _relative_difference(trained, released.network(batch))
    say(
        f"rfdetr: {len(ours)} tensors, every key matched, raw outputs on {len(batch)} images differ by {difference:.1e}"
    )
    if not difference <= RELATIVE_TOLERANCE:  # NaN, too
        raise ParityError(
            f"the outputs of the exported model differ by {difference:.1e}, more than {RELATIVE_TOLERANCE:.0e}"
        )


@torch.inference_mode()
def check_reloaded(detector: Detector, loaded: Detector, batch: Tensor) -> None:
    """Compare a model as `Detector.load` reads it from a hub directory with the trained one: names and raw outputs."""
    if loaded.class_names != detector.class_names or loaded.options != detector.options:
        raise ParityError("the directory is read with other class names or preprocessing. Please report this bug")
    trained, found = (one.network.float().cpu().eval()(batch) for one in (detector, loaded))
    difference = _relative_difference(found, trained)
    say(f"hub: loaded again, raw outputs on {len(batch)} images differ by {difference:.1e}")
    if not difference <= RELATIVE_TOLERANCE:  # NaN, too
        raise ParityError(
            f"the outputs of the directory differ by {difference:.1e}, more than {RELATIVE_TOLERANCE:.0e}"
        )


@torch.inference_mode()
def check_runtime(format: str, path: Path, released: ReleasedModel, images: Tensor, size: BatchSize) -> None:
    """Run the written graph in its own runtime on the same images and compare.

    Args:
        format: A key of `RUNTIMES`.
        path: The graph.
        released: The reference model.
        images: Shape (N, 3, R, R).
        size: Its batch size. A dynamic graph is run with several.

    Raises:
        ParityError: The outputs differ, or the runtime is not installed.
    """
    # Prepare whole batches of each size.
    largest = size.images if format == "tensorrt" else max(_DYNAMIC_SIZES)
    smaller = [number for number in _DYNAMIC_SIZES if size.is_dynamic and number <= largest]
    numbers = sorted({*smaller, size.images})
    wholes = {number: -(-len(images) // number) * number for number in numbers}  # images of whole batches
    pool = _fill_up(images, max(wholes.values()))
    expected = released.network(pool)
    # Run them, and compare.
    worst = 0.0
    for number in numbers:
        found = _run(format, path, pool[: wholes[number]].split(number))
        difference = _relative_difference(found, {key: expected[key][: wholes[number]] for key in found})
        if not difference <= RUNTIME_TOLERANCE:
            reason = f"differ by {difference:.1e} at batch size {number}, more than {RUNTIME_TOLERANCE:.0e}"
            raise ParityError(f"the outputs of the {format} model {reason}")
        worst = max(worst, difference)
    named = f"at batch size {', '.join(map(str, numbers))}"
    say(f"{format}: {RUNTIMES[format].package}'s outputs on {len(images)} images differ by {worst:.1e}, {named}")


def _run(format: str, path: Path, batches: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the outputs of all images of some batches of one size."""
    runtime = RUNTIMES[format]
    try:
        graph = runtime.load(path)
        outputs = [graph.run(batch.to(graph.device)) for batch in batches]
    except ImportError:
        advice = f"pip install {runtime.package}"
        raise ParityError(f"--format {format} is verified with {runtime.package}: {advice}") from None
    except Exception as error:  # of the runtime's own kinds
        raise ParityError(f"the {format} model does not run at batch size {len(batches[0])}: {error}") from None
    boxes, logits = (torch.cat(parts).cpu() for parts in zip(*outputs, strict=True))
    return {"pred_boxes": boxes, "pred_logits": logits}


def _fill_up(images: Tensor, number: int) -> Tensor:
    """Return at least `number` images. Flipped ones are added first, so that the images of a small batch differ."""
    variants = torch.cat([images, images.flip(-1), images.flip(-2), images.flip(-1, -2)])
    return variants.repeat(-(-number // len(variants)), 1, 1, 1)[:number]


def compare_ap(detector: Detector, released: ReleasedModel, data: DetectionData) -> None:
    """Evaluate both models over the validation split and print the gap."""
    evaluation = Evaluation.build(detector.model, data, detector.config, detector.device)
    networks = (detector.network.to(detector.device), released.network.to(detector.device))
    ap = [evaluation.measure(network)["AP"] or 0.0 for network in networks]  # a split without objects is refused
    say(f"AP over {len(data)} images: trained {ap[0]:.6f}, released {ap[1]:.6f}, gap {ap[1] - ap[0]:+.1e}")


def _relative_difference(outputs: dict[str, Any], expected: dict[str, Any]) -> float:
    """Return the largest difference of boxes and logits, relative to the largest expected value of each."""
    differences = [
        (outputs[key] - expected[key]).abs().max() / expected[key].abs().max().clamp_min(1e-12)
        for key in ("pred_boxes", "pred_logits")
    ]
    return float(torch.stack(differences).max())  # NaN, if there is one
