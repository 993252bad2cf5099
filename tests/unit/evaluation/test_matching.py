"""Matches are COCO's, pair by pair, and worked examples."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.evaluation import greedy
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import AREAS, IOU_THRESHOLDS, Matches, MatchingError, match
from tests.unit.comparison.detectors import detect, jitter, make_truth
from tests.unit.evaluation.random_sets import evaluate_with_coco, random_set
from tests.unit.evaluation.simple_matching import match_one_by_one


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 100]))
def test_every_pair_matches_as_in_pycocotools(seed: int, max_dets: int) -> None:
    truth, detections = random_set(seed)
    matches = match(truth, detections, max_dets)
    annotation_ids = np.array([0, *(annotation["id"] for annotation in truth["annotations"])])
    reference = evaluate_with_coco(truth, detections, max_dets)
    expected = iter(reference.evalImgs)  # by class, area range and image
    for category in range(3):
        for area in range(4):
            for image in range(len(matches.image_ids)):
                pair = next(expected) or {"dtIds": [], "gtIgnore": np.ones(0)}
                rows = (matches.category == category) & (matches.image == image)
                assert (matches.detection[rows] + 1).tolist() == pair["dtIds"]
                assert matches.rank[rows].tolist() == list(range(len(pair["dtIds"])))
                assert matches.num_ground_truth[area, category, image] == (pair["gtIgnore"] == 0).sum()
                if pair["dtIds"]:
                    assert np.array_equal(matches.matched[area][:, rows], pair["dtMatches"] > 0)
                    assert np.array_equal(matches.ignored[area][:, rows], pair["dtIgnore"])
                    if area == 0:
                        assert np.array_equal(annotation_ids[matches.ground_truth[:, rows] + 1], pair["dtMatches"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 2, 100]), st.booleans(), st.integers(1, 12))
def test_all_at_once_matches_as_one_by_one(seed: int, max_dets: int, tied: bool, num_images: int) -> None:
    """Every array to the bit, the detections in any order."""
    truth, detections = random_set(seed, num_images, tied)
    detections = detections[np.random.default_rng(seed).permutation(len(detections))]
    expected, found = match_one_by_one(truth, detections, max_dets), match(truth, detections, max_dets)
    few = match(truth, detections, max_dets, IOU_THRESHOLDS[3:5], AREAS[:2])
    for field in fields(Matches):
        value, reference = getattr(found, field.name), getattr(expected, field.name)
        assert np.array_equal(value, reference), field.name
        assert field.name == "class_names" or (value.dtype, value.shape) == (reference.dtype, reference.shape)
    assert np.array_equal(few.matched, expected.matched[:2, 3:5])
    assert np.array_equal(few.ignored, expected.ignored[:2, 3:5])
    assert np.array_equal(few.ground_truth, expected.ground_truth[3:5])
    assert np.array_equal(few.num_ground_truth, expected.num_ground_truth[:2])


def test_a_crowded_scene_matches_as_one_by_one() -> None:
    """Many detections of one class in each image, near many objects, in several chunks of comparisons."""
    truth = make_truth(0, 12, objects=80)
    truth["annotations"] = [{**a, "category_id": 1, "iscrowd": int(a["id"] % 9 == 0)} for a in truth["annotations"]]
    found = Detections.concatenate([jitter(detect(truth, seed), seed, 3.0) for seed in range(4)])
    found = Detections(found.image_ids, np.ones_like(found.category_ids), found.boxes_xywh, found.scores.round(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greedy, "_CHUNK", 1000)
        matches = match(truth, found)
    expected = match_one_by_one(truth, found)
    assert matches.matched[0, 0].sum() > 300
    assert matches.rank.max() == 99
    for field in fields(Matches):
        assert np.array_equal(getattr(matches, field.name), getattr(expected, field.name)), field.name


def one_image(*annotations: dict) -> dict:
    defaults = {"image_id": 5, "category_id": 1, "iscrowd": 0}
    return {
        "images": [{"id": 5, "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "area": a["bbox"][2] * a["bbox"][3], **defaults, **a} for i, a in enumerate(annotations, 1)
        ],
    }


def found(*boxes: list[float], scores: list[float], category: int = 1) -> Detections:
    size = len(boxes)
    return Detections(np.full(size, 5), np.full(size, category), np.array(boxes, float), np.array(scores))


def test_a_ground_truth_is_matched_once_and_a_crowd_again_and_again() -> None:
    box = [0.0, 0.0, 40.0, 40.0]
    matches = match(one_image({"bbox": box}), found(box, box, scores=[0.5, 0.9]))
    assert matches.score.tolist() == [0.9, 0.5]
    assert matches.matched[0, 0].tolist() == [True, False]
    assert not matches.ignored[0].any()
    crowd = match(one_image({"bbox": box, "iscrowd": 1}), found(box, box, scores=[0.5, 0.9]))
    assert crowd.matched[0].all()
    assert crowd.ignored[0].all()
    assert not crowd.num_ground_truth.any()


def test_iou_of_two_thirds_matches_below_it() -> None:
    matches = match(one_image({"bbox": [0, 0, 40, 40]}), found([8, 0, 40, 40], scores=[0.9]))
    assert matches.matched[0, :, 0].tolist() == [True] * 4 + [False] * 6  # 0.50 to 0.65
    assert matches.ground_truth[:, 0].tolist() == [0] * 4 + [-1] * 6


def test_area_ranges_read_the_annotated_area_and_of_the_unmatched_the_box() -> None:
    truth = one_image({"bbox": [0, 0, 40, 40], "area": 1000.0})  # small, in a box of medium size
    matches = match(truth, found([0, 0, 40, 40], [50, 50, 40, 40], scores=[0.9, 0.8]))
    assert matches.num_ground_truth[:, 0, 0].tolist() == [1, 1, 0, 0]
    assert matches.ignored[:, 0].tolist() == [[False, False], [False, True], [True, False], [True, True]]


def test_detections_of_other_categories_do_not_count_and_of_other_images_are_refused() -> None:
    truth = one_image({"bbox": [0, 0, 40, 40]})
    assert len(match(truth, found([0, 0, 40, 40], scores=[0.9], category=2))) == 0
    strange = Detections(np.array([6]), np.array([1]), np.zeros((1, 4)), np.ones(1))
    with pytest.raises(MatchingError, match="image 6: it has detections, but it is not in the ground truth"):
        match(truth, strange)


@pytest.mark.parametrize("emptied", ["images", "annotations", "categories"])
def test_nothing_to_match(emptied: str) -> None:
    truth = {**one_image({"bbox": [0, 0, 40, 40]}), emptied: []}
    matches = match(truth, Detections.none())
    assert len(matches) == 0
    assert not matches.num_ground_truth.any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_the_order_of_images_classes_and_detections_does_not_matter(seed: int) -> None:
    truth, detections = random_set(seed, tied=False)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(detections))
    shuffled = {**truth, "images": truth["images"][::-1], "categories": truth["categories"][::-1]}
    first, second = match(truth, detections), match(shuffled, detections[order])
    assert np.array_equal(first.detection, order[second.detection])
    for name in ("image_ids", "category_ids", "image", "category", "score", "rank", "matched", "ignored"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert first.class_names == second.class_names == ("c3", "c7", "c90")
