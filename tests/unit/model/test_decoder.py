"""Detections are as many as are asked for, and end where the image ends."""

from pathlib import Path

import numpy as np
import pytest
import rfdetr.config
import torch
from rfdetr.models.postprocess import PostProcess

from rfdetr_hwd.config.schema import DownsampleSection, ModelSection
from rfdetr_hwd.data.transforms import decoding_sizes
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.model.build import BuiltModel, build_model
from rfdetr_hwd.model.fold import fold_model
from rfdetr_hwd.model.release import load_released, save_rfdetr
from rfdetr_hwd.model.rfdetr import Decoder, build_postprocess

NAMES = ["a", "b", "c"]


def build(**settings: object) -> BuiltModel:
    section = ModelSection(**{"resolution": 64, "pretrain_weights": None, "group_detr": 1, **settings})
    return build_model(section, DownsampleSection(), NAMES)


def count(model: BuiltModel) -> int:
    """Return how many detections the decoder gives for one image."""
    num_queries = model.network.num_queries
    raw = {"pred_logits": torch.rand(1, num_queries, 4), "pred_boxes": torch.rand(1, num_queries, 4)}
    return len(build_postprocess(model.stock)(raw, torch.full((1, 2, 2), 64.0))[0]["scores"])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_queries": 320}, 320),  # upstream stays at 300
        ({"num_queries": 12, "num_select": 36}, 36),
        ({"num_queries": 12, "num_select": 5}, 5),
    ],
)
def test_detections_follow_the_queries_unless_they_are_set(settings: dict[str, int], expected: int) -> None:
    assert count(build(**settings)) == expected


def test_the_variants_own_number_is_that_of_their_queries() -> None:
    for variant in ("Nano", "Small", "Medium", "Base", "Large"):
        fields = getattr(rfdetr.config, f"RFDETR{variant}Config").model_fields
        assert fields["num_queries"].default == fields["num_select"].default == 300


def test_more_detections_than_pairs_of_query_and_class_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.num_select=37: 12 queries and 3 classes make 36 pairs"):
        build(num_queries=12, num_select=37)


def test_upstreams_predict_of_the_released_model_gives_as_many(tmp_path: Path) -> None:
    save_rfdetr(fold_model(build(num_queries=320)), NAMES, tmp_path / "a.pth")
    found = load_released(tmp_path / "a.pth")._model.predict(np.zeros((50, 70, 3), np.uint8), threshold=0.0)
    assert len(found) == 320


def outputs(boxes_cxcywh: list[list[float]]) -> dict[str, torch.Tensor]:
    """Return outputs with a box for each query, scores falling in that order."""
    logits = torch.full((1, len(boxes_cxcywh), 2), -20.0)
    logits[0, :, 0] = -torch.arange(len(boxes_cxcywh))
    return {"pred_logits": logits, "pred_boxes": torch.tensor([boxes_cxcywh])}


def test_letterboxed_boxes_are_clipped_to_the_image_by_hand() -> None:
    # 100 x 50 in a square of 100: the lower half is filled. One box within, one over the edges, one in the filling.
    sizes = decoding_sizes(50, 100, 64, "letterbox")[None]
    torch.testing.assert_close(sizes, torch.tensor([[[100.0, 100.0], [50.0, 100.0]]]))
    boxes = [[0.5, 0.25, 0.2, 0.2], [0.9, 0.5, 0.4, 0.6], [0.5, 0.8, 0.2, 0.2]]
    (result,) = Decoder(3)(outputs(boxes), sizes)
    expected = torch.tensor([[40.0, 15, 60, 35], [70, 20, 100, 50], [40, 50, 60, 50]])
    torch.testing.assert_close(result["boxes"], expected)


def test_stretched_boxes_are_upstreams_to_the_bit() -> None:
    torch.manual_seed(0)
    raw = {"pred_logits": torch.randn(2, 40, 4), "pred_boxes": torch.rand(2, 40, 4) * 1.2}
    images = [(131, 77), (64, 480)]
    expected = PostProcess(num_select=60)(raw, torch.tensor(images))
    sizes = torch.stack([decoding_sizes(*image, 64, "stretch") for image in images])
    for ours, theirs in zip(Decoder(60)(raw, sizes), expected, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ("boxes", "scores", "labels"))
