"""Images are held out of training by class, look-alikes together, and a run finds the very same ones again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rfdetr_hwd.checkpoint.schema import DataIdentity, Record
from rfdetr_hwd.config.load import parse_config
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_data, find_layout, read_options
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.holdout import HeldOut, choose_held_out, divide_equally, part_held_out
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.training import validation_split as run_data
from rfdetr_hwd.training.data import read_data
from rfdetr_hwd.training.validation_split import read_as_trained, read_validation
from tests.unit.checkpoint.records import RECORD
from tests.unit.curation.test_split import write
from tests.unit.data.voc_files import boxes_of

Configure = Callable[..., Config]


@pytest.fixture
def configure(shapes_root: Path, tmp_path: Path) -> Configure:
    """A configuration on the training images of the built-in dataset alone."""
    shutil.copytree(shapes_root / "train", tmp_path / "single" / "train")

    def configured(**data: object) -> Config:
        settings = {"root": str(tmp_path / "single"), "val_fraction": 0.25, **data}
        return parse_config({"data": settings, "output": {"dir": "x"}})

    return configured


def whole(root: Path) -> DetectionData:
    return read_split(find_layout(root).split("train"))


def test_classes_are_divided_and_look_alikes_are_on_one_side(tmp_path: Path) -> None:
    data = whole(write(tmp_path))
    held_out = choose_held_out(data, 0.25, 0)
    assert held_out == choose_held_out(data, 0.25, 0)
    assert held_out.image_ids != choose_held_out(data, 0.25, 1).image_ids
    train, val = part_held_out(data, held_out)
    assert (len(train), len(val)) == (34, 11)
    assert boxes_of(train) | boxes_of(val) == boxes_of(data)
    assert not boxes_of(train).keys() & boxes_of(val).keys()
    for first in range(5):  # images 100 to 104 and 140 to 144 show the same
        assert (100 + first in held_out.image_ids) == (140 + first in held_out.image_ids)
    for label in range(2):
        images = [
            len({*np.repeat(np.arange(len(part)), part.objects_per_image())[part.labels == label]})
            for part in (train, val)
        ]
        assert abs(images[1] - 0.25 * sum(images)) <= 1.5
    assert len({train.fingerprint, val.fingerprint, data.fingerprint}) == 3


@pytest.mark.parametrize(("fraction", "number"), [(0.5, 2), (0.33, 3), (0.2, 5)])
def test_equal_parts_hold_each_image_once(fraction: float, number: int, tmp_path: Path) -> None:
    data = whole(write(tmp_path))
    parts = divide_equally(data, fraction, 0)
    assert parts == divide_equally(data, fraction, 0)
    assert parts != divide_equally(data, fraction, 1)
    assert [part.part for part in parts] == list(range(1, number + 1))
    assert sorted(sum((part.image_ids for part in parts), ())) == data.image_ids.tolist()
    assert max(abs(len(part.image_ids) - 45 / number) for part in parts) <= 2
    for first in range(5):  # images 100 to 104 and 140 to 144 show the same
        assert len({part.part for part in parts if {100 + first, 140 + first} & {*part.image_ids}}) == 1
    for label in range(2):
        with_class = {*np.repeat(data.image_ids, data.objects_per_image())[data.labels == label].tolist()}
        counts = [len(with_class & {*part.image_ids}) for part in parts]
        assert max(counts) - min(counts) <= 2
    assert choose_held_out(data, fraction, 0, part=2) == parts[1]


def test_more_parts_than_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="2 images of train, .* cannot be divided into 5 parts: 3 would be empty"):
        divide_equally(whole(write(tmp_path, 2, 0)), 0.2, 0)


def test_an_image_that_cannot_be_read_is_on_one_side_and_stops_nothing(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "train/0.png").write_bytes(b"no image")
    train, val = part_held_out(whole(root), choose_held_out(whole(root), 0.25, 0))
    assert len(train) + len(val) == 45


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"data.val_fraction=0.1: 2 images of train, with 0 groups .* 0 would be held out"
    ):
        choose_held_out(whole(write(tmp_path, 2, 0)), 0.1, 0)


def test_a_part_without_any_object_is_refused(tmp_path: Path) -> None:
    data = whole(write(tmp_path, 12, 0))  # images 100 and 110 have no object
    with pytest.raises(DatasetError, match="the 2 images of train .held out. have no object"):
        part_held_out(data, HeldOut(0.2, 0, "", (100, 110)))


def test_a_run_finds_the_same_images_again_without_comparing_any(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_data(configure())
    assert (len(first.train), len(first.val)) == (18, 6)
    assert first.held_out is not None
    written = RECORD.model_copy(update={"held_out": first.held_out}).model_dump(mode="json")
    del written["held_out"]["part"]  # as before there were parts
    record = Record.model_validate_json(json.dumps(written))
    checkpoint = SimpleNamespace(record=record, path="run", run=Path("run"))
    monkeypatch.setattr(run_data, "choose_held_out", lambda *_: pytest.fail("the images are compared again"))
    again = read_data(configure(), first.held_out)
    assert (again.train.fingerprint, again.val.fingerprint) == (first.train.fingerprint, first.val.fingerprint)
    measured = read_validation(configure().data, checkpoint)
    assert measured.fingerprint == first.val.fingerprint
    assert measured.image_ids.tolist() == sorted(first.held_out.image_ids)
    settings = configure().data
    trained_on = read_as_trained(settings, checkpoint, find_data(settings), "train")
    assert trained_on.fingerprint == first.train.fingerprint


def test_images_that_were_trained_on_are_not_measured(configure: Configure, shapes_root: Path) -> None:
    config = configure()
    held_out = read_data(config).held_out
    assert held_out is not None
    run = SimpleNamespace(record=RECORD.model_copy(update={"held_out": held_out}), path="run", run=Path("run"))
    with pytest.raises(ConfigError, match="run held images out with data.val_fraction=0.25, data.val_seed=0. It"):
        read_validation(configure(val_seed=1).data, run)
    with pytest.raises(ConfigError, match="the training of run held out nothing"):
        read_validation(config.data, SimpleNamespace(record=RECORD, path="run", run=Path("run")))
    with pytest.raises(ConfigError, match=r"has a validation split, valid. To use it, set data.val_fraction=null"):
        read_validation(configure(root=str(shapes_root)).data, run)
    annotations = Path(config.data.root) / "train/_annotations.coco.json"
    annotations.write_text(annotations.read_text() + " ")
    with pytest.raises(DatasetError, match="is not the dataset that run held its validation images out of"):
        read_validation(config.data, run)
    assert len(read_validation(configure(val_fraction=None, val="train").data, run)) == 24


def test_a_part_is_held_out_beside_a_validation_split_and_found_again(configure: Configure, shapes_root: Path) -> None:
    runs = [read_data(configure(root=str(shapes_root), val_part=part)) for part in (1, 2, 3, 4)]
    everything = read_split(find_layout(shapes_root).split("train")).image_ids
    assert sorted(sum((run.val.image_ids.tolist() for run in runs), [])) == sorted(everything.tolist())
    for run in runs:
        assert not {*run.train.image_ids} & {*run.val.image_ids}
        assert len(run.train) + len(run.val) == 24
    second = configure(root=str(shapes_root), val_part=2)
    record = Record.model_validate_json(RECORD.model_copy(update={"held_out": runs[1].held_out}).model_dump_json())
    checkpoint = SimpleNamespace(record=record, path="run", run=Path("run"))
    assert read_validation(second.data, checkpoint).fingerprint == runs[1].val.fingerprint
    with pytest.raises(ConfigError, match="held images out with .*, data.val_part=2. It trained on other images"):
        read_validation(configure(root=str(shapes_root), val_part=1).data, checkpoint)


def test_a_split_that_is_not_the_training_s_is_said(
    configure: Configure, shapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = configure(val_fraction=None, root=str(shapes_root)).data
    val = read_split(find_data(settings).split("val"), (), read_options(settings))
    same = DataIdentity(images=len(val), boxes=len(val.labels), sha256=val.fingerprint)
    for identity, said in (
        (same, ""),
        (
            same.model_copy(update={"images": 7, "sha256": "other"}),
            f"valid: the annotations or images of {shapes_root} are not those of the training (7 images with "
            f"{len(val.labels)} objects then, {len(val)} with {len(val.labels)} now)\n",
        ),
    ):
        record = RECORD.model_copy(update={"validation_data": identity})
        read_validation(settings, SimpleNamespace(record=record, path="run", run=Path("run")))
        assert capsys.readouterr().out == said


def test_a_dataset_with_a_validation_split_is_refused(configure: Configure, shapes_root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.val_fraction: .* has a validation split, valid"):
        read_data(configure(root=str(shapes_root)))
    with pytest.raises(ConfigError, match=r"data.val_fraction: .* has a validation split, train"):
        read_data(configure(val="train"))
