"""The state of the training loop, as one object."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ConfigDict, StrictBool, StrictStr, with_config

from rfdetr_hwd.config.validation import Count, Finite


# A state that is read is validated. The loop changes its own freely.
@with_config(ConfigDict(extra="forbid"))
@dataclass
class TrainState:
    """The state of the training loop, except for weights, optimizer and random generators.

    Attributes:
        step: Completed steps.
        epoch: Completed epochs.
        step_in_epoch: Completed steps of the current epoch.
        is_evaluation_due: Whether the last completed epoch is still to be evaluated.
        micro_batch: Images of one forward pass, if memory has limited them; 0: as configured.
        best_ap: Highest AP so far; `None` before the first evaluation.
        best_step: The step that reached it.
        best_weights: The weights that reached it, `ema` or `raw`.
        evaluations_since_best: Evaluations since then.
        metrics: Metrics of the last evaluation, by name; `None` where there was nothing to measure.
        metrics_step: The step of that evaluation.
    """

    step: Count = 0
    epoch: Count = 0
    step_in_epoch: Count = 0
    is_evaluation_due: StrictBool = False
    micro_batch: Count = 0
    best_ap: Finite | None = None
    best_step: Count = 0
    best_weights: StrictStr = ""
    evaluations_since_best: Count = 0
    metrics: dict[StrictStr, Finite | None] = field(default_factory=dict)
    metrics_step: Count = 0

    @property
    def current_metrics(self) -> dict[str, float | None]:
        """Metrics of the current weights; empty if they were not evaluated."""
        return self.metrics if self.metrics_step == self.step else {}

    def end_epoch(self, epochs: int, evaluation_every: int) -> None:
        """Count an epoch, once its last step is made.

        Args:
            epochs: Epochs of the run. The last one is always evaluated.
            evaluation_every: Epochs from one evaluation to the next.
        """
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self.is_evaluation_due = self.epoch == epochs or self.epoch % evaluation_every == 0

    def record_metrics(self, metrics: Mapping[str, Mapping[str, float | None]]) -> None:
        """Record the metrics of the current weights.

        Args:
            metrics: Metrics by name, `AP` among them, of the weights `ema` and `raw`; `None`: nothing to measure.
        """
        self.metrics = {f"{kind}/{name}": value for kind, values in metrics.items() for name, value in values.items()}
        self.metrics_step, self.is_evaluation_due = self.step, False
        measured = {kind: ap for kind, values in metrics.items() if (ap := values["AP"]) is not None}
        if not measured:  # no AP to compare
            return
        weights = max(measured, key=measured.__getitem__)
        is_best = self.best_ap is None or measured[weights] > self.best_ap
        if is_best:
            self.best_ap, self.best_step, self.best_weights = measured[weights], self.step, weights
        self.evaluations_since_best = 0 if is_best else self.evaluations_since_best + 1

    def total_steps(self, epochs: int, steps_per_epoch: int) -> int:
        """Return the steps of the run until its last epoch is done.

        That is `epochs * steps_per_epoch`, unless an accepted change altered the steps of an epoch.
        """
        return self.step - self.step_in_epoch + (epochs - self.epoch) * steps_per_epoch
