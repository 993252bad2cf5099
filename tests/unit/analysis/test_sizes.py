import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.analysis.sizes import Sizes, measure_sizes, metrics_by_size, read_image_sizes
from rfdetr_hwd.evaluation.weighted_metrics import coco_metrics
from tests.unit.analysis.scenes import matched, random_scene, scene

SMALL, LARGE = [0.0, 0.0, 8.0, 8.0], [100.0, 0.0, 80.0, 80.0]


def sizes_of(truth: dict, detections: object, resize: str = "stretch") -> tuple:
    matches, overlaps = matched(truth, detections)
    return matches, overlaps, measure_sizes(matches, overlaps, read_image_sizes(truth, matches), 400, resize)


def test_sizes_are_those_that_the_model_sees() -> None:
    """An image of 200 x 100 becomes 400 x 400: stretched by 2 and 4, or enlarged twice."""
    dataset = scene([(0, "cat", [0.0, 0.0, 10.0, 20.0])], [(0, "cat", [0.0, 0.0, 40.0, 5.0], 0.5)])
    stretched, letterboxed = sizes_of(*dataset)[2], sizes_of(*dataset, "letterbox")[2]
    assert stretched.objects.tolist() == pytest.approx([np.sqrt(10 * 2 * 20 * 4)])
    assert letterboxed.objects.tolist() == pytest.approx([np.sqrt(20 * 40)])
    assert letterboxed.detections.tolist() == pytest.approx([np.sqrt(80 * 10)])


def test_a_worked_example_in_two_ranges() -> None:
    """The small cat is found behind a wrong box of its size: AP 1/2. Of two large ones one is found: AP 51/101."""
    objects = [(0, "cat", SMALL), (0, "cat", LARGE), (1, "cat", LARGE), (1, "cat", SMALL)]
    found = [
        (0, "cat", [50.0, 50.0, 8.0, 8.0], 0.9),
        (0, "cat", SMALL, 0.8),
        (1, "cat", SMALL, 0.7),
        (0, "cat", LARGE, 0.2),
        (0, "dog", LARGE, 0.95),
    ]
    matches, overlaps, sizes = sizes_of(*scene(objects, found, num_images=2), "letterbox")
    small, large = metrics_by_size(matches, overlaps, sizes)
    assert (small.low, small.high, large.low, large.high) == pytest.approx((16, 160, 160, 160))
    assert (small.num_objects, small.recall, large.num_objects, large.recall) == (2, 1, 2, 0.5)
    assert small.ap == pytest.approx(2 / 3)  # precision 1/2 and 2/3: the best from there on
    assert large.ap == pytest.approx(51 / 101)


def test_a_detection_that_finds_an_object_of_another_range_counts_there() -> None:
    """A box of 8 x 12 finds the object of 8 x 8. It is true among objects of that size."""
    objects = [(0, "cat", SMALL), (0, "cat", [50.0, 0.0, 8.0, 12.0])]
    found = [(0, "cat", [0.0, 0.0, 8.0, 12.0], 0.9), (0, "cat", [50.0, 0.0, 8.0, 12.0], 0.8)]
    matches, overlaps, sizes = sizes_of(*scene(objects, found))
    small, large = metrics_by_size(matches, overlaps, sizes)
    assert (small.recall, large.recall) == (1, 1)
    assert small.ap == pytest.approx(4 / 10)  # IoU 2/3
    assert large.ap == pytest.approx(4 / 10 + 6 / 10 / 2)  # from IoU 0.70 on the first box is wrong


def test_there_may_be_no_objects() -> None:
    assert metrics_by_size(*sizes_of(*scene([], [(0, "cat", SMALL, 0.5)]))) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_ranges_share_the_objects_and_one_range_has_all_metrics(seed: int) -> None:
    matches, overlaps, sizes = sizes_of(*random_scene(seed, crowds=0.2))
    bins = metrics_by_size(matches, overlaps, sizes)
    assert sum(part.num_objects for part in bins) == len(overlaps.objects)
    found = (matches.matched[0, 0] & ~matches.ignored[0, 0]).sum()
    assert sum(part.recall * part.num_objects for part in bins) == pytest.approx(found)
    assert all(first.high == second.low for first, second in zip(bins, bins[1:], strict=False))
    assert all(part.num_objects for part in bins)
    if bins:
        (whole,) = metrics_by_size(matches, overlaps, sizes, num_bins=1)
        assert whole.ap == pytest.approx(coco_metrics(matches, metrics=["AP"])["AP"], abs=1e-12)
        everywhere = Sizes(np.ones_like(sizes.objects), sizes.detections)  # one size: one range
        assert [part.ap for part in metrics_by_size(matches, overlaps, everywhere)] == [whole.ap]
