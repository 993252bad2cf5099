import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.analysis.audit import SUGGESTION_KINDS, Label, Suggestion, find_suggestions
from tests.unit.analysis.scenes import CLASSES, golden, random_scene, scene

HERE, THERE, FAR = [10.0, 10.0, 20.0, 20.0], [60.0, 10.0, 20.0, 40.0], [150.0, 60.0, 30.0, 30.0]
CAT, DOG, COW = range(3)
RIGHT = [(0, "cat", HERE, 0.9), (0, "dog", THERE, 0.8)]
OBJECTS = [(0, "cat", HERE), (0, "dog", THERE)]


def suggest(objects: list[tuple], found: list[tuple], num_images: int = 1, threshold: float = 0.5) -> list[Suggestion]:
    return find_suggestions(*scene(objects, found, num_images), range(len(CLASSES)), threshold)


def test_clean_annotations_give_none() -> None:
    """Not even with an uncertain detection elsewhere, a second one of an object, or an object that is not found."""
    assert suggest(OBJECTS, RIGHT) == []
    uncertain = (0, "cow", FAR, 0.49)
    again = (0, "cat", [11.0, 10.0, 20.0, 20.0], 0.7)
    assert suggest([*OBJECTS, (0, "dog", FAR)], [*RIGHT, uncertain, again]) == []


def test_an_overlooked_object_is_a_worked_example() -> None:
    (one,) = suggest(OBJECTS, [*RIGHT, (0, "cow", FAR, 0.7)])
    assert (one.kind, one.image_id, one.annotation, one.twin) == ("overlooked", 0, None, None)
    assert (one.score, one.confidence) == (pytest.approx(0.7), 0.7)
    assert (one.old, one.new) == (None, Label(COW, tuple(FAR)))


def test_an_overlooked_object_beside_an_annotation_has_a_lower_score() -> None:
    """20 x 20 pixels, moved by 10: IoU 1/3 with the cat, which is found."""
    (one,) = suggest(OBJECTS, [*RIGHT, (0, "cat", [20.0, 10.0, 20.0, 20.0], 0.6)])
    assert (one.kind, one.score) == ("overlooked", pytest.approx(0.6 * 2 / 3))


def test_a_swapped_class_is_a_worked_example() -> None:
    """The dog is annotated as a cow. The model half agrees, with 0.25."""
    objects = [OBJECTS[0], (0, "cow", THERE)]
    found = [*RIGHT, (0, "cow", THERE, 0.25)]
    (one,) = suggest(objects, found)
    assert (one.kind, one.annotation, one.confidence) == ("swapped", 1, 0.8)
    assert one.score == pytest.approx(0.8 * 0.75)
    assert (one.old, one.new) == (Label(COW, tuple(THERE)), Label(DOG, tuple(THERE)))


def test_the_box_of_a_swapped_class_stays() -> None:
    (one,) = suggest([(0, "cat", HERE)], [(0, "dog", [11.0, 10.0, 20.0, 20.0], 0.8)])
    assert one.new == Label(DOG, tuple(HERE))


def test_an_annotation_of_a_class_that_the_model_lacks_is_not_doubted() -> None:
    truth, detections = scene([(0, "cow", HERE)], [(0, "cat", HERE, 0.9)])
    assert find_suggestions(truth, detections, (CAT, DOG), 0.5) == []
    assert len(find_suggestions(truth, detections, (CAT, DOG, COW), 0.5)) == 1


def test_a_badly_placed_box_is_a_worked_example() -> None:
    """IoU 1/3: 10 of 20 pixels overlap. A weak detection at the annotated place agrees with 0.2."""
    moved = [20.0, 10.0, 20.0, 20.0]
    (one,) = suggest([(0, "cat", HERE)], [(0, "cat", moved, 0.8), (0, "cat", HERE, 0.2)])
    assert (one.kind, one.annotation) == ("badly placed", 0)
    assert one.score == pytest.approx(0.8 * 0.8)
    assert (one.old, one.new) == (Label(CAT, tuple(HERE)), Label(CAT, tuple(moved)))


def test_a_detection_between_two_objects_says_less_of_one() -> None:
    """Each 20 pixels wide, the detection halfway over both: IoU 1/3 with each."""
    objects = [(0, "cat", HERE), (0, "cat", [30.0, 10.0, 20.0, 20.0])]
    (one,) = suggest(objects, [(0, "cat", [20.0, 10.0, 20.0, 20.0], 0.9)])
    assert (one.kind, one.score) == ("badly placed", pytest.approx(0.9 * 2 / 3))


