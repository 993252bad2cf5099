"""Whether a score is a probability: reliability diagram and detection expected calibration error (D-ECE).

Source: Kueppers et al., "Multivariate Confidence Calibration for Object Detection", CVPR Workshops 2020.
D-ECE is the sum over bins of |precision - mean score|, weighted by the fraction of detections. A detection is correct
if it is a true positive at IoU 0.5. Objects that are not found do not enter.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.overlaps import Overlaps
from rfdetr_hwd.evaluation.matching import Matches


@dataclass(frozen=True)
class Calibration:
    """Reliability of the scores in B equal bins from 0 to 1.

    Attributes:
        edges: Bounds of the bins, shape (B + 1,). A score on a bound belongs to the upper bin, 1 to the last one.
        count: Detections of each bin, shape (B,).
        mean_score: Their mean score, shape (B,). NaN: an empty bin.
        precision: Their fraction of true positives, shape (B,). NaN: an empty bin.
        d_ece: D-ECE, from 0 to 1; `None`: no detections.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    mean_score: NDArray[np.float64]
    precision: NDArray[np.float64]
    d_ece: float | None


def calibrate(matches: Matches, num_bins: int = 10, min_score: float = 0.0) -> Calibration:
    """Compare scores with precision.

    Args:
        matches: Matches of the run.
        num_bins: Number of bins.
        min_score: Lowest score of a detection that counts. Most detections of a DETR have low scores, and D-ECE weighs
            them by their number.
    """
    rows = _counted(matches, min_score)
    count, mean_score, precision = _bins(matches, rows, _bin(matches.score[rows], num_bins), num_bins)
    return Calibration(
        edges=_edges(num_bins),
        count=count,
        mean_score=mean_score,
        precision=precision,
        d_ece=_d_ece(count, mean_score, precision),
    )


def d_ece_by_size(
    matches: Matches,
    overlaps: Overlaps,
    image_sizes: NDArray[np.int64],
    num_bins: int = 8,
    min_score: float = 0.0,
) -> float | None:
    """Return D-ECE over bins of score, box width and box height: it sees errors that cancel between box sizes.

    Args:
        matches: Matches of the run.
        overlaps: Their overlaps.
        image_sizes: Height and width of each image, shape (I, 2).
        num_bins: Number of bins along each of the three axes.
        min_score: Lowest score of a detection that counts.
    """
    rows = _counted(matches, min_score)
    relative = overlaps.boxes_xywh[rows, 2:] / image_sizes[matches.image[rows], ::-1]
    axes = [_bin(values, num_bins) for values in (matches.score[rows], *relative.T)]
    row = np.ravel_multi_index(axes, [num_bins] * 3)
    return _d_ece(*_bins(matches, rows, row, num_bins**3))


def _counted(matches: Matches, min_score: float) -> NDArray[np.int64]:
    return np.flatnonzero(~matches.ignored[0, 0] & (matches.score >= min_score))


def _edges(num_bins: int) -> NDArray[np.float64]:
    return np.arange(num_bins + 1) / num_bins  # linspace gives 0.30000000000000004, and 0.3 would be below it


def _bin(values: NDArray[np.float64], num_bins: int) -> NDArray[np.int64]:
    """Return the bin of values from 0 to 1. Others belong to the outer bins."""
    return np.digitize(values, _edges(num_bins)[1:-1])


def _bins(
    matches: Matches, rows: NDArray[np.int64], bins: NDArray[np.int64], num_bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return count, mean score and precision of each bin."""
    count = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        mean_score = np.bincount(bins, matches.score[rows], num_bins) / count
        precision = np.bincount(bins, matches.matched[0, 0, rows], num_bins) / count
    return count, mean_score, precision


def _d_ece(count: NDArray[np.int64], mean_score: NDArray[np.float64], precision: NDArray[np.float64]) -> float | None:
    filled = count > 0
    gaps = np.abs(precision[filled] - mean_score[filled])
    return float(np.average(gaps, weights=count[filled])) if filled.any() else None
