import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.analysis.confusion import confusion_matrix
from tests.unit.analysis.scenes import matched, random_scene, scene

BOX, NEAR, FAR = [0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 10.0, 10.0], [50.0, 50.0, 10.0, 10.0]


def confusion(objects: list, found: list, threshold: float = 0.3) -> list:
    return confusion_matrix(*matched(*scene(objects, found)), threshold).tolist()


def test_a_worked_example() -> None:
    """A cat taken for a dog, a dog found, a cow missed; a cow where nothing is; a detection below the threshold."""
    objects = [(0, "cat", BOX), (0, "dog", FAR), (0, "cow", [80.0, 0.0, 10.0, 10.0])]
    found = [(0, "dog", NEAR, 0.9), (0, "dog", FAR, 0.3), (0, "cow", [0.0, 80.0, 9.0, 9.0], 0.5), (0, "cat", BOX, 0.2)]
    assert confusion(objects, found) == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_the_highest_iou_is_paired_first_whatever_its_class_and_score() -> None:
    found = [(0, "cat", NEAR, 0.9), (0, "dog", BOX, 0.5)]
    assert confusion([(0, "cat", BOX)], found) == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_of_equal_ious_the_same_class_then_the_higher_score_is_paired() -> None:
    found = [(0, "dog", BOX, 0.9), (0, "cat", BOX, 0.5)]
    assert confusion([(0, "cat", BOX)], found) == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    found = [(0, "dog", BOX, 0.5), (0, "cow", BOX, 0.9)]
    assert confusion([(0, "cat", BOX)], found) == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_a_crowd_is_no_background() -> None:
    crowd = (0, "cat", BOX, 1)
    assert np.array_equal(confusion([crowd], [(0, "cat", BOX, 0.9)]), np.zeros((4, 4)))
    assert confusion([crowd], [(0, "dog", BOX, 0.9)])[-1] == [0, 1, 0, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_pairs_are_those_of_a_greedy_loop(seed: int, threshold: float) -> None:
    matches, overlaps = matched(*random_scene(seed))
    counts = confusion_matrix(matches, overlaps, threshold)
    left, free = set(np.flatnonzero(matches.score >= threshold)), set(range(len(overlaps.objects)))
    expected = np.zeros_like(counts)
    for pair in np.argsort(-overlaps.iou):
        detection, found = int(overlaps.detection[pair]), int(overlaps.object[pair])
        if overlaps.iou[pair] >= 0.5 and detection in left and found in free:
            left.remove(detection)
            free.remove(found)
            expected[overlaps.objects.category[found], matches.category[detection]] += 1
    for detection in left:
        expected[-1, matches.category[detection]] += 1
    for found in free:
        expected[overlaps.objects.category[found], -1] += 1
    assert np.array_equal(counts, expected)