def test_duplicates_need_no_model() -> None:
    """20 x 20 and 19 x 20 pixels at one place: IoU 0.95. Of three, two are too many. Another class is none."""
    smaller = [10.0, 10.0, 19.0, 20.0]
    first, second = suggest([(0, "cat", HERE), (0, "cat", smaller), (0, "cat", HERE), (0, "dog", HERE)], [])
    assert [(one.kind, one.annotation, one.twin) for one in (first, second)] == [
        ("duplicate", 2, 0),
        ("duplicate", 1, 0),
    ]
    assert (first.score, second.score) == (1, pytest.approx(0.95))
    assert (second.old, second.new, second.confidence) == (Label(CAT, tuple(smaller)), None, None)
    assert suggest([(0, "cat", HERE), (1, "cat", HERE)], [], num_images=2) == []


def test_each_kind_is_found_first_among_clean_images() -> None:
    """A planted error of each kind, and 20 clean images: four suggestions, by score."""
    clean = [(image, "cat", HERE) for image in range(4, 24)]
    planted = [(1, "cow", THERE), (2, "cat", HERE), (3, "dog", THERE), (3, "dog", THERE)]
    found = [
        *((image, "cat", HERE, 0.6) for image in range(4, 24)),
        (0, "cow", FAR, 0.95),
        (1, "dog", THERE, 0.9),
        (2, "cat", [20.0, 10.0, 20.0, 20.0], 0.85),
        (3, "dog", THERE, 0.7),
    ]
    suggestions = suggest(clean + planted, found, num_images=24)
    assert [(one.kind, one.image_id) for one in suggestions] == [
        ("duplicate", 3),
        ("overlooked", 0),
        ("swapped", 1),
        ("badly placed", 2),
    ]


def test_a_crowd_is_no_annotation_and_hides_what_is_in_it() -> None:
    crowd = (0, "cat", [0.0, 0.0, 100.0, 100.0], 1)
    assert suggest([crowd], [(0, "cat", HERE, 0.9)]) == []
    assert [one.kind for one in suggest([crowd], [(0, "dog", HERE, 0.9)])] == ["overlooked"]


def test_one_object_is_overlooked_once() -> None:
    near = [151.0, 60.0, 30.0, 30.0]
    (one,) = suggest([], [(0, "cow", near, 0.6), (0, "cat", FAR, 0.7)])
    assert one.new == Label(CAT, tuple(FAR))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 1))
def test_suggestions_are_ranked_and_about_one_annotation_each(seed: int, threshold: float) -> None:
    truth, detections = random_scene(seed, crowds=0.2)
    suggestions = find_suggestions(truth, detections, range(len(CLASSES)), threshold)
    scores = [one.score for one in suggestions]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    doubted = [one.annotation for one in suggestions if one.annotation is not None]
    assert len(set(doubted)) == len(doubted)
    for one in suggestions:
        assert one.kind in SUGGESTION_KINDS
        assert one.confidence is None or one.confidence >= max(threshold, one.score)
        if one.old is not None:
            annotation = truth["annotations"][one.annotation]
            assert (annotation["image_id"], annotation["iscrowd"]) == (one.image_id, 0)
            assert one.old == Label(annotation["category_id"], tuple(annotation["bbox"]))


def test_removed_annotations_of_coco_are_found_again() -> None:
    """100 images of COCO, detected as annotated: without every fifth annotation, these are overlooked, no other."""
    truth, detections = golden()
    kept = [one for one in truth["annotations"] if not one["iscrowd"]]
    sure = [{**one, "score": 0.9} for one in kept]
    detections = type(detections).from_results(sure)
    categories = [one["id"] for one in truth["categories"]]
    before = find_suggestions({**truth, "annotations": kept}, detections, categories, 0.5)
    removed = kept[::5]
    fewer = {**truth, "annotations": [one for row, one in enumerate(kept) if row % 5]}
    after = find_suggestions(fewer, detections, categories, 0.5)
    assert {one.kind for one in before} <= {"duplicate"}
    boxes = {(one["image_id"], *np.round(one["bbox"], 6)) for one in removed}
    overlooked = {(one.image_id, *np.round(one.new.box_xywh, 6)) for one in after if one.kind == "overlooked"}
    assert overlooked <= boxes
    assert len(overlooked) > 0.7 * len(removed)
