"""What the loop must remember, as one object."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self


@dataclass
class TrainState:
    """What the loop must remember, beside weights, optimiser and random generators.

    Attributes:
        step: Updates made.
        epoch: Epochs completed.
        update_in_epoch: Updates made of the epoch under way.
        is_evaluation_due: Whether the epoch that was completed last is to be evaluated first.
        micro_batch: Images of one forward pass where memory has decided; 0: as it is configured.
        best_ap: Highest AP so far; `None` before the first evaluation.
        best_step: The step that reached it.
        best_weights: The weights that reached it, `ema` or `plain`.
        evaluations_since_best: Evaluations since.
        figures: Figures of the last evaluation, by name; `None` where there was nothing to measure.
        figures_step: The step it was made at.
    """

    step: int = 0
    epoch: int = 0
    update_in_epoch: int = 0
    is_evaluation_due: bool = False
    micro_batch: int = 0
    best_ap: float | None = None
    best_step: int = 0
    best_weights: str = ""
    evaluations_since_best: int = 0
    figures: dict[str, float | None] = field(default_factory=dict)
    figures_step: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the state that `dataclasses.asdict` was made of.

        Raises:
            ValueError: A field is missing, unknown, of another type, or a negative count.
        """
        state = cls(**values) if values.keys() == {entry.name for entry in fields(cls)} else None
        if state is None:
            raise ValueError(f"its state has the fields {sorted(values)}")
        for name, default in vars(cls()).items():
            value = getattr(state, name)
            is_known = _is_figure(value) if name == "best_ap" else type(value) is type(default)
            if not is_known or isinstance(value, int) and value < 0:
                raise ValueError(f"its state has {name} = {value!r}")
        if not all(_is_figure(value) for value in state.figures.values()):
            raise ValueError(f"its state has figures = {state.figures!r}")
        state.best_ap = _without_sentinel(state.best_ap)
        state.figures = {name: _without_sentinel(value) for name, value in state.figures.items()}
        return state

    @property
    def current_figures(self) -> dict[str, float | None]:
        """Figures of the weights as they are now; empty if they were not measured."""
        return self.figures if self.figures_step == self.step else {}

    def take_figures(self, figures: Mapping[str, Mapping[str, float | None]]) -> None:
        """Enter what was measured of the weights as they are now.

        Args:
            figures: Figures by name, `AP` among them, of the weights `ema` and `plain`; `None`: nothing to measure.
        """
        self.figures = {f"{kind}/{name}": value for kind, values in figures.items() for name, value in values.items()}
        self.figures_step, self.is_evaluation_due = self.step, False
        measured = {kind: ap for kind, values in figures.items() if (ap := values["AP"]) is not None}
        if not measured:  # what is none is no AP to compare with
            return
        weights = max(measured, key=measured.__getitem__)
        is_best = self.best_ap is None or measured[weights] > self.best_ap
        if is_best:
            self.best_ap, self.best_step, self.best_weights = measured[weights], self.step, weights
        self.evaluations_since_best = 0 if is_best else self.evaluations_since_best + 1

    def total_steps(self, epochs: int, updates_per_epoch: int) -> int:
        """Return the updates of the run until its last epoch is done.

        That is `epochs * updates_per_epoch`, unless the epochs so far had other updates: an accepted change.
        """
        return self.step - self.update_in_epoch + (epochs - self.epoch) * updates_per_epoch


def _is_figure(value: Any) -> bool:
    return value is None or type(value) in (int, float)


def _without_sentinel(value: float | None) -> float | None:
    """Return a figure as it is recorded today: up to format 4 of the checkpoints, -1 stood for one that is none."""
    return None if value == -1 else value
