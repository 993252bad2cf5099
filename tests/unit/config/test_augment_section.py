"""A preset decides what is not set, a run records every part, and an earlier run keeps its augmentation."""

from typing import Any

import pytest

from rfdetr_hwd.config.augmentation import PRESETS, AugmentSection
from rfdetr_hwd.config.changes import check_changes
from rfdetr_hwd.config.load import parse_config, parse_recorded
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import ConfigError

ON_PROBABILITIES = ("flip", "vertical_flip", "turn", "crop", "scale", "rotate", "colour", "mosaic", "mixup")


def config(*overrides: str, **augment: Any) -> Config:
    return parse_config({"data": {"root": "x", "augment": augment}, "output": {"dir": "y"}}, overrides)


def is_on(section: AugmentSection) -> set[str]:
    return {name for name in ON_PROBABILITIES if getattr(section, name) > 0}


def test_the_parts_of_each_preset() -> None:
    parts = {preset: is_on(AugmentSection.model_validate({"preset": preset})) for preset in PRESETS}
    light, standard = {"flip", "crop"}, {"flip", "crop", "scale", "rotate", "colour"}
    assert parts == {
        "none": set(),
        "light": light,
        "standard": standard,
        "strong": {*standard, "mosaic", "mixup"},
        "aerial": {*light, "vertical_flip", "turn"},
    }
    assert AugmentSection() == AugmentSection(preset="light", flip=0.5, crop=0.5, min_crop=0.6)


def test_a_key_that_is_set_wins_and_all_are_recorded() -> None:
    section = config(preset="strong", mosaic=0.2, flip=0.0).data.augment
    assert (section.mosaic, section.flip, section.mixup, section.unmixed_epochs) == (0.2, 0.0, 0.1, 10)
    recorded = config(preset="strong", mosaic=0.2, flip=0.0).model_dump(mode="json")
    assert recorded["data"]["augment"].keys() == AugmentSection.model_fields.keys()
    assert parse_recorded(recorded).data.augment == section


def test_a_preset_of_the_command_line_replaces_the_section() -> None:
    section = config("data.augment.crop=0.3", "data.augment.preset=aerial", preset="standard", flip=0.1).data.augment
    assert section == AugmentSection(preset="aerial", vertical_flip=0.5, turn=0.75, crop=0.3)


def test_an_earlier_record_is_light_with_its_own_values() -> None:
    values = {"data": {"root": "x", "augment": {"flip": 0.2, "crop": 0.5, "min_crop": 0.7}}, "output": {"dir": "y"}}
    assert parse_recorded(values).data.augment == AugmentSection(flip=0.2, min_crop=0.7)
    assert parse_recorded({"data": {"root": "x"}, "output": {"dir": "y"}}).data.augment == AugmentSection()


def test_an_accepted_preset_brings_its_parts() -> None:
    recorded, wanted = config(), config("data.augment.preset=standard")
    with pytest.raises(ConfigError, match=r"data.augment.preset .*--accept data.augment.preset"):
        check_changes(recorded, wanted, [])
    assert check_changes(recorded, wanted, ["data.augment.preset"]) == {
        f"data.augment.{name}" for name in ("preset", "scale", "rotate", "colour")
    }


def test_the_number_of_epochs_decides_which_ones_are_without_mosaic() -> None:
    recorded = config(preset="strong")
    with pytest.raises(ConfigError, match="unmixed_epochs=10: this would change which epochs are without mosaic"):
        check_changes(recorded, config("train.epochs=120", preset="strong"), [])
    assert check_changes(recorded, config("train.epochs=120", preset="strong"), ["train.epochs"]) == {"train.epochs"}
    for free in ({"preset": "strong", "unmixed_epochs": 0}, {"preset": "standard", "unmixed_epochs": 3}):
        assert check_changes(config(**free), config("train.epochs=120", **free), []) == {"train.epochs"}
    with pytest.raises(ConfigError, match="unmixed_epochs 10 leaves no epoch of 8"):
        config("train.epochs=8", preset="strong")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("preset=hard", "data.augment.preset = 'hard'.*'none', 'light', 'standard', 'strong' or 'aerial'"),
        ("preset=[strong]", "data.augment.preset"),
        ("rotat=1", "unknown key; the nearest known key is data.augment.rotate"),
        ("mosaic=2", "data.augment.mosaic = 2"),
        ("max_angle=true", "must not be true"),
    ],
)
def test_wrong_values_are_named(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(f"data.augment.{key}")
