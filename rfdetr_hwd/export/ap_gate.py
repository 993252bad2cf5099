"""The gate of an exported file: its AP loss to what it was made from, of all classes and of each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rfdetr_hwd.console import digits, print_table
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.export.quantization import Quantization

Metrics = Mapping[str, float | None]

_CLASS = "AP/"


class ApLossError(UserError):
    """An exported file that loses more AP than allowed."""


@dataclass(frozen=True)
class ApLoss:
    """The AP before and after a quantization, or the building of an engine.

    Attributes:
        before: COCO metrics in float32, with `AP/<class name>` of each class.
        after: The same of the exported file, on the same images.

    Example:
        >>> ApLoss({"AP": 0.45}, {"AP": 0.42}).total
        0.03
    """

    before: Metrics
    after: Metrics

    @property
    def total(self) -> float:
        """AP loss over all classes; negative: the exported file is better."""
        # Without the noise of binary fractions: 0.405 - 0.4 is no more than 0.005
        return round((self.before["AP"] or 0.0) - (self.after["AP"] or 0.0), 9)

    def classes(self) -> list[tuple[str, float, float, float]]:
        """Return name, AP before, AP after and AP loss of each class with ground truth, the largest loss first."""
        names = [name for name in self.before if name.startswith(_CLASS)]
        pairs = [(name.removeprefix(_CLASS), self.before[name], self.after[name]) for name in names]
        rows = [(name, a, b, a - b) for name, a, b in pairs if a is not None and b is not None]
        return sorted(rows, key=lambda row: -row[-1])

    def print(self, name: str) -> None:
        """Print a row for all classes and one for each, the exported file under its name."""
        rows = [("all", self.before["AP"], self.after["AP"], self.total), *self.classes()]
        texts = [
            (name, digits(a), digits(b), f"{round(loss, 4) + 0.0:+.4f}") for name, a, b, loss in rows
        ]  # no -0.0000
        print_table("AP loss", ("class", "float32", name, "loss"), texts)

    def check(self, settings: Quantization) -> None:
        """Refuse a larger AP loss than allowed.

        Raises:
            ApLossError: It is larger. The message says what to do.
        """
        if self.total <= settings.max_ap_loss:
            return
        before, after, limit = digits(self.before["AP"]), digits(self.after["AP"]), f"{settings.max_ap_loss:g}"
        ways = [*settings.alternatives(), f"accept the loss with --max-ap-loss {math.ceil(1e3 * self.total) / 1e3:.3f}"]
        raise ApLossError(
            f"{settings.name} loses {self.total:.4f} AP ({before} to {after}), more than --max-ap-loss {limit}. "
            f"The file was removed. To export it, {', or '.join(ways)}"
        )
