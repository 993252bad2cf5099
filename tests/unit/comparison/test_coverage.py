"""Intervals hold a known difference as often as they say: the script of the dated measurement, on a small count."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    import measure_coverage

    return measure_coverage


def test_the_population_knows_the_metric_of_new_images(script: ModuleType) -> None:
    """On 4,000 new images the AP of a quality between the grid's points is the cubic's, within 3 standard errors."""
    population = script.Population(10_000)
    rng = np.random.default_rng(99)
    measured = script.resample_arm({0: script.detect(script.draw_scene(4000, rng), 0, 0.15, rng)}, ["AP"], 20, 0)["AP"]
    error = 3 * (measured.resampled.std() ** 2 * 1.4) ** 0.5  # 4,000 and 10,000 images
    assert measured.measured[0] == pytest.approx(population.metric_of(0.15), abs=error)
    assert population.metric_of(0.1) - population.metric_of(0.0) == pytest.approx(0.04, abs=0.01)


def test_a_small_count_is_covered(script: ModuleType) -> None:
    experiments, num_images = 30, 50
    population = script.Population(10_000)
    outcomes = [script.run_experiment(population, num_images, 100, number, (1, 3)) for number in range(experiments)]
    one, three = script.summarize(num_images, outcomes)
    assert (one["seeds"], three["seeds"], one["images"]) == (1, 3, 50)
    fewest = stats.binom.ppf(0.002, experiments, 0.95) / experiments
    assert min(three["coverage"], one["of_these_models"], one["one_run"]) >= fewest
    # A difference of 1.2 points of AP on 50 images: the interval has to be wide, but not wider than the noise.
    assert 0.01 < three["half_width"] < 0.06
