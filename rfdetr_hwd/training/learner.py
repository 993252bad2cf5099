"""The state that changes with every step: network, optimizer, EMA, random generators. Saving and restoring it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.schema import Config, TrainSection
from rfdetr_hwd.layers.bands import band_energies
from rfdetr_hwd.model.backward_order import backward_order
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.model.learning_rates import learning_rates, rate_name
from rfdetr_hwd.runtime.distributed import broadcast_weights, gather_objects, rank, world_size
from rfdetr_hwd.runtime.gradient_averaging import GradientAverager
from rfdetr_hwd.runtime.random_state import random_state, restore_random_state, seed_all
from rfdetr_hwd.training.optimizer import (
    ExponentialMovingAverage,
    Schedule,
    build_adamw,
    highest_rates,
    moments_by_name,
    restore_moments,
)


@dataclass
class Learner:
    """The state that changes with every step.

    Attributes:
        network: The network.
        optimizer: AdamW.
        schedule: Learning rate by step.
        ema: EMA of the weights, if enabled.
        rate_name: Returns the name of a parameter's learning rate in the metrics, given the parameter's name.
        averager: Averages the gradients over the ranks.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    ema: ExponentialMovingAverage | None
    rate_name: Callable[[str], str] = lambda _: "lr"
    averager: GradientAverager = field(default_factory=lambda: GradientAverager([]))

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks to save: `ema`, if enabled, and `raw`."""
        averaged = {"ema": self.ema.module} if self.ema is not None else {}
        return {**averaged, "raw": self.network}

    def evaluated_networks(self, config: Config, epoch: int) -> dict[str, nn.Module]:
        """Return the networks to evaluate after an epoch: beside the EMA the raw weights only when they are due.

        Args:
            config: Configuration of the run.
            epoch: Completed epochs.
        """
        every, raw_every = config.evaluation.every, config.evaluation.raw_every
        is_due = epoch >= config.train.epochs or (raw_every is not None and epoch // every % raw_every == 0)
        return {kind: net for kind, net in self.networks().items() if is_due or kind == "ema" or self.ema is None}

    def learning_rates(self) -> dict[str, float]:
        """Return the current learning rates by name. Of several rates with one name, the highest."""
        return highest_rates(self.optimizer, self.network, self.rate_name)

    def band_energies(self) -> dict[str, float]:
        """Return the energy of each downsampler's weights by Haar band; see `rfdetr_hwd.layers.bands`."""
        return band_energies(self.network)

    def training_state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs in addition to the weights. Every rank calls it."""
        return {"optimizer": moments_by_name(self.optimizer, self.network), "random": gather_objects(random_state())}

    def restore(
        self, state: TrainState, training: dict[str, Any], weights: Callable[[str], dict[str, Tensor]], seed: int
    ) -> None:
        """Restore everything that `training_state` and the weights hold.

        If the number of ranks has changed, each rank's generators are seeded again.

        Args:
            state: Position in the run.
            training: From `training_state`.
            weights: Returns the state dict of `ema` or `raw`.
            seed: Seed of the run.
        """
        for kind, network in self.networks().items():
            network.load_state_dict(weights(kind))
        restore_moments(self.optimizer, self.network, training["optimizer"])
        if len(training["random"]) == world_size():
            restore_random_state(training["random"][rank()])
        else:
            seed_all(int(np.random.SeedSequence([seed, state.step, world_size(), rank()]).generate_state(1)[0]))


def build_learner(
    train: TrainSection, model: BuiltModel, device: torch.device, steps_per_epoch: int, state: TrainState
) -> Learner:
    """Return network, optimizer, schedule and EMA of a run; the ranks start from the weights of rank 0.

    Args:
        train: Section of the configuration.
        model: The model. Its network is moved to the device.
        device: This rank's.
        steps_per_epoch: Steps of an epoch.
        state: Settled start of the run. It decides the total number of steps.
    """
    network = model.network.to(device)
    broadcast_weights(network)
    return Learner(
        network=network,
        optimizer=build_adamw(learning_rates(network, model.stock.config, train)),
        schedule=Schedule(
            train.schedule,
            warmup_steps=round(train.warmup_epochs * steps_per_epoch),
            total_steps=state.total_steps(train.epochs, steps_per_epoch),
            final_factor=train.lr_final_factor,
        ),
        ema=ExponentialMovingAverage(network, train.ema_decay, train.ema_tau) if train.ema else None,
        averager=GradientAverager(backward_order(network)),
        rate_name=rate_name,
    )
