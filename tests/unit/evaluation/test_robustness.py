"""Robustness by numbers worked out by hand: a strided detector that is shifted, and AP that is given."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.config.robustness import Robustness, read_robustness
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.batch import Batch, PackedTargets
from rfdetr_hwd.data.corruptions import KINDS, Corruption
from rfdetr_hwd.data.dataset import DetectionDataset
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.loader import EvalLoader, Partition
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.workers import Workers
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.evaluation.coco import CocoMetric
from rfdetr_hwd.evaluation.evaluate import PassSize
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.evaluation.robustness import corruption_rows, measure_corruptions, measure_robustness, shift_rows

SIDE = 32


class Strided(nn.Module):
    """Finds the brightest pixel, as a box of 10 x 10 pixels that begins at an even pixel. Its score is 0.9."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        place = images.sum(1).flatten(1).argmax(1)
        corners = torch.stack([place % SIDE, place // SIDE], 1) // 2 * 2
        boxes_cxcywh = torch.cat([corners + 5, torch.full_like(corners, 10)], 1) / SIDE
        return {"pred_boxes": boxes_cxcywh[:, None], "pred_logits": torch.full((len(images), 1, 1), 0.9)}


class Decode(nn.Module):
    """Turns the outputs into boxes in pixels."""

    def forward(self, outputs: dict[str, Tensor], sizes: Tensor) -> list[dict[str, Tensor]]:
        boxes = outputs["pred_boxes"] * SIDE
        boxes_xyxy = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], 2)
        pairs = zip(boxes_xyxy, outputs["pred_logits"], strict=True)
        return [{"boxes": b, "scores": s[:, 0], "labels": torch.zeros(len(b), dtype=torch.long)} for b, s in pairs]


class Batches(list):
    resolution = SIDE


@pytest.fixture
def evaluation(tiny_config: Config) -> Evaluation:
    """Two images whose brightest pixels are at (8, 4) and (12, 6), with the objects that a strided detector finds."""
    images = torch.zeros(2, 3, SIDE, SIDE)
    images[0, :, 4, 8] = images[1, :, 6, 12] = 1
    boxes = [[8, 4, 10, 10], [12, 6, 10, 10]]
    truth = {
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in (0, 1)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": box, "area": 100, "iscrowd": 0}
            for i, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "spot"}],
    }
    packed = PackedTargets(torch.zeros(2, dtype=torch.int64), torch.zeros(2, 4), (1, 1))
    sizes = torch.full((2, 2, 2), float(SIDE))
    config = tiny_config.model_copy(update={"train": tiny_config.train.model_copy(update={"amp": False, "seed": 5})})
    return Evaluation(
        loader=Batches([Batch(images, packed, (0, 1), sizes)]),
        metric=CocoMetric(truth, (1,)),
        postprocess=Decode(),
        config=config,
        device=torch.device("cpu"),
        pass_size=PassSize(2),
    )


