"""What becomes of a run's state when the run continues with changes; and that the check is against its checkpoint."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.load import parse_config
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.training.resume import carry_over, settle_config
from tests.unit.checkpoint.records import RECORD

STATE = TrainState(
    step=9,
    epoch=1,
    step_in_epoch=3,
    micro_batch=2,
    best_ap=0.5,
    best_step=6,
    best_weights="ema",
    evaluations_since_best=1,
    metrics={"ema/AP": 0.5},
    metrics_step=6,
)


def test_without_a_change_the_state_is_a_copy() -> None:
    state = carry_over(STATE, set())
    assert state == STATE
    assert state is not STATE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"changed": {"train.lr"}}, {}),
        ({"changed": {"train.batch_size"}}, {"step_in_epoch": 0}),
        ({"changed": {"annotations"}}, {"step_in_epoch": 0}),
        ({"changed": {"amp"}}, {"micro_batch": 0}),
        ({"changed": set(), "is_other_world": True}, {"micro_batch": 0}),
        (
            {"changed": set(), "is_remeasured": True},
            {
                **{"best_ap": None, "best_step": 0, "best_weights": "", "evaluations_since_best": 0},
                **{"metrics": {}, "metrics_step": 0},
            },
        ),
    ],
)
def test_a_change_entails_what_it_must_and_no_more(changes: dict, expected: dict) -> None:
    before = replace(STATE)
    assert carry_over(STATE, **changes) == replace(STATE, **expected)
    assert before == STATE


def test_weights_that_were_measured_on_other_images_are_measured_again() -> None:
    assert not carry_over(STATE, set(), is_remeasured=True).is_evaluation_due
    assert carry_over(replace(STATE, metrics_step=9), set(), is_remeasured=True).is_evaluation_due


def config(*overrides: str) -> Config:
    values = {"data": {"root": "data", "bit_depth": 12}, "output": {"dir": "run"}}
    return parse_config(values, overrides)


def test_the_newest_checkpoint_says_what_the_run_is(tmp_path: Path) -> None:
    """config.yaml, which anyone can edit, says it only where there is no checkpoint yet."""
    folder = RunFolder(tmp_path)
    folder.write_config(config("train.lr=1e-3"))
    checkpoint = SimpleNamespace(
        record=RECORD.model_copy(update={"config": config("train.lr=2e-3").model_dump(mode="json")}), path=tmp_path
    )
    checkpoint.state = STATE
    assert settle_config(config("train.lr=1e-3"), folder, None, [])[1] == set()
    assert settle_config(config("train.lr=2e-3", "data.workers=7"), folder, checkpoint, [])[1] == {"data.workers"}
    for wanted, found in (("1e-3", checkpoint), ("2e-3", None)):
        with pytest.raises(ConfigError, match=r"train.lr \(was .* cannot be changed"):
            settle_config(config(f"train.lr={wanted}"), folder, found, [])
        assert settle_config(config(f"train.lr={wanted}"), folder, found, ["train.lr"])[1] == {"train.lr"}
    checkpoint.state = replace(STATE, epoch=2)
    with pytest.raises(ConfigError, match="the run has completed 2 epochs"):
        settle_config(config("train.lr=2e-3", "train.epochs=1"), folder, checkpoint, ["train.epochs"])


def test_the_bit_depth_of_the_run_stays(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(config())
    settled, changed = settle_config(config("data.bit_depth=auto"), folder, None, [])
    assert (settled.data.bit_depth, changed) == (12, set())
