"""Settle `train.class_weights`: the weight of each class, by name or from the objects of the training split."""

import difflib
from collections.abc import Mapping
from typing import Literal

import numpy as np

from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.errors import ConfigError


def find_class_weights(
    setting: Mapping[str, float] | Literal["balanced"] | None, data: DetectionData
) -> tuple[float, ...] | None:
    """Return the weight of each class in label order; `None`: no weights.

    `balanced` weighs a class by the mean number of objects per class over its own number of objects, so that all
    classes weigh the same together, and an object weighs 1 on average. A class without objects has weight 1.

    Args:
        setting: The key of the configuration.
        data: The training split.

    Raises:
        ConfigError: A name is not that of a class.
    """
    if setting is None:
        return None
    names = data.class_names
    if setting == "balanced":
        counts = np.bincount(data.labels[data.usable()], minlength=len(names))
        mean = counts.sum() / np.count_nonzero(counts)
        return tuple(float(mean / count) if count else 1.0 for count in counts)
    for name in setting:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise ConfigError(f"train.class_weights: {data.name} has no class {name!r}{hint}")
    return tuple(float(setting.get(name, 1.0)) for name in names)


def say_class_weights(weights: tuple[float, ...] | None, data: DetectionData) -> None:
    """Print the highest and lowest weights, if there are any."""
    if weights is None:
        return
    ranked = sorted(zip(data.class_names, weights, strict=True), key=lambda pair: -pair[1])
    shown = dict.fromkeys([*ranked[:5], *ranked[-3:]])
    said = ", ".join(f"{name} {weight:.3g}" for name, weight in shown)
    say(f"class weights of the classification loss: {said}{' (some of them)' if len(shown) < len(ranked) else ''}")
