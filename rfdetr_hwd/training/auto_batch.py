"""Find out how many images fit into a GPU's memory, before the first epoch needs to know.

Meanwhile room is set aside for what AdamW does not hold yet. Weights, buffers and random generators stay as they were.
"""

from collections.abc import Callable

import torch
from torch import nn

from rfdetr_hwd.amp import HasAmp
from rfdetr_hwd.evaluation.auto_batch import largest_that_fits, leaving_no_trace, missing_moments
from rfdetr_hwd.runtime.distributed import SharedError, max_over_ranks
from rfdetr_hwd.runtime.memory import OutOfMemoryError, is_out_of_memory
from rfdetr_hwd.training.train_step import Criterion, MicroBatch, NonFiniteError, train_step


def largest_micro_batch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: Criterion,
    sample: Callable[[int], MicroBatch],
    limit: int,
    args: HasAmp,
) -> int:
    """Return the most images whose training passes fit into memory on every rank: `limit`, or half of it, or less.

    Args:
        network: On its device, in any mode, which it keeps.
        optimizer: The one that will train it, new or restored.
        criterion: Loss of float32 outputs.
        sample: Makes a batch of so many images, as large and as full of objects as any that will come.
        limit: The most that are wanted.
        args: Precision, for `amp_context`.
    """
    still = torch.optim.SGD([p for group in optimizer.param_groups for p in group["params"]], lr=0.0)

    def fits(size: int) -> bool:
        moments = None
        try:
            moments = missing_moments(optimizer)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        if max_over_ranks(int(moments is None)):
            return False
        try:
            train_step(network, criterion, [sample(size)], still, args, clip=0.0)
        except OutOfMemoryError:  # of any rank
            return False
        except NonFiniteError:  # which the training will answer
            return True
        except SharedError as error:
            raise error.original from None
        return True

    with leaving_no_trace(network, is_training=True):
        return largest_that_fits(fits, limit)
