"""Measure how often intervals hold the true value, on simulated experiments whose difference is known.

Each experiment draws images, two arms of detectors and their seeds, and compares them. The interval of a comparison is
measured beside the quantiles of the two-level bootstrap, that of one run beside the quantiles of its resamples.

usage: python scripts/measure_coverage.py --experiments 1000 --out benchmarks/coverage-2026-11-26.json
"""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from simulated_detectors import Population, detect, draw_qualities, draw_scene

from rfdetr_hwd.comparison.noise import TAIL
from rfdetr_hwd.comparison.two_level_bootstrap import Values, estimate, resample_arm
from rfdetr_hwd.evaluation.bootstrap import image_variance
from rfdetr_hwd.runtime.environment import describe_environment

METRIC = "AP"
SEEDS = (1, 2, 3, 5, 10)
IMAGES = (50, 500)
QUALITIES = (0.0, 0.03)
Row = dict[str, Any]


def main() -> None:
    """Measure, print the tables, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=200, help="resamples of the images in each experiment")
    parser.add_argument("--population", type=int, default=200_000, help="images that stand for all possible ones")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the JSON file")
    arguments = parser.parse_args()
    population = Population(arguments.population, METRIC)
    with ProcessPoolExecutor(arguments.processes) as pool:
        rows = []
        for num_images in IMAGES:
            run = partial(run_experiment, population, num_images, arguments.resamples)
            rows += summarize(num_images, list(pool.map(run, range(arguments.experiments), chunksize=10)))
    content = {
        "command": f"python scripts/measure_coverage.py --experiments {arguments.experiments}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "environment": describe_environment(),
        "experiments": arguments.experiments,
        "resamples": arguments.resamples,
        "true_difference": population.mean_metric(QUALITIES[1]) - population.mean_metric(QUALITIES[0]),
        "coverage": rows,
    }
    for row in rows:
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"coverage": rows}))


def summarize(num_images: int, experiments: Sequence[Mapping[int, Mapping[str, float]]]) -> list[Row]:
    """Return a row for each number of seeds: the fraction of experiments whose interval holds the true value.

    An experiment of few seeds is the start of a larger one: the rows of one number of images are not independent.
    """
    rows = []
    for seeds in experiments[0]:
        outcomes = [experiment[seeds] for experiment in experiments]
        means = {name: float(np.mean([outcome[name] for outcome in outcomes])) for name in outcomes[0]}
        rows.append({"images": num_images, "seeds": seeds, **means})
    return rows


def run_experiment(
    population: Population, num_images: int, resamples: int, number: int, counts: Sequence[int] = SEEDS
) -> dict[int, dict[str, float]]:
    """Return for each number of seeds which intervals hold the true value, as 1 or 0."""
    rng = np.random.default_rng([num_images, number])
    scene = draw_scene(num_images, rng)
    qualities = draw_qualities(QUALITIES, max(counts), rng)
    arms = []
    for arm in (0, 1):
        runs = {seed: detect(scene, arm, quality, rng) for seed, quality in enumerate(qualities[arm])}
        arms.append(resample_arm(runs, [METRIC], resamples, number)[METRIC])
    difference = arms[1] - arms[0]
    truth = population.mean_metric(QUALITIES[1]) - population.mean_metric(QUALITIES[0])
    outcomes = {}
    for seeds in counts:
        some = Values(difference.measured[:seeds], difference.resampled[:seeds])
        found = estimate(some, num_images)
        half = found.half_width(TAIL)
        outcome = {"coverage": float(abs(found.difference - truth) <= half), "half_width": half}
        if seeds == 1:
            of_models = population.metric_of(qualities[1, 0]) - population.metric_of(qualities[0, 0])
            outcome["of_these_models"] = float(abs(found.difference - of_models) <= half)
            outcome |= _cover_one_run(arms[0], population.metric_of(qualities[0, 0]), num_images)
        low, high = np.nanquantile(_two_levels(some, rng), [TAIL, 1 - TAIL])
        outcomes[seeds] = outcome | {"quantiles": float(low <= truth <= high)}
    return outcomes


def _two_levels(differences: Values, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the mean differences of the plain two-level bootstrap: seeds are drawn, then images."""
    num_seeds, resamples = differences.resampled.shape
    drawn = rng.integers(0, num_seeds, (num_seeds, resamples))
    mean: NDArray[np.float64] = np.take_along_axis(differences.resampled, drawn, axis=0).mean(axis=0)
    return mean


def _cover_one_run(arm: Values, truth: float, num_images: int) -> dict[str, float]:
    """Return whether the interval of the first run, and the quantiles of its resamples, hold its AP on all images."""
    half = stats.t.isf(TAIL, num_images - 1) * image_variance(arm.resampled[0], num_images) ** 0.5
    low, high = np.quantile(arm.resampled[0], [TAIL, 1 - TAIL])
    return {
        "one_run": float(abs(arm.measured[0] - truth) <= half),
        "one_run_quantiles": float(low <= truth <= high),
    }


if __name__ == "__main__":
    main()
