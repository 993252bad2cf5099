"""The built-in dataset is the same for everyone, and has what it promises."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.curation.shapes import CLASS_NAMES, ShapesSpec, draw_scene, write_shapes
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.read import read_split


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    spec = ShapesSpec(train=3, valid=1, test=1)
    for name in ("a", "b"):
        write_shapes(tmp_path / name, spec)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_it_has_every_class_and_size(tmp_path: Path) -> None:
    write_shapes(tmp_path, ShapesSpec(train=60, valid=1, test=1))
    data = read_split(find_layout(tmp_path).split("train"))
    assert data.class_names == CLASS_NAMES
    assert set(data.labels) == set(range(len(CLASS_NAMES)))
    small, large = (data.areas < 32**2).mean(), (data.areas > 96**2).mean()
    assert small > 0.02
    assert large > 0.1
    assert json.loads((tmp_path / "train" / "_annotations.coco.json").read_text())["categories"][0]["id"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_boxes_enclose_what_is_drawn(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rfdetr_hwd.curation.shapes._background", lambda rng, spec: PIL.Image.new("RGB", (spec.width, spec.height))
    )
    image, objects = draw_scene(np.random.default_rng(seed), ShapesSpec(max_objects=1))
    rows, columns = np.nonzero(np.asarray(image).max(axis=2) > 60)
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    x, y, width, height = objects[0]["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], drawn, atol=1.5)
