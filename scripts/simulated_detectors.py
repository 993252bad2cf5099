"""Simulated detectors whose AP on all possible images is known, for experiments with a known difference.

An image has a difficulty, for both arms and for each arm. So has an object, and a run meets each with luck of its own.
A run's quality is its arm's plus two effects of its seed: one that both arms share, one of its own. AP is a smooth
function of quality. It is measured once on very many images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.evaluation.matching import AREAS, IOU_THRESHOLDS, Matches
from rfdetr_hwd.evaluation.weighted_metrics import coco_metrics

NUM_CLASSES = 2
SHARED_SEED_EFFECT, OWN_SEED_EFFECT = 0.02, 0.01
"""Deviations of the seed's effects on quality. A quality of 0.1 is 4 points of AP."""


@dataclass(frozen=True)
class Scene:
    """Objects and distractors of a set of images, the same for every run: N candidates for a detection."""

    num_images: int
    image: NDArray[np.int32]
    category: NDArray[np.int32]
    is_object: NDArray[np.bool_]
    ease: NDArray[np.float64]  # (2, N), a row for each arm


def draw_scene(num_images: int, rng: np.random.Generator) -> Scene:
    """Return images with two objects and two distractors on average, half of them of each class."""
    counts = rng.poisson(1.0, (2, NUM_CLASSES, num_images))
    is_object, category, image = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape))
    ease = rng.normal(0, 0.5, num_images)[image] + rng.normal(0, 0.6, len(image))
    ease = ease + rng.normal(0, 0.2, (2, num_images))[:, image] + rng.normal(0, 0.3, (2, len(image)))
    return Scene(num_images, image.astype(np.int32), category.astype(np.int32), is_object == 0, ease)


def detect(scene: Scene, arm: int, quality: float, rng: np.random.Generator) -> Matches:
    """Return the matches of a run: an object's IoU and score rise with its ease, the run's quality, and luck."""
    iou_luck, score_luck = rng.normal(0, 0.2, (2, len(scene.image)))
    iou = 1 / (1 + np.exp(-(1.1 + quality + 0.8 * scene.ease[arm] + iou_luck)))
    logit = np.where(scene.is_object, 0.8 + quality, -0.8 - quality) + scene.ease[arm] + score_luck
    order = np.lexsort((np.arange(len(logit)), -logit, scene.category))
    true = ((iou >= IOU_THRESHOLDS[:, None]) & scene.is_object)[:, order]
    matched = np.zeros((len(AREAS), *true.shape), bool)
    matched[0] = true
    ignored = np.zeros_like(matched)
    ignored[1:] = True  # one area range
    counts = np.zeros((len(AREAS), NUM_CLASSES, scene.num_images), np.int32)
    np.add.at(counts[0], (scene.category[scene.is_object], scene.image[scene.is_object]), 1)
    return Matches(
        image_ids=np.arange(scene.num_images),
        category_ids=np.arange(NUM_CLASSES),
        class_names=("0", "1"),
        detection=order,
        image=scene.image[order],
        category=scene.category[order],
        score=1 / (1 + np.exp(-logit[order])),
        rank=np.zeros(len(order), np.int32),
        matched=matched,
        ignored=ignored,
        ground_truth=np.where(true, 0, -1),
        num_ground_truth=counts,
    )


def draw_qualities(means: tuple[float, float], num_seeds: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the quality of each run, shape (2, S)."""
    shared = rng.normal(0, SHARED_SEED_EFFECT, num_seeds)
    return np.array(means)[:, None] + shared + rng.normal(0, OWN_SEED_EFFECT, (2, num_seeds))


class Population:
    """AP on all possible images, as a function of quality: a cubic through very many images.

    Args:
        num_images: Number of images it is measured on.
        metric: Name of the metric.
    """

    def __init__(self, num_images: int, metric: str = "AP") -> None:
        grid = np.linspace(-0.2, 0.3, 6)
        chunk = min(num_images, 50_000)
        values = []
        for part in range(num_images // chunk):
            scene = draw_scene(chunk, np.random.default_rng([part, 1]))
            # The same luck at each quality: the curve is smooth, and its differences are exact far beyond its values.
            runs = [detect(scene, 0, quality, np.random.default_rng([part, 2])) for quality in grid]
            values.append([coco_metrics(run, metrics=[metric])[metric] for run in runs])
        self._cubic = np.polynomial.Polynomial.fit(grid, np.mean(values, axis=0), 3)

    def metric_of(self, quality: float) -> float:
        """Return the metric of one run on all possible images."""
        return float(self._cubic(quality))

    def mean_metric(self, quality: float) -> float:
        """Return the mean over all possible seeds of an arm, by Gauss-Hermite quadrature."""
        points, weights = np.polynomial.hermite_e.hermegauss(5)
        deviation = np.hypot(SHARED_SEED_EFFECT, OWN_SEED_EFFECT)
        return float(weights @ self._cubic(quality + deviation * points) / weights.sum())
