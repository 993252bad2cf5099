"""The state of the training loop, as one object."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self


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

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    is_evaluation_due: bool = False
    micro_batch: int = 0
    best_ap: float | None = None
    best_step: int = 0
    best_weights: str = ""
    evaluations_since_best: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)
    metrics_step: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the state from its `dataclasses.asdict`.

        Up to format 5 of the checkpoints, metrics were called figures, steps updates, and raw weights plain. Up to
        format 4, -1 stood for an undefined metric.

        Raises:
            ValueError: A field is missing, unknown, of another type, or a negative count.
        """
        values = _in_todays_words(values)
        state = cls(**values) if values.keys() == {entry.name for entry in fields(cls)} else None
        if state is None:
            raise ValueError(f"its state has the fields {sorted(values)}")
        for name, default in vars(cls()).items():
            value = getattr(state, name)
            is_known = _is_metric(value) if name == "best_ap" else type(value) is type(default)
            if not is_known or isinstance(value, int) and value < 0:
                raise ValueError(f"its state has {name} = {value!r}")
        if not all(_is_metric(value) for value in state.metrics.values()):
            raise ValueError(f"its state has metrics = {state.metrics!r}")
        state.best_ap = _without_sentinel(state.best_ap)
        state.metrics = {name: _without_sentinel(value) for name, value in state.metrics.items()}
        return state

    @property
    def current_metrics(self) -> dict[str, float | None]:
        """Metrics of the current weights; empty if they were not evaluated."""
        return self.metrics if self.metrics_step == self.step else {}

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


_FORMER_NAMES = {"figures": "metrics", "figures_step": "metrics_step", "update_in_epoch": "step_in_epoch"}


def _in_todays_words(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded state with today's names of its fields, of its metrics and of the raw weights."""
    renamed = {_FORMER_NAMES.get(name, name): value for name, value in values.items()}
    if renamed.get("best_weights") == "plain":
        renamed["best_weights"] = "raw"
    if isinstance(metrics := renamed.get("metrics"), dict):
        renamed["metrics"] = {re.sub("^plain/", "raw/", str(name)): value for name, value in metrics.items()}
    return renamed


def _is_metric(value: Any) -> bool:
    return value is None or type(value) in (int, float)


def _without_sentinel(value: float | None) -> float | None:
    """Return a metric as it is recorded today: up to format 4 of the checkpoints, -1 stood for an undefined one."""
    return None if value == -1 else value
