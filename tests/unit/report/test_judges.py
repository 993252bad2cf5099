"""Each image of a split is judged once, by the model of its own part."""

from pathlib import Path

import numpy as np
import pytest

from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.report.judges import Judge, JudgesError, join_judged, mean_ap
from tests.unit.report.evaluations import make_inputs


def judge(name: str, *image_ids: int, ap: float | None = 0.5) -> Judge:
    return Judge(name, f"audit/{name}", "ema", 3, False, np.array(image_ids, np.int64), ap)


def detect(score: float, *image_ids: int) -> Detections:
    """One detection of a score in each image."""
    number = len(image_ids)
    boxes_xywh = np.tile([1.0, 2, 30, 40], (number, 1))
    return Detections(np.array(image_ids, np.int64), np.zeros(number, np.int64), boxes_xywh, np.full(number, score))


def test_an_image_has_the_detections_of_its_own_model(tmp_path: Path) -> None:
    data = make_inputs(tmp_path).data
    assert data.image_ids.tolist() == [0, 1, 2]
    # Both models detected in all images, but the first was trained on 0 and 2, the second on 1.
    joined = join_judged(data, [(judge("a", 1), detect(0.9, 0, 1, 2)), (judge("b", 2, 0), detect(0.3, 0, 1, 2))])
    assert sorted(zip(joined.image_ids.tolist(), joined.scores.tolist(), strict=True)) == [(0, 0.3), (1, 0.9), (2, 0.3)]


@pytest.mark.parametrize(
    ("parts", "counts"),
    [
        ([(0,), (1,)], "1 are in none, 0 in several"),
        ([(0, 1), (1, 2)], "0 are in none, 1 in several"),
        ([(0, 1), (2, 7)], "0 are in none, 0 in several"),  # 7 is another dataset's
    ],
)
def test_an_image_that_is_judged_by_none_or_twice_is_refused(
    parts: list[tuple[int, ...]], counts: str, tmp_path: Path
) -> None:
    judged = [(judge(str(part), *part), detect(0.5, *part)) for part in parts]
    with pytest.raises(JudgesError, match=f"do not hold each of its 3 images once: {counts}.* another --out"):
        join_judged(make_inputs(tmp_path).data, judged)


def test_the_mean_ap_is_of_those_that_have_one() -> None:
    assert mean_ap([judge("a", ap=0.2), judge("b", ap=None), judge("c", ap=0.4)]) == pytest.approx(0.3)
    assert mean_ap([judge("a", ap=None)]) is None
