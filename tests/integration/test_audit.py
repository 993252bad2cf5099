"""`data audit` on a trained run finds planted errors in its data, and answers bad input with one message."""

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused


@pytest.fixture
def planted(shapes_root: Path, tmp_path: Path) -> Path:
    """The dataset of the run, with the first annotation of the validation split twice."""
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    path = root / "valid" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 1 + len(content["annotations"])})
    path.write_text(json.dumps(content))
    return root


def test_a_run_audits_a_split(trained: Path, planted: Path, cli: Run, tmp_path: Path) -> None:
    out, split = tmp_path / "out", ["--split", "val", "--threshold", 0.02, "--limit", 5]
    result = cli("data", "audit", trained, f"data.root={planted}", *split, "--out", out)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in out.iterdir()} == {"report.html", "suggestions-val.json"}
    assert (out / "report.html").read_text().count('class="photo"') == 5
    content = json.loads((out / "suggestions-val.json").read_text())
    ranks = {one["suggestion"]["rank"]: one["suggestion"] for one in content["annotations"] if "suggestion" in one}
    assert (ranks[1]["kind"], ranks[1]["score"], ranks[1]["twin"]) == ("duplicate", 1, 1)
    assert "val: detecting in 8 images ..." in result.stdout
    assert f"page: {out / 'report.html'}" in result.stdout


def test_a_run_audits_all_splits_into_its_directory(halfway: Path, cli: Run) -> None:
    result = cli("data", "audit", halfway, "--threshold", 0.02)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (halfway / "audit").iterdir()} == {
        *("report.html", "suggestions-train.json", "suggestions-val.json", "suggestions-test.json"),
    }


def test_what_cannot_be_audited_is_one_message(
    trained: Path, shapes_root: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def audit(*arguments: object) -> object:
        return cli("data", "audit", *arguments, "--out", out)

    refused(audit(tmp_path / "nowhere"), 1, f"{tmp_path / 'nowhere'} is not a directory: give a run directory")
    refused(audit(trained, f"data.root={tmp_path / 'lost'}"), 1, f"there is no directory {tmp_path / 'lost'}")
    unnamed = tmp_path / "two"
    shutil.copytree(shapes_root, unnamed, ignore=shutil.ignore_patterns("test"))
    refused(audit(trained, f"data.root={unnamed}", "--split", "test"), 1, "has no test split")
    refused(audit(trained, "--split", "val", "--threshold", 1), 1, "no detection in 8 images reaches", "--threshold")
    unknown = audit(trained, "--split", "valid")
    assert unknown.returncode == 2
    assert "'valid' is not one of 'all', 'train', 'val', 'test'" in unknown.stderr
    assert not out.exists()
