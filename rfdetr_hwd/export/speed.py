"""Latency and throughput of artefacts, the model alone and end to end, measured in turns."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rfdetr_hwd.amp import forward_in_amp
from rfdetr_hwd.console import say
from rfdetr_hwd.data.batch import join, unlabelled
from rfdetr_hwd.data.images import read_image
from rfdetr_hwd.export.artefact import Artefact
from rfdetr_hwd.model.rfdetr import Decoder
from rfdetr_hwd.runtime.memory import MemoryShortageError, noting_shortage
from rfdetr_hwd.runtime.timing import Spread, milliseconds, spread, time_in_turns

_CPU = torch.device("cpu")
_MAX_BATCH = 256
_MIN_GAIN = 1.03
"""Factor on the images per second that a larger batch must bring."""
_TRIES = 3
"""Passes of each batch size that is tried, after one that is not counted."""

RULES = (
    "Times are medians, p95 in brackets, of rounds in which all artefacts take turns, after 2 rounds of warm-up.",
    "A time ends when the device is done. Weights and inputs are on the device; every runtime has as many CPU threads.",
    f"The best batch is found by doubling, until the images/s rise by less than {_MIN_GAIN - 1:.0%}, memory runs "
    f"out, or it is the limit: the largest batch that an engine takes, otherwise {_MAX_BATCH}. Both columns of "
    "images/s are at that batch.",
    "End to end: JPEG decoding, resizing, normalising, the model, and decoding of boxes, in one process.",
)


class Speed(NamedTuple):
    """The speed of an artefact.

    Attributes:
        latency_ms: Milliseconds of one image, the model alone; `None`: it does not take one image.
        batch: The batch size with the most images per second.
        batch_ms: Milliseconds of such a batch, the model alone.
        end_latency_ms: Milliseconds of one image file, end to end.
        end_batch_ms: Milliseconds of a batch of image files, end to end.
    """

    latency_ms: Spread | None
    batch: int
    batch_ms: Spread
    end_latency_ms: Spread | None
    end_batch_ms: Spread

    @property
    def images_per_second(self) -> float:
        """Images per second of the model alone."""
        return 1e3 * self.batch / self.batch_ms.median

    @property
    def end_images_per_second(self) -> float:
        """Images per second end to end."""
        return 1e3 * self.batch / self.end_batch_ms.median


def measure_speeds(
    artefacts: Sequence[Artefact], files: Sequence[Path], device: torch.device, rounds: int, batch: int | None = None
) -> list[Speed]:
    """Measure artefacts in turns.

    Args:
        artefacts: The artefacts.
        files: Image files for the end-to-end times.
        device: The device of those that are not on the CPU.
        rounds: Counted rounds at batch 1; a third of them at the best batch.
        batch: Batch size for the throughput; `None`: the best of each artefact.

    Raises:
        MemoryShortageError: A batch does not fit into memory.
    """
    with torch.inference_mode():
        # Find the batch sizes.
        sizes = [_fitting(one, batch, device) for one in artefacts]
        # Time all artefacts in turns, at batch 1 where they take one image, and at their batch size.
        with noting_shortage() as shortage:
            single = time_in_turns(_passes(artefacts, [one.batch or 1 for one in artefacts], files), device, rounds)
            whole = time_in_turns(_passes(artefacts, sizes, files), device, max(3, rounds // 3))
    if shortage.is_out:
        raise MemoryShortageError(f"a batch of {max(sizes)} images does not fit into memory: give a smaller --batch")
    return [
        Speed(
            latency_ms=spread(single[number, "model"]) if one.batch in (None, 1) else None,
            batch=size,
            batch_ms=spread(whole[number, "model"]),
            end_latency_ms=spread(single[number, "end to end"]) if one.batch in (None, 1) else None,
            end_batch_ms=spread(whole[number, "end to end"]),
        )
        for number, (one, size) in enumerate(zip(artefacts, sizes, strict=True))
    ]


def measure_latencies(artefacts: Sequence[Artefact], rounds: int) -> list[Spread]:
    """Return the milliseconds of a pass of each artefact, the model alone, measured in turns.

    Args:
        artefacts: The artefacts. A pass takes one image, or the batch that the artefact takes.
        rounds: Counted rounds.
    """
    with torch.inference_mode():
        passes = {number: _model_alone(one, one.batch or 1) for number, one in enumerate(artefacts)}
        times = time_in_turns(passes, find_device(artefacts), rounds)
    return [spread(times[number]) for number in passes]


def find_device(artefacts: Sequence[Artefact], usual: torch.device = _CPU) -> torch.device:
    """Return the device to wait for when artefacts are timed: the GPU, if one of them is there."""
    return next((one.device for one in artefacts if one.device.type == "cuda"), usual)


def _fitting(artefact: Artefact, batch: int | None, device: torch.device) -> int:
    """Return the wanted batch size, or the best one; if the artefact does not take it, what it takes, and say so."""
    if batch is None:
        limit = artefact.largest or _MAX_BATCH
        return artefact.batch or find_best_batch(partial(_model_alone, artefact), device, limit)
    size = artefact.batch or min(batch, artefact.largest or batch)
    if size != batch:
        say(f"--batch {batch}: {artefact.source} takes {'' if artefact.batch else 'up to '}{size}: measured at {size}")
    return size


def _passes(
    artefacts: Sequence[Artefact], sizes: Sequence[int], files: Sequence[Path]
) -> dict[tuple[int, str], Callable[[], Any]]:
    """Return what is timed: of each artefact, by its number, a batch of the model alone and one end to end."""
    passes: dict[tuple[int, str], Callable[[], Any]] = {}
    for number, (artefact, size) in enumerate(zip(artefacts, sizes, strict=True)):
        passes[number, "model"] = _model_alone(artefact, size)
        passes[number, "end to end"] = partial(detect_files, artefact, files, size)
    return passes


def _model_alone(artefact: Artefact, size: int) -> Callable[[], Any]:
    """Return a forward pass of random images, which are on the device already."""
    side = artefact.inputs.resolution
    images = torch.rand(size, 3, side, side, device=artefact.device)
    return partial(forward_in_amp, artefact.network, images, artefact.args)


def find_best_batch(prepare: Callable[[int], Callable[[], Any]], device: torch.device, limit: int = _MAX_BATCH) -> int:
    """Return the batch size with the most images per second, of 1, 2, 4, ... and the limit: see `RULES`.

    Args:
        prepare: Returns what runs a batch of a given size.
        device: Where it runs.
        limit: The largest size to try.

    Raises:
        MemoryShortageError: Not even one image fits.
    """
    best, best_rate = 0, 0.0
    for size in (*(1 << power for power in range((limit - 1).bit_length())), limit):
        times: list[float] = []
        with noting_shortage() as shortage:
            run = prepare(size)
            times += [milliseconds(run, device) for _ in range(1 + _TRIES)][1:]
        if shortage.is_out:
            torch.cuda.empty_cache()
            break
        rate = size / spread(times).median
        if rate < best_rate * _MIN_GAIN:
            break
        best, best_rate = size, rate
    if not best:
        raise MemoryShortageError("one image does not fit into memory: check what else uses it")
    return best


def detect_files(artefact: Artefact, files: Sequence[Path], size: int) -> list[dict[str, Tensor]]:
    """Detect the objects of so many image files, again from the first if there are fewer. Boxes end on the CPU."""
    inputs = artefact.inputs
    paths = itertools.islice(itertools.cycle(files), size)
    images = (read_image(path, options=inputs.options) for path in paths)
    batch = join([unlabelled(image, inputs.resolution, inputs.resize) for image in images]).to(artefact.device)
    outputs = forward_in_amp(artefact.network, batch.images, artefact.args)
    results = Decoder(inputs.num_select)(outputs, batch.sizes)
    return [{name: tensor.cpu() for name, tensor in result.items()} for result in results]
