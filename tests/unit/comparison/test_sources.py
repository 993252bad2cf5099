from pathlib import Path

import pytest

from rfdetr_hwd.comparison.compare import ComparisonError
from rfdetr_hwd.comparison.sources import find_sources


def make(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(arguments: list[str]) -> dict[str, list[tuple[str, str]]]:
    return {arm: [(s.kind, s.path.name) for s in sources] for arm, sources in find_sources(arguments).items()}


def test_every_kind_of_path_is_recognised(tmp_path: Path) -> None:
    make(tmp_path, "run/config.yaml", "step-00000004/manifest.json", "a.json", "arm/seed-1/config.yaml")
    make(tmp_path, "arm/seed-0/config.yaml", "e/predictions.json", "e/ground_truth.json")
    names = ["run", "step-00000004", "a.json", "arm", "e"]
    assert found([str(tmp_path / name) for name in names]) == {
        "run": [("run", "run")],
        "step-00000004": [("checkpoint", "step-00000004")],
        "a": [("results", "a.json")],
        "arm": [("run", "seed-0"), ("run", "seed-1")],
        "e": [("evaluation", "e")],
    }


def test_an_experiment_alone_is_its_arms(tmp_path: Path) -> None:
    make(tmp_path, "b/seed-0/config.yaml", "a/seed-0/config.yaml", "b/seed-1/config.yaml", "comparison/report.html")
    assert found([str(tmp_path)]) == {"a": [("run", "seed-0")], "b": [("run", "seed-0"), ("run", "seed-1")]}


def test_names_group_paths_and_replace_their_names(tmp_path: Path) -> None:
    make(tmp_path, "x/seed-0/config.yaml", "one.json", "two.json", "odd=name.json")
    arms = found([f"new={tmp_path}/one.json,{tmp_path}/two.json", f"{tmp_path}/x/seed-0", f"{tmp_path}/odd=name.json"])
    assert arms == {
        "new": [("results", "one.json"), ("results", "two.json")],
        "x": [("run", "seed-0")],
        "odd=name": [("results", "odd=name.json")],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "there is nothing to compare run with"),
        (["run", "again=run"], "two arms are the same artefact, run: give different ones"),
        (["run", "run"], "two arms are the same artefact, run: give different ones"),
        (["run", "other/../run"], "two arms are the same artefact, other/../run"),
        (["two=run,run", "other/run"], "the arm two has one artefact twice, run: give different ones"),
        (["my run=run", "other/run"], "my run=run: 'my run' is not the name of an arm: use up to 64 ASCII letters"),
        (["=run", "other/run"], "=run: '' is not the name of an arm"),
        (["..=run", "other/run"], "..=run: '..' is not the name of an arm"),
        (["run", "missing"], "missing does not exist"),
        (["run", "empty"], "empty is no run, checkpoint, evaluation, arm or experiment"),
        (["run", "other/run"], "two arms are called run: give them different names"),
    ],
)
def test_what_compares_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    make(tmp_path, "run/config.yaml", "other/run/config.yaml", "empty/file")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ComparisonError) as raised:
        find_sources(arguments)
    assert message in str(raised.value)
