"""The sentences of worked examples, and of runs at the edges."""

import pytest

from rfdetr_hwd.analysis.analyse import Analysis, analyse
from rfdetr_hwd.analysis.summary import lead
from rfdetr_hwd.evaluation.bootstrap import Interval
from rfdetr_hwd.evaluation.matching import match
from tests.unit.analysis.scenes import scene

BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 20.0, 20.0]
CAT = (0, "cat", BOX)
PERFECT = [(0, "cat", BOX, 0.9)]


def analysed(objects: list, found: list, num_images: int = 1, classes: tuple = ("cat", "dog")) -> Analysis:
    truth, detections = scene(objects, found, num_images, classes)
    return analyse(truth, detections, match(truth, detections), 200, "letterbox")  # pixels stay pixels


def test_a_run_that_misses_small_objects() -> None:
    """Large cats are found on 8 images, small ones on 2 of 10. A dog is found, with a box too much."""
    large, small = [50.0, 0.0, 40.0, 40.0], [0.0, 0.0, 6.0, 6.0]
    objects = [(image, "cat", box) for image in range(10) for box in (large, small)] + [(0, "dog", FAR)]
    found = [(image, "cat", large, 0.9 - image / 100) for image in range(8)]
    found += [(image, "cat", small, 0.66) for image in range(2)]
    found += [(0, "dog", FAR, 0.7), (1, "dog", FAR, 0.5)]
    first, second, third = lead(analysed(objects, found, 10), Interval(0.7522, 0.5, 0.9))
    assert first == "AP 0.75 [0.50, 0.90] on 10 images."
    assert second == "Most is lost to missed cat under 7 px: fixing missed objects would add 0.25 AP50."
    # 11 true positives of 12 detections and 21 objects: 22 / 33 with the wrong box, 22 / 32 without.
    expected = "Set the threshold to 0.58: F1 0.69 there (0.67 at 0.50)."
    assert third == f"{expected} F1 is within 0.01 of the best above 0.50 and up to 0.66."


def test_without_a_share_of_one_class_no_class_is_named_and_without_a_cause_no_size() -> None:
    objects = [(0, name, box) for name in "abcd" for box in (BOX, FAR)]
    found = [(0, name, FAR, 0.9) for name in "abcd"]
    second = lead(analysed(objects, found, classes=tuple("abcd")))[1]
    assert second == "Most is lost to missed objects under 11 px: fixing missed objects would add 0.50 AP50."
    found = [(0, name, BOX if name in "ab" else FAR, 0.9) for name in "abcd"]
    second = lead(analysed(objects, found, classes=tuple("abcd")))[1]
    assert second == "Most is lost to missed objects: fixing missed objects would add 0.50 AP50."


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([(0, "dog", BOX, 0.9)], "Most is lost to wrong classes of cat: fixing wrong classes would add 0.50 AP50."),
        (
            [(0, "cat", [5.0, 0.0, 10.0, 10.0], 0.9)],
            "Most is lost to badly placed boxes of cat: fixing badly placed boxes would add 0.50 AP50.",
        ),
        (
            [(0, "cat", BOX, 0.5), (0, "cat", [100.0, 0.0, 9.0, 9.0], 0.9)],
            "Most is lost to background taken for cat: removing detections of background would add 0.25 AP50.",
        ),
    ],
)
def test_other_errors(found: list, sentence: str) -> None:
    analysis = analysed([CAT, (0, "dog", FAR)], [*found, (0, "dog", FAR, 0.95)])
    assert lead(analysis)[1] == sentence


def test_a_perfect_model() -> None:
    assert lead(analysed([CAT], PERFECT), Interval(1, 1, 1)) == [
        "AP 1.00 on 1 image (1 class of 2 without an object).",
        "No type of error alone costs 0.005 AP50 or more.",
        "Set the threshold to 0.45: F1 1.00 there (1.00 at 0.50)."
        " F1 is within 0.01 of the best above 0.00 and up to 0.90.",
    ]


def test_one_class() -> None:
    assert lead(analysed([CAT, CAT], PERFECT, 2, ("cat",)), Interval(0.5, 0.1, 0.9)) == [
        "AP 0.50 [0.10, 0.90] on 2 images.",
        "Most is lost to missed cat: fixing missed objects would add 0.50 AP50.",
        "Set the threshold to 0.45: F1 0.67 there (0.67 at 0.50)."
        " F1 is within 0.01 of the best above 0.00 and up to 0.90.",
    ]


def test_no_detections() -> None:
    assert lead(analysed([CAT], [], 3)) == [
        "AP 0.00 on 3 images (1 class of 2 without an object).",
        "Nothing is found: 1 object is without a correct detection.",
        "No confidence threshold is better than another: no detection is correct.",
    ]


def test_no_objects() -> None:
    for found in ([], PERFECT):
        assert lead(analysed([], found, 3)) == [
            "AP is not defined: 3 images without an object.",
            "The types of error have no cost: there is no object to find.",
            "No confidence threshold is better than another: no detection is correct.",
        ]
