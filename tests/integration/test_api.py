"""Train, evaluate and compare from Python, and the example notebook."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rfdetr_hwd import Detector, Run, compare, evaluate, train
from rfdetr_hwd.comparison.compare import ComparisonError
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import ConfigError, Interrupted
from rfdetr_hwd.training import run as training

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def evaluated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Evaluations of both weights of the run."""
    out = tmp_path_factory.mktemp("evaluated")
    for weights in ("ema", "raw"):
        metrics = evaluate(trained, weights=weights, out=out / weights)
        assert metrics == json.loads((out / weights / "metrics.json").read_text())["metrics"]
        assert (out / weights / "report.html").is_file()
    return {weights: out / weights for weights in ("ema", "raw")}


def test_a_finished_run_is_returned_with_its_metrics(trained: Path, tmp_path: Path, evaluated: dict[str, Path]) -> None:
    shutil.copytree(trained, tmp_path / "run", symlinks=True, copy_function=os.link)
    run = train(resume=tmp_path / "run")
    detector = Detector.load(run)
    assert (run.directory, run.step) == (tmp_path / "run", detector.checkpoint.step)
    assert run.metrics["AP"] == detector.checkpoint.state.best_ap
    measured = json.loads((evaluated[detector.weights] / "metrics.json").read_text())["metrics"]
    assert run.metrics["AP50"] == pytest.approx(measured["AP50"])
    assert [record["step"] for record in run.history if "loss" in record] == list(range(1, 13))


def test_the_judgement_is_that_of_the_file(evaluated: dict[str, Path], tmp_path: Path) -> None:
    judgement = compare(evaluated, out=tmp_path)
    assert judgement == json.loads((tmp_path / "compare.json").read_text())
    values = {arm: list(judgement["arms"][arm]["values"]["AP"].values())[0] for arm in evaluated}
    assert judgement["comparisons"][0]["arm"] == "raw"
    difference = judgement["comparisons"][0]["metrics"]["AP"]["difference"]
    assert difference == pytest.approx(values["raw"] - values["ema"], abs=1e-9)
    with pytest.raises(ConfigError, match="margin"):
        compare(evaluated, margin=2, out=tmp_path)
    with pytest.raises(ConfigError, match="two arms"):
        compare({"a": tmp_path}, out=tmp_path)
    with pytest.raises(ConfigError, match="the arm 'b' has no path"):
        compare({"a": tmp_path, "b": []}, out=tmp_path)
    with pytest.raises(ConfigError, match="vary is a list of keys"):
        compare(evaluated, vary="train.lr")
    for wrong in (3, None, b"a", [tmp_path, 3]):
        with pytest.raises(ConfigError, match="the arm 'b' is a path or a list of paths, not"):
            compare({"a": tmp_path, "b": wrong}, out=tmp_path)
    with pytest.raises(ComparisonError, match="same artefact"):
        compare({"a": evaluated["ema"], "b": evaluated["ema"]}, out=tmp_path)


def test_an_interrupted_run_says_how_to_resume(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Path(tiny_config.output.dir)
    seen: list[Config] = []

    def stop(settings: Config, *_: object) -> None:
        seen.append(settings)
        raise Interrupted(130)

    monkeypatch.setattr(training, "run", stop)
    with pytest.raises(KeyboardInterrupt, match="before the run began"):
        train(tiny_config)
    (directory / "checkpoints").mkdir(parents=True)
    values = tiny_config.model_dump(mode="json", exclude_unset=True)
    for config in (tiny_config, values):
        with pytest.raises(KeyboardInterrupt) as caught:
            train(config, ["train.epochs=7"])
        assert str(caught.value) == f"stopped and saved. Resume with train(resume={str(directory)!r})"
        assert seen[-1].train.epochs == 7
        assert seen[-1].model_fields_set == tiny_config.model_fields_set  # a resumed run keeps what is not set
    with pytest.raises(ConfigError, match="resume=DIRECTORY"):
        train()
    with pytest.raises(ConfigError, match="the path of a YAML file, not 3"):
        train(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="resume is the path of a run directory, not 3"):
        train(resume=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="overrides are a list"):
        train(resume=directory, overrides="train.epochs=7")
    with pytest.raises(ConfigError, match="split 'train' is not val or test"):
        evaluate(directory, split="train")  # type: ignore[arg-type]


def test_a_run_is_a_path(tmp_path: Path) -> None:
    assert Path(Run(tmp_path, 3, {})) == tmp_path


def test_the_public_names_load_no_torch() -> None:
    code = "import sys; from rfdetr_hwd import Config, Run, compare, evaluate, load_config, train; import rfdetr_hwd; "
    code += "assert set(rfdetr_hwd.__all__) <= set(dir(rfdetr_hwd)); "
    code += "print(*{'torch', 'numpy', 'rfdetr', 'supervision', 'PIL', 'rich'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the package under test
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "clear the outputs"
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    results = [[o.data for o in cell if o.output_type == "execute_result"] for cell in outputs]
    shown = "".join(o.text for o in outputs[1] if o.output_type == "stream" and o.name == "stdout")
    assert "step 30/30" in shown  # progress, as plain lines
    assert "image/png" in results[4][0]
    written = json.loads((tmp_path / "notebook" / "comparison" / "compare.json").read_text())
    assert results[5][0]["text/plain"].strip("'") == written["comparisons"][0]["metrics"]["AP"]["text"]
