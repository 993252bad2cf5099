"""What changes with every update, and how it is remembered: network, optimiser, average, random generators."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.runtime.distributed import gather_objects, rank, world_size
from rfdetr_hwd.runtime.random_state import random_state, restore_random_state, seed_all
from rfdetr_hwd.training.optimizer import Schedule, WeightAverage, highest_rates, moments_by_name, restore_moments


@dataclass
class Learner:
    """What changes with every update.

    Attributes:
        network: The network.
        optimizer: AdamW.
        schedule: Learning rate by step.
        average: Moving average of the weights, if there is one.
        rate_name: Returns what the learning rate of a parameter is called in the metrics, by the parameter's name.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: WeightAverage | None
    rate_name: Callable[[str], str] = lambda _: "lr"

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks to evaluate and save: `ema`, if there is one, and `plain`."""
        average = {"ema": self.average.module} if self.average is not None else {}
        return {**average, "plain": self.network}

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates that are set, by what they are called; of several of one name the highest."""
        return highest_rates(self.optimizer, self.network, self.rate_name)

    def training_state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the weights. Every rank calls it: each has random generators."""
        return {"optimizer": moments_by_name(self.optimizer, self.network), "random": gather_objects(random_state())}

    def restore(
        self, state: TrainState, training: dict[str, Any], weights: Callable[[str], dict[str, Tensor]], seed: int
    ) -> None:
        """Put back everything that `training_state` and the weights hold.

        With another number of ranks than the saved run had, each rank's generators are seeded anew.

        Args:
            state: Position in the run.
            training: From `training_state`.
            weights: Returns the state dict of `ema` or `plain`.
            seed: Of the run.
        """
        for kind, network in self.networks().items():
            network.load_state_dict(weights(kind))
        restore_moments(self.optimizer, self.network, training["optimizer"])
        if len(training["random"]) == world_size():
            restore_random_state(training["random"][rank()])
        else:
            seed_all(int(np.random.SeedSequence([seed, state.step, world_size(), rank()]).generate_state(1)[0]))
