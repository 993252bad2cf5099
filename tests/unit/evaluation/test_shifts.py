import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.shifts import Consistency, Shifted, compare_detections, summarise


class BrightestPixel(nn.Module):
    """Finds the brightest pixel: a detector that is equivariant to shifts."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        place = images.sum(1).flatten(1).argmax(1)
        boxes = torch.stack([place % width / width, place // width / height, *2 * [torch.full(place.shape, 0.1)]], 1)
        return {"pred_boxes": boxes[:, None], "pred_logits": torch.zeros(len(images), 1, 1)}


@pytest.mark.parametrize("pixels", [0, 1, 5])
def test_boxes_are_moved_back(pixels: int) -> None:
    images = torch.zeros(2, 3, 20, 16)
    images[0, :, 4, 6] = images[1, :, 0, 3] = 1
    network = BrightestPixel()
    still, moved = network(images), Shifted(network, pixels)(images)
    torch.testing.assert_close(moved["pred_boxes"][0], still["pred_boxes"][0])
    torch.testing.assert_close(moved["pred_boxes"][0, 0], torch.tensor([6 / 16, 4 / 20, 0.1, 0.1]))
    assert moved["pred_logits"].shape == (2, 1, 1)


def detections(*rows: tuple[int, int, float, float]) -> Detections:
    """Boxes of 100 x 100 pixels: image, class, left edge, score."""
    return Detections.from_results(
        [{"image_id": i, "category_id": c, "bbox": [x, 0, 100, 100], "score": s} for i, c, x, s in rows]
    )


def test_a_detection_is_kept_with_its_class_and_place() -> None:
    still = detections((1, 1, 0, 0.9), (1, 2, 0, 0.8), (2, 1, 0, 0.7), (2, 1, 300, 0.6), (2, 1, 600, 0.1))
    moved = detections(
        (1, 1, 4, 0.7),  # IoU 96 / 104: kept
        (1, 3, 0, 0.8),  # another class
        (2, 1, 6, 0.7),  # IoU 94 / 106 = 0.887: not kept
        (2, 1, 300, 0.55),
    )
    assert compare_detections(still, moved, 0.5) == Consistency(0.5, pytest.approx((0.2 + 0.05) / 2))
    assert compare_detections(still, still, 0.5) == Consistency(1.0, 0.0)


def test_a_shifted_detection_serves_one_pair() -> None:
    still = detections((1, 1, 0, 0.6), (1, 1, 1, 0.9))
    assert compare_detections(still, detections((1, 1, 0, 0.9)), 0.5) == Consistency(0.5, 0.0)


def test_without_detections_nothing_is_kept_or_lost() -> None:
    some = detections((1, 1, 0, 0.9))
    assert compare_detections(Detections.none(), some, 0.5) == Consistency(None, None)
    assert compare_detections(some, Detections.none(), 0.5) == Consistency(0.0, None)


def test_order_does_not_matter() -> None:
    random = np.random.default_rng(0)
    rows = [
        (int(i), int(c), float(x), float(s))
        for i, c, x, s in zip(*random.integers(0, 4, (2, 60)), 40 * random.random(60), random.random(60), strict=True)
    ]
    moved = [(i, c, x + 3, s) for i, c, x, s in rows]
    expected = compare_detections(detections(*rows), detections(*moved), 0.3)
    shuffled = [rows[i] for i in random.permutation(60)], [moved[i] for i in random.permutation(60)]
    assert compare_detections(*(detections(*part) for part in shuffled), 0.3) == expected


def test_the_summary_names_worst_and_best() -> None:
    summary = summarise([0.4, 0.3, None], [Consistency(0.5, 0.1), Consistency(None, None)])
    assert (summary["AP_worst"], summary["AP_best"]) == (0.3, 0.4)
    assert (summary["kept_mean"], summary["score_change_mean"]) == (0.5, 0.1)
