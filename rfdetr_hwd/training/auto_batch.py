"""Find the largest micro-batch that fits into a GPU's memory, before the first epoch.

The search reserves memory for AdamW's moments. Weights, buffers and random generators are unchanged afterwards.
"""

import logging
from collections.abc import Callable

import torch
from torch import nn

from rfdetr_hwd.amp import HasAmp
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.batch import Batch, PackedTargets
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime.distributed import SharedError, is_main, max_over_ranks, world_size
from rfdetr_hwd.runtime.largest_batch import largest_that_fits, leaving_no_trace, missing_moments
from rfdetr_hwd.runtime.memory import HalfUpdatedError, OutOfMemoryError, noting_shortage
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.non_finite import NonFiniteError
from rfdetr_hwd.training.train_step import TrainStep

logger = logging.getLogger(__name__)


def choose_micro_batch(
    config: Config, learner: Learner, criterion: DetectionLoss, loader: TrainLoader, data: DetectionData
) -> int:
    """Return the micro-batch size of `train.micro_batch=auto`; 0: the per-rank batch.

    On a GPU it is tried at the largest resolution, with as many objects per image as the densest image has.
    """
    device = next(learner.network.parameters()).device
    share = -(-config.train.batch_size // world_size())
    if device.type != "cuda":
        if is_main():
            logger.info("train.micro_batch=auto: on a CPU it is the per-rank batch, %d images", share)
        return 0
    side, densest = max(loader.order.resolutions), max(len(data.objects(row)[1]) for row in range(len(data)))

    def sample(size: int) -> Batch:
        target = {"labels": torch.zeros(densest, dtype=torch.int64), "boxes": torch.rand(densest, 4) * 0.4 + 0.1}
        pixels = torch.randint(256, (size, 3, side, side), dtype=torch.uint8)
        return Batch(pixels, PackedTargets.pack([target] * size), tuple(range(size)), torch.zeros(size, 2, 2))

    size = largest_micro_batch(learner.network, learner.optimizer, criterion, sample, share, config)
    if is_main():
        logger.info("train.micro_batch=auto: %d of %d images fit at %d px with %d objects", size, share, side, densest)
    return size


def largest_micro_batch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: DetectionLoss,
    sample: Callable[[int], Batch],
    limit: int,
    args: HasAmp,
) -> int:
    """Return the largest micro-batch that fits into memory on every rank: `limit`, half of it, or less.

    Args:
        network: On its device, in any mode. The mode is kept.
        optimizer: Optimizer of the training, new or restored.
        criterion: Loss of float32 outputs.
        sample: Makes a batch of a given size, with the largest images and the most objects that can occur.
        limit: Largest size to try.
        args: Precision, for `amp_context`.
    """
    # A learning rate of 0 leaves the weights unchanged.
    still = torch.optim.SGD([p for group in optimizer.param_groups for p in group["params"]], lr=0.0, fused=True)

    def fits(size: int) -> bool:
        moments: list[torch.Tensor] = []  # held while the step is tried
        with noting_shortage() as shortage:
            moments += missing_moments(optimizer)
        if max_over_ranks(int(shortage.is_out)):
            return False
        try:
            step = TrainStep(network, criterion, still, args, clip=0.0)
            step([sample(size)])
            step.settle()
        except (OutOfMemoryError, HalfUpdatedError):  # of any rank
            return False
        except NonFiniteError:  # the training handles it
            return True
        except SharedError as error:
            raise error.original from None
        return True

    with leaving_no_trace(network, is_training=True):
        return largest_that_fits(fits, limit)
