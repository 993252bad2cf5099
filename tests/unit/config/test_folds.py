"""A fold is the run again, without another part of the training images."""

from pathlib import Path

from rfdetr_hwd.config.changes import changes
from rfdetr_hwd.config.folds import plan_folds
from rfdetr_hwd.config.load import load_config
from rfdetr_hwd.config.schema import Config


def test_folds_differ_from_the_run_in_what_they_hold_out(tiny_config: Config, tmp_path: Path) -> None:
    train = tiny_config.train.model_copy(update={"max_hours": 1.0})
    output = tiny_config.output.model_copy(update={"trackers": ("tensorboard",), "report": True})
    run = tiny_config.model_copy(update={"train": train, "output": output})
    folds = plan_folds(run, 3, tmp_path / "audit")
    assert [fold.name for fold in folds] == ["fold-1", "fold-2", "fold-3"]
    assert [fold.path for fold in folds] == [tmp_path / "audit" / fold.name for fold in folds]
    assert {key: now for key, (_, now) in changes(run, folds[1].config).items()} == {
        "data.val_fraction": 1 / 3,
        "data.val_part": 2,
        "train.max_hours": None,
        "output.dir": str(tmp_path / "audit" / "fold-2"),
        "output.trackers": [],
        "output.report": False,
    }
    file = tmp_path / "fold.yaml"
    file.write_text(folds[1].config.to_yaml())
    assert load_config(file) == folds[1].config  # it is a valid configuration
