"""Experiments and comparisons through the installed command, on tiny real runs."""

import json
from pathlib import Path

import pytest
import yaml

from rfdetr_hwd.training.trackers import read_metrics
from tests.integration.conftest import Run

METRIC = "AP"


@pytest.fixture(scope="module")
def experiment(command: Run, config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment: two arms with two seeds, and their comparison."""
    root = tmp_path_factory.mktemp("experiment")
    content = {
        "base": str(config_file),
        "overrides": {"train.epochs": 1, "output.keep_last": 1},
        "arms": {"conv2x2": {"downsample": {"name": "conv2x2", "init": "equal"}}, "hwd": {"downsample.init": "equal"}},
        "seeds": [0, 1],
        "comparison": {"metrics": [METRIC, "AP50"], "margin": 0.5, "shifts": 1},
        "output": str(root / "runs"),
    }
    (root / "experiment.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    result = command("experiment", root / "experiment.yaml", "--workers", 2)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 runs to train" in result.stdout
    return root


def test_every_run_is_an_ordinary_run(experiment: Path) -> None:
    for arm in ("conv2x2", "hwd"):
        for seed in (0, 1):
            run = experiment / "runs" / arm / f"seed-{seed}"
            config = yaml.safe_load((run / "config.yaml").read_text())
            assert (config["downsample"]["name"], config["train"]["seed"]) == (arm, seed)
            assert "the run is complete" in run.with_name(f"seed-{seed}.log").read_text()


def test_the_comparison_is_that_of_the_runs_own_metrics(experiment: Path) -> None:
    result = json.loads((experiment / "runs" / "comparison" / "compare.json").read_text())
    (comparison,) = result["comparisons"]
    assert (comparison["arm"], comparison["baseline"]) == ("hwd", "conv2x2")
    measured = {
        arm: [
            read_metrics(experiment / "runs" / arm / f"seed-{seed}" / "metrics.jsonl")[-1][f"ema/{METRIC}"]
            for seed in (0, 1)
        ]
        for arm in ("conv2x2", "hwd")
    }
    for arm, values in measured.items():
        assert list(result["arms"][arm]["values"][METRIC].values()) == pytest.approx(values, abs=1e-9)
    verdict = comparison["metrics"][METRIC]
    assert verdict["difference"] == pytest.approx(sum(measured["hwd"]) / 2 - sum(measured["conv2x2"]) / 2, abs=1e-9)
    assert verdict["low"] <= verdict["difference"] <= verdict["high"]
    assert verdict["verdict"] in ("equivalent", "undecided")
    costs = {arm: result["arms"][arm]["cost"] for arm in measured}
    assert costs["hwd"]["parameters"] == costs["conv2x2"]["parameters"], "both ship as stock RF-DETR"


def test_a_finished_experiment_is_not_trained_again(experiment: Path, cli: Run) -> None:
    log = experiment / "runs" / "hwd" / "seed-1.log"
    before = log.stat().st_mtime_ns
    result = cli("experiment", experiment / "experiment.yaml", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "0 finished, 1 finished" in result.stdout
    assert log.stat().st_mtime_ns == before


def test_a_changed_experiment_is_refused(experiment: Path, cli: Run) -> None:
    result = cli("experiment", experiment / "experiment.yaml", "train.lr=0.5", "--dry-run")
    assert result.returncode == 2
    assert "was trained with train.lr=0.001, which is now 0.5" in result.stderr


def test_arms_must_match(experiment: Path, trained: Path, cli: Run, tmp_path: Path) -> None:
    arm = experiment / "runs" / "hwd" / "seed-0"
    result = cli("compare", arm, trained, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "differ in more than what is compared:\n  train.epochs: 1 and 2\n  steps: 6 and 12\n" in result.stderr
    assert "add --vary train.epochs --vary steps" in result.stderr
    result = cli("compare", arm, trained, "--vary", "train.epohcs", "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "--vary train.epohcs: unknown key; the nearest known key is train.epochs" in result.stderr


def test_result_files_are_compared(experiment: Path, cli: Run, tmp_path: Path) -> None:
    """Two seeds of one arm, as files of anyone: pairs of images alone."""
    folders = [next((experiment / "runs" / "hwd" / f"seed-{seed}").glob("evaluate-val-step-*-ema")) for seed in (0, 1)]
    files = [folder / "predictions.json" for folder in folders]
    truth = folders[0] / "ground_truth.json"
    arms = [f"a={files[0]}", f"b={files[1]}"]
    result = cli("compare", *arms, "--ground-truth", truth, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    verdict = written["comparisons"][0]["metrics"][METRIC]
    assert verdict["images_only"]
    assert verdict["verdict"] in ("undecided", "equivalent")
    assert any("it is unknown whether it matches" in note for note in written["notes"])
    without = cli("compare", *arms, "--out", tmp_path / "out")
    assert without.returncode == 2
    assert "--ground-truth FILE" in without.stderr


def test_a_bad_file_is_refused_before_a_run_is_evaluated(trained: Path, cli: Run, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n")
    truth = tmp_path / "truth.json"
    truth.write_text('{"images": [{"id": 1}], "annotations": [], "categories": []}')
    before = sorted(trained.iterdir())
    result = cli("compare", trained, picture, "--ground-truth", truth, "--out", tmp_path / "out")
    assert result.returncode != 0
    assert "evaluating" not in result.stdout
    assert sorted(trained.iterdir()) == before


@pytest.mark.slow
def test_robustness_is_compared_and_measured_once(experiment: Path, cli: Run, tmp_path: Path) -> None:
    evaluations = sorted((experiment / "runs").glob("*/seed-*/evaluate-val-step-*-ema/metrics.json"))
    assert len(evaluations) == 4
    written = [path.stat().st_mtime_ns for path in evaluations]
    recorded = [json.loads(path.read_text())["robustness"] for path in evaluations]
    compared = json.loads((experiment / "runs" / "comparison" / "compare.json").read_text())["arms"]
    for number, arm in enumerate(("conv2x2", "hwd")):  # as sorted above, two seeds each
        of_arm = recorded[2 * number : 2 * number + 2]
        worst = [min(r["shifts"]["AP"]) for r in of_arm]
        assert compared[arm]["robustness"]["AP_worst"]["mean"] == pytest.approx(sum(worst) / 2)
    differences = compared["hwd"]["robustness"]["AP_worst"]["difference"]["by_seed"]
    of_seeds = [min(recorded[2 + seed]["shifts"]["AP"]) - min(recorded[seed]["shifts"]["AP"]) for seed in (0, 1)]
    assert list(differences.values()) == pytest.approx(of_seeds)
    assert compared["conv2x2"]["robustness"]["AP_worst"]["difference"] is None
    assert "| hwd | AP_worst |" in (experiment / "runs" / "comparison" / "compare.md").read_text()

    # The same again measures nothing, other shifts are measured.
    options = ["--out", tmp_path / "out"]
    again = cli("compare", experiment / "runs", "--shifts", 1, *options)
    assert again.returncode == 0, again.stderr
    assert "evaluating" not in again.stdout
    assert written == [path.stat().st_mtime_ns for path in evaluations]
    arms = [experiment / "runs" / arm / "seed-0" for arm in ("conv2x2", "hwd")]
    other = cli("compare", *arms, "--shifts", 2, *options)
    assert other.returncode == 0, other.stderr
    assert other.stdout.count("evaluating") == 2
    assert other.stdout.count("shift 2 of 2 px: AP 0.") == 2
