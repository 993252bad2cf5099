import numpy as np

from tests.unit.analysis.scenes import matched, scene


def test_pairs_are_those_of_one_image_with_an_iou_from_a_tenth_on() -> None:
    """Boxes of 10 x 10 that are moved by 5 overlap by a third, moved by 9 by a nineteenth."""
    objects = [
        (1, "dog", [5.0, 0.0, 10.0, 10.0]),
        (0, "cat", [0.0, 0.0, 10.0, 10.0]),
        (0, "dog", [5.0, 0.0, 10.0, 10.0]),
        (0, "cat", [9.0, 0.0, 10.0, 10.0]),
        (0, "cat", [0.0, 0.0, 10.0, 10.0], 1),
    ]
    found = [(0, "dog", [0.0, 0.0, 10.0, 10.0], 0.5), (0, "cow", [80.0, 0.0, 10.0, 10.0], 0.7)]
    _, overlaps = matched(*scene(objects, found, num_images=2))
    assert overlaps.objects.annotation.tolist() == [1, 2, 3, 0]  # by image; the crowd is no object
    assert overlaps.objects.category.tolist() == [0, 1, 0, 1]
    assert overlaps.detection.tolist() == [0, 0]
    assert overlaps.object.tolist() == [0, 1]
    assert np.allclose(overlaps.iou, [1, 1 / 3])
    assert overlaps.same_class.tolist() == [False, True]
    assert overlaps.objects.rows(np.array([0, 4, 2, -1])).tolist() == [3, -1, 1, -1]
    best, iou = overlaps.best(overlaps.same_class)
    assert best.tolist() == [1, -1]
    assert np.allclose(iou, [1 / 3, 0])


def test_there_may_be_nothing() -> None:
    for objects, found in (([], []), ([(0, "cat", [0.0, 0.0, 9.0, 9.0])], []), ([], [(0, "cat", [0.0] * 4, 0.5)])):
        _, overlaps = matched(*scene(objects, found))
        assert len(overlaps.iou) == 0
        assert overlaps.objects.boxes_xywh.shape == (len(objects), 4)
