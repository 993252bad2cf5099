"""The one change that would help a training most, as far as the measurements of its step say."""

import math

from rfdetr_hwd.training.step_profile import StepProfile

_MAX_WAIT = 0.1
"""Fraction of a step that may be spent waiting for images."""
_MIN_GAIN = 0.05
"""Fraction of a step that a change must save to be advised."""


def advise(profile: StepProfile, cores: int) -> str:
    """Return one sentence or two: the change that saves most of a step, or that nothing is obvious.

    Args:
        profile: The measurements.
        cores: CPU cores of a rank, for its data loader workers.
    """
    found = [advice for advice in (_larger_pass(profile), _faster_loading(profile, cores)) if advice is not None]
    if found:
        return max(found)[1]
    passes = profile.fraction("forward", "backward")
    return f"nothing obvious: the forward and backward passes are {passes:.0%} of a step"


def _faster_loading(profile: StepProfile, cores: int) -> tuple[float, str] | None:
    """Return the fraction of a step that is spent waiting for images, and how to load faster."""
    waiting, workers = profile.fraction("data"), profile.workers
    if waiting <= _MAX_WAIT:
        return None
    # Compare the rate of the loader with that of a step that never waits.
    needed = profile.images_per_second / (1 - waiting)
    measured = (
        f"{waiting:.0%} of a step is waiting for images: the loader alone gives {profile.loader_rate:.1f} images/s "
        f"with data.workers={workers}, a step without waiting takes {needed:.1f}"
    )
    wanted = min(cores, max(workers + 1, math.ceil(max(1, workers) * needed / profile.loader_rate)))
    if workers >= cores:
        return waiting, f"{measured}. All {cores} CPU cores load images: store them smaller, or use more cores"
    return waiting, f"data.workers={wanted}. {measured}"


def _larger_pass(profile: StepProfile) -> tuple[float, str] | None:
    """Return the fraction of a step that twice the micro-batch saves, and the key to set."""
    if profile.doubled is None:
        return None
    size, factor = profile.doubled
    if factor is None or 1 - factor < _MIN_GAIN:
        return None
    return 1 - factor, f"train.micro_batch={size}. It was measured: a step takes {factor:.2f} times as long"
