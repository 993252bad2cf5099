"""Each name of an error in a worked example, and the counts of hotcoco's TIDE."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.analysis.errors import KINDS, name_errors
from tests.unit.analysis.hotcoco_tide import tide
from tests.unit.analysis.scenes import golden, matched, random_scene, scene

BOX = [0.0, 0.0, 10.0, 10.0]
HALF = [5.0, 0.0, 10.0, 10.0]  # IoU 1/3 with BOX
CAT = (0, "cat", BOX)


def kinds_of(objects: list, found: list, min_score: float = 0.0) -> tuple[list, list, list]:
    """Return name and target of each detection as listed, and the annotations that are missed."""
    matches, overlaps = matched(*scene(objects, found))
    errors = name_errors(matches, overlaps, min_score)
    order = np.argsort(matches.detection)
    names = [KINDS[kind] if kind >= 0 else None for kind in errors.kind[order]]
    targets = [overlaps.objects.annotation[t] if t >= 0 else None for t in errors.target[order]]
    return names, targets, overlaps.objects.annotation[errors.missed].tolist()


def test_each_error_has_one_name() -> None:
    assert kinds_of([CAT], [(0, "cat", BOX, 0.5)]) == ([None], [None], [])
    assert kinds_of([CAT], [(0, "dog", BOX, 0.5)]) == (["wrong class"], [0], [])
    assert kinds_of([CAT], [(0, "cat", HALF, 0.5)]) == (["badly placed"], [0], [])
    assert kinds_of([CAT], [(0, "dog", HALF, 0.5)]) == (["both"], [0], [0])
    assert kinds_of([CAT], [(0, "cat", BOX, 0.5), (0, "cat", BOX, 0.4)]) == ([None, "duplicate"], [None, 0], [])
    assert kinds_of([CAT], [(0, "cat", [50.0, 0.0, 9.0, 9.0], 0.5)]) == (["background"], [None], [0])
    assert kinds_of([CAT], []) == ([], [], [0])
    assert kinds_of([], [(0, "cat", BOX, 0.5)]) == (["background"], [None], [])


def test_the_first_name_that_fits_is_taken() -> None:
    """A box of the class that is half right is badly placed, though it hits an object of another class exactly."""
    dog = (0, "dog", HALF)
    assert kinds_of([CAT, dog], [(0, "cat", HALF, 0.5)]) == (["badly placed"], [0], [1])
    # A second box on a cat that is taken: of the wrong class if a dog is there as well, else a duplicate.
    both = [(0, "cat", BOX, 0.9), (0, "cat", [1.0, 0.0, 10.0, 10.0], 0.8)]
    assert kinds_of([CAT, (0, "dog", BOX)], both) == ([None, "wrong class"], [None, 1], [])


def test_detections_of_crowds_are_no_errors_and_crowds_are_no_objects() -> None:
    assert kinds_of([(0, "cat", BOX, 1)], [(0, "cat", BOX, 0.5)]) == ([None], [None], [])
    assert kinds_of([(0, "cat", BOX, 1)], [(0, "dog", BOX, 0.5)]) == (["background"], [None], [])


def test_detections_below_the_threshold_do_not_exist() -> None:
    found = [(0, "cat", BOX, 0.2), (0, "cat", HALF, 0.3)]
    assert kinds_of([CAT], found) == ([None, "badly placed"], [None, 0], [])
    assert kinds_of([CAT], found, min_score=0.3) == ([None, "badly placed"], [None, 0], [])
    assert kinds_of([CAT], found, min_score=0.4) == ([None, None], [None, None], [0])


def test_counts_by_class() -> None:
    matches, overlaps = matched(*scene([CAT, (0, "cow", [50.0, 50.0, 9.0, 9.0])], [(0, "dog", BOX, 0.5)]))
    errors = name_errors(matches, overlaps)
    assert errors.count() == {**dict.fromkeys(KINDS, 0), "wrong class": 1, "missed": 1}
    counts = errors.count_by_class(matches, overlaps.objects)
    assert np.argwhere(counts).tolist() == [[KINDS.index("wrong class"), 1], [KINDS.index("missed"), 2]]


def test_counts_of_the_golden_set_are_hotcocos() -> None:
    truth, detections = golden()
    assert name_errors(*matched(truth, detections)).count() == tide(truth, detections)["counts"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_counts_of_random_sets_are_hotcocos(seed: int) -> None:
    """Without crowds: hotcoco takes them for objects that detections can be badly placed on."""
    truth, detections = random_scene(seed)
    assert name_errors(*matched(truth, detections)).count() == tide(truth, detections)["counts"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_a_threshold_equals_removing_the_detections_below_it(seed: int, min_score: float) -> None:
    truth, detections = random_scene(seed, crowds=0.2)
    matches, overlaps = matched(truth, detections)
    errors = name_errors(matches, overlaps, min_score)
    kept = name_errors(*matched(truth, detections[detections.scores >= min_score]))
    assert errors.kind[matches.score >= min_score].tolist() == kept.kind.tolist()
    assert errors.missed.tolist() == kept.missed.tolist()
    assert errors.is_found.tolist() == kept.is_found.tolist()
