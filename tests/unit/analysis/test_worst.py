import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.analysis.errors import name_errors
from rfdetr_hwd.analysis.worst import WorstImage, worst_images
from tests.unit.analysis.scenes import matched, random_scene, scene

BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 10.0, 20.0]


def worst(dataset: tuple, threshold: float = 0.3, top: int = 50) -> list[WorstImage]:
    matches, overlaps = matched(*dataset)
    return worst_images(matches, overlaps, name_errors(matches, overlaps, threshold), top)


def test_a_worked_example() -> None:
    """Image 1 lacks a dog and takes a cat for a cow at 0.75. Image 2 is right. Image 0 has a box too much."""
    objects = [(1, "cat", BOX), (1, "dog", FAR), (2, "cat", BOX)]
    found = [(0, "dog", FAR, 0.5), (1, "cow", BOX, 0.75), (1, "cow", BOX, 0.2), (2, "cat", BOX, 0.9)]
    first, second = worst(scene(objects, found, num_images=3))
    assert (first.image_id, first.weight) == (1, 1.75)
    missed, wrong = first.errors
    assert (missed.kind, missed.class_name, missed.score, missed.annotation) == ("missed", "dog", None, 1)
    assert missed.box_xyxy == (50, 50, 60, 70)
    assert missed.detection is missed.true_class is None
    assert (wrong.kind, wrong.class_name, wrong.true_class, wrong.score) == ("wrong class", "cow", "cat", 0.75)
    assert (wrong.detection, wrong.annotation) == (1, 0)
    assert (second.image_id, second.weight) == (0, 0.5)
    assert [(error.kind, error.annotation) for error in second.errors] == [("background", None)]


def test_ties_are_in_the_order_of_ids_and_the_list_ends() -> None:
    dataset = scene([(image, "cat", BOX) for image in (2, 0, 1)], [], num_images=4)
    assert [image.image_id for image in worst(dataset)] == [0, 1, 2]
    assert [image.image_id for image in worst(dataset, top=2)] == [0, 1]
    assert worst(scene([(0, "cat", BOX)], [(0, "cat", BOX, 0.9)])) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_every_error_is_listed_once(seed: int, threshold: float) -> None:
    dataset = random_scene(seed, crowds=0.2)
    images = worst(dataset, threshold)
    matches, overlaps = matched(*dataset)
    counts = name_errors(matches, overlaps, threshold).count()
    listed = [error.kind for image in images for error in image.errors]
    assert {kind: listed.count(kind) for kind in counts} == counts
    assert [image.weight for image in images] == sorted((image.weight for image in images), reverse=True)
    for image in images:
        weight = sum(1 if error.score is None else error.score for error in image.errors)
        assert image.weight == pytest.approx(weight)
