"""Targets are packed and unpacked without loss, and a batch is split and joined with its images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.data.batch import Batch, PackedTargets, join


def build_batch(counts: list[int]) -> Batch:
    """Return 8-bit images that are numbered, with so many objects each, letterboxed to 2 rows of 4."""
    numbers = torch.arange(len(counts), dtype=torch.uint8).view(-1, 1, 1, 1)
    targets = [
        {"labels": torch.full((count,), row), "boxes": torch.full((count, 4), row / 10)}
        for row, count in enumerate(counts)
    ]
    fitted = ((2, 4),) * len(counts)
    ids = tuple(range(len(counts)))
    return Batch(
        numbers.expand(-1, 3, 4, 4), PackedTargets.pack(targets), ids, torch.zeros(len(ids), 2, 2), fitted=fitted
    )


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=7), size=st.integers(1, 8))
@settings(deadline=None)
def test_parts_of_a_batch_are_its_images_with_their_objects(counts: list[int], size: int) -> None:
    batch = build_batch(counts)
    assert [len(target["labels"]) for target in batch.targets] == counts
    parts = batch.split(size)
    assert [len(part.image_ids) for part in parts[:-1]] == [size] * (len(parts) - 1)
    for part in parts:
        assert len(part.images) == len(part.targets) == len(part.sizes) == len(part.fitted) == len(part.image_ids)
        for image_id, image, target in zip(part.image_ids, part.images, part.targets, strict=True):
            assert (image == image_id).all()
            assert target["labels"].tolist() == [image_id] * counts[image_id]
            assert torch.equal(target["boxes"], torch.full((counts[image_id], 4), image_id / 10))
    whole = join(parts)
    assert (whole.image_ids, whole.packed.counts, whole.fitted) == (batch.image_ids, tuple(counts), batch.fitted)
    assert torch.equal(whole.images, batch.images)
    assert torch.equal(whole.packed.boxes, batch.packed.boxes)


def test_a_batch_is_normalised_where_it_goes_and_once() -> None:
    batch = build_batch([1, 0]).to(torch.device("cpu"))
    assert batch.images.dtype == torch.float32
    assert batch.images[1, 0, 0, 0].item() == pytest.approx((1 / 255 - 0.485) / 0.229)
    assert (batch.images[:, :, 2:] == 0).all()
    assert torch.equal(batch.to(torch.device("cpu")).images, batch.images)
