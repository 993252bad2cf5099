"""Pair the runs of arms by their seeds."""

from collections.abc import Mapping, Sequence

from rfdetr_hwd.comparison.compare import ComparisonError
from rfdetr_hwd.comparison.measured import Measured

Paired = dict[str, dict[int, Measured]]
"""The runs of each arm by seed. Every arm has the same seeds."""


def pair_seeds(arms: Mapping[str, Sequence[Measured]]) -> tuple[Paired, list[str]]:
    """Return the runs of each arm by seed, with notes about what is skipped or paired otherwise.

    Runs are paired by their seed. Arms without a common seed, such as result files, are paired in their order.

    Raises:
        ComparisonError: Arms without a common seed have different numbers of runs, or an arm has a seed twice.
    """
    by_seed = {arm: _by_seed(arm, runs) for arm, runs in arms.items()}
    common = set.intersection(*(set(seeds) for seeds in by_seed.values()))
    if common:
        notes = [
            f"seed {seed} of {arm} is skipped: not every arm has it"
            for arm, seeds in by_seed.items()
            for seed in sorted(set(seeds) - common)
        ]
        return {arm: {seed: seeds[seed] for seed in sorted(common)} for arm, seeds in by_seed.items()}, notes
    counts = {arm: len(runs) for arm, runs in arms.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{arm} has the seeds {sorted(seeds)}" for arm, seeds in by_seed.items())
        raise ComparisonError(f"the arms have no seed in common: {told}. Give runs with the same seeds")
    told = ", ".join(f"{arm} {sorted(seeds)}" for arm, seeds in by_seed.items())
    ordered = {arm: dict(enumerate(seeds[seed] for seed in sorted(seeds))) for arm, seeds in by_seed.items()}
    return ordered, [f"the arms have no seed in common ({told}); they are paired in this order"]


def _by_seed(arm: str, runs: Sequence[Measured]) -> dict[int, Measured]:
    """Return the runs by their seed, or by their place if one has no known seed."""
    if any(run.facts is None for run in runs):
        return dict(enumerate(runs))
    seeds: dict[int, Measured] = {}
    for run in runs:
        if run.facts is not None and seeds.setdefault(run.facts.seed, run) is not run:
            raise ComparisonError(f"two runs of {arm} have the seed {run.facts.seed}")
    return seeds
