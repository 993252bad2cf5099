from pathlib import Path
from typing import Any

import pytest
import yaml

from rfdetr_hwd.config.experiment import _FORMS, ComparisonSection, Experiment, dotted, load_experiment
from rfdetr_hwd.errors import ConfigError

BASE = {"model": {"resolution": 64, "pretrain_weights": None}, "data": {"root": "d"}, "output": {"dir": "unused"}}
EXPERIMENT = {
    "base": "base.yaml",
    "overrides": {"train.epochs": 3},
    "arms": {"hwd": {"downsample.init": "equal"}, "spd": {"downsample": {"name": "spd", "init": "equal"}}},
    "seeds": [5, 1],
    "output": "runs/x",
}


def write(folder: Path, **changed: Any) -> Path:
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    (folder / "experiment.yaml").write_text(yaml.safe_dump({**EXPERIMENT, **changed}, sort_keys=False))
    return folder / "experiment.yaml"


def test_every_arm_is_planned_with_every_seed(tmp_path: Path) -> None:
    plan = load_experiment(write(tmp_path), ["train.epochs=4"])
    assert [run.name for run in plan.runs] == ["hwd/seed-5", "spd/seed-5", "hwd/seed-1", "spd/seed-1"]
    run = plan.runs[3]
    assert (run.config.downsample.name, run.config.downsample.init) == ("spd", "equal")
    assert (run.config.train.seed, run.config.train.epochs, run.config.model.resolution) == (1, 4, 64)
    assert run.path == Path("runs/x/spd/seed-1")
    assert [run.seed for run in plan.of_arm("hwd")] == [5, 1]
    assert plan.experiment.baseline == "hwd"


def test_options_of_a_downsampler_are_one_value() -> None:
    nested = {"downsample": {"name": "dwt", "options": {"wavelet": "db2"}}}
    assert dotted(nested) == {"downsample.name": "dwt", "downsample.options": {"wavelet": "db2"}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"armes": {}}, "armes: unknown key; the known keys are base"),
        ({"comparison": {"metric": "AP"}}, "comparison.metric: unknown key; the known keys are shifts"),
        ({"comparison": {"baseline": "conv"}}, "comparison.baseline is 'conv', but the arms are ['hwd', 'spd']"),
        ({"comparison": {"margin": -1}}, "comparison.margin = -1"),
        ({"arms": {"hwd": {}}}, "at least two arms"),
        ({"arms": {"hwd": {}, "../x": {"amp": False}}}, "'../x' is not the name of an arm"),
        ({"arms": {"hwd": {}, "b": {"train": {"seed": 3}}}}, "the arm b sets train.seed, which the experiment sets"),
        ({"arms": {"hwd": {}, "b": {"train.epohcs": 3}}}, "arm b: "),
        ({"arms": {"hwd": {}, "b": {"downsample.name": "hwd"}}}, "the arms hwd and b are the same"),
        ({"seeds": []}, "must be one or more different seeds"),
        ({"seeds": [1, 1]}, "must be one or more different seeds"),
        ({"seeds": ["a"]}, "seeds.0 = 'a': must be a list of different whole numbers from 0, such as [0, 1, 2]"),
        ({"seeds": 3}, "seeds = 3: must be a list of different whole numbers from 0"),
        ({"seeds": [-1]}, "seeds.0 = -1: must be a list of different whole numbers from 0"),
        ({"arms": ["hwd", "spd"]}, "arms = ['hwd', 'spd']: must be names, each with keys and values, such as {conv: "),
        ({"arms": {"hwd": None, "b": {}}}, "arms.hwd = None: must be names, each with keys and values"),
        ({"overrides": "x"}, "overrides = 'x': must be keys with values, such as {train.epochs: 12}"),
        ({"output": 3}, "output = 3: must be the path of a directory"),
        ({"comparison": [1]}, "comparison = [1]: must be keys with values"),
        ({"comparison": {"margin": "a"}}, "comparison.margin = 'a': must be a number from 0 to 1"),
        ({"comparison": {"weights": "best"}}, "comparison.weights = 'best': must be ema or raw"),
        ({"comparison": {"metrics": "AP"}}, "comparison.metrics = 'AP': must be a list of names of metrics"),
        ({"comparison": {"severities": [9]}}, "comparison.severities.0 = 9: must be a list of different whole numbers"),
        ({"arms": {"hwd": {}, "\u00e9": {"amp": False}}}, "is not the name of an arm: use up to 64 ASCII letters"),
        ({"base": "missing.yaml"}, "missing.yaml"),
    ],
)
def test_a_wrong_experiment_is_explained(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_experiment(write(tmp_path, **changed))
    assert message in str(raised.value)


def test_the_form_of_every_value_is_known() -> None:
    keys = [key for key in Experiment.model_fields if key != "comparison"]
    keys += [f"comparison.{key}" for key in ComparisonSection.model_fields]
    assert set(_FORMS) == {f"{key}." for key in [*keys, "comparison"]}


@pytest.mark.parametrize("name", ["wavelet-bccd", "stem-bccd", "wavelet-coco"])
def test_the_shipped_experiments_are_valid(name: str) -> None:
    file = Path(__file__).parents[3] / "configs" / "experiments" / f"{name}.yaml"
    plan = load_experiment(file, ["data.root=somewhere"])
    assert len(plan.runs) == 3 * len(plan.experiment.arms)
    for key in ("epochs", "batch_size", "lr"):
        assert len({getattr(run.config.train, key) for run in plan.runs}) == 1