@pytest.mark.parametrize("is_training", [True, False])
def test_a_strided_detector_loses_odd_shifts(
    evaluation: Evaluation, is_training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An odd shift moves the box by (1, 1) less, so its IoU is 81 / 119 = 0.68: true at 4 thresholds of 10."""
    network = Strided().train(is_training)
    metrics = evaluation.measure(network)
    assert metrics["threshold"] == pytest.approx(0.45)
    lines = []
    # Of shifted images AP alone is wanted, not the thresholds.
    monkeypatch.setattr(CocoMetric, "thresholds", lambda self: pytest.fail("thresholds are computed"))
    found = measure_robustness(
        evaluation, network, metrics, Robustness(shifts=3), lambda name, ap: lines.append((name, ap))
    )
    assert found == {
        "shifts": {
            "threshold": pytest.approx(0.45),  # both scores are 0.9, and the threshold of the best F1 is midway to 0
            "AP": pytest.approx([1, 0.4, 1, 0.4]),
            "kept": [0, 1, 0],
            "AP_worst": pytest.approx(0.4),
            "AP_best": pytest.approx(1),
            "kept_mean": pytest.approx(1 / 3),
            "score_change_mean": 0,
        }
    }
    assert [name for name, _ in lines] == ["shift 1 of 3 px", "shift 2 of 3 px", "shift 3 of 3 px"]
    assert [ap for _, ap in lines] == found["shifts"]["AP"][1:]
    assert shift_rows(found["shifts"])[1] == ("1 px", "0.4000", "0.0000")
    assert shift_rows(found["shifts"])[-1] == ("all", "0.4000 to 1.0000", "0.3333")
    # The evaluation keeps what it found without a shift.
    assert evaluation.metric.detections.boxes_xywh.tolist() == [[8, 4, 10, 10], [12, 6, 10, 10]]
    assert network.training == is_training


def test_nothing_is_measured_that_is_not_wanted(evaluation: Evaluation) -> None:
    assert (
        measure_robustness(evaluation, Strided(), {"AP": 0.5}, Robustness(), lambda *_: pytest.fail("measured")) == {}
    )


class Given:
    """An evaluation with a known AP for each corruption: 0.8 / severity, and none of brightness."""

    config = SimpleNamespace(train=SimpleNamespace(seed=3))

    def __init__(self, ap: float | None = None) -> None:
        self.ap = ap

    def corrupted(self, corruption: Corruption) -> "Given":
        assert corruption.seed == 3
        return Given(0.0 if corruption.kind == "brightness" else 0.8 / corruption.severity)

    def measure(self, network: nn.Module) -> dict[str, float | None]:
        return {"AP": self.ap}


def test_corruptions_are_averaged_over_severities_then_kinds() -> None:
    lines = []
    found = measure_corruptions(Given(), Strided(), 0.7, (1, 4), lambda name, ap: lines.append((name, ap)))
    assert found["AP"]["contrast"] == {"1": 0.8, "4": 0.2}
    assert found["mPC"] == pytest.approx(0.5 * 7 / 8)
    assert found["rPC"] == pytest.approx(0.5 * 7 / 8 / 0.7)
    assert found["seed"] == 3
    assert lines[:2] == [("gaussian_noise 1", 0.8), ("gaussian_noise 4", 0.2)]
    assert len(lines) == 2 * len(KINDS)
    assert corruption_rows(found)[0] == ("gaussian_noise", "0.8000", "0.2000")
    assert measure_corruptions(Given(), Strided(), 0.0, (1,), lambda *_: None)["rPC"] is None


def test_a_corruption_depends_on_seed_and_image_alone(shapes_root: Path, evaluation: Evaluation) -> None:
    """Not on the batch size, and not on the data loader workers."""
    data = read_split(find_layout(shapes_root).split("val"))

    def images(batch_size: int, workers: int, seed: int = 5) -> dict[int, Tensor]:
        loader = EvalLoader(DetectionDataset(data), SIDE, batch_size, Workers(workers, 60), Partition(), print)
        clean = Evaluation(**{**vars(evaluation), "loader": loader})
        corrupted = clean.corrupted(Corruption("gaussian_noise", 3, seed))
        assert all(key.corruption is None for batch in loader.batches for key in batch)
        return {i: image for batch in corrupted.loader for i, image in zip(batch.image_ids, batch.images, strict=True)}

    expected = images(3, 0)
    assert len(expected) == len(data)
    for batch_size, workers in ((1, 0), (8, 1), (3, 2)):
        found = images(batch_size, workers)
        assert all(torch.equal(found[image_id], image) for image_id, image in expected.items())
    other = images(3, 0, seed=6)
    assert not any(torch.equal(other[image_id], image) for image_id, image in expected.items())


def test_options_ask_for_robustness() -> None:
    assert read_robustness(32, True, "5,1").model_dump() == {"shifts": 32, "corruptions": True, "severities": (1, 5)}
    assert read_robustness(0, True, None).severities == (1, 2, 3, 4, 5)
    for severities in ("0,9", "6", "", "1,", "1,1", "one", "1.5", "true"):
        with pytest.raises(ConfigError, match="give different numbers from 1 to 5, such as 1,3,5"):
            read_robustness(0, True, severities)
    with pytest.raises(ConfigError, match="no effect without --corruptions"):
        read_robustness(8, False, "1")
