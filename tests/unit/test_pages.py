"""The pages: each command, override, block and link is accepted by the program; generated pages are fresh."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from rfdetr_hwd.checkpoint.schema import FORMAT, READABLE
from rfdetr_hwd.layers.registry import list_downsamples
from tests.unit.page_checks import (
    ROOT,
    command_problems,
    key_problems,
    link_problems,
    option_problems,
    python_problems,
    yaml_problems,
)

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAX_README_LINES = 130

Check = Callable[[str], list[str]]


def check_links(page: str) -> list[str]:
    """Check the links of a page that lies in docs/."""
    return link_problems(page, ROOT / "docs")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of scripts/ as `python scripts/NAME.py` would."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
    return importlib.import_module


@pytest.mark.parametrize("check", [command_problems, key_problems, option_problems, yaml_problems, python_problems])
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_program_accepts_what_a_page_says(path: Path, check: Check) -> None:
    assert check(path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_pictures_are_there(path: Path) -> None:
    assert link_problems(path.read_text(), path.parent) == []


WRONG = {
    "verb": (command_problems, "```bash\nrfdetr-hwd trian --config configs/coco.yaml\n```", "trian"),
    "option": (command_problems, "```bash\nrfdetr-hwd train --confg configs/coco.yaml\n```", "confg"),
    "required option": (command_problems, "```bash\nrfdetr-hwd evaluate --split test\n```", "weights"),
    "value of an option": (command_problems, "Use `rfdetr-hwd evaluate --weights a --split valid`.", "valid"),
    "override": (command_problems, "```bash\nrfdetr-hwd train --config configs/coco.yaml train.epoch=1\n```", "epochs"),
    "value of an override": (command_problems, "```bash\nrfdetr-hwd train --resume a train.lr=high\n```", "train.lr"),
    "configuration file": (command_problems, "```bash\nrfdetr-hwd train --config configs/voc.yaml\n```", "configs/voc"),
    "downsampler": (command_problems, "```bash\nrfdetr-hwd train --resume a downsample.name=hdw\n```", "mean hwd"),
    "accepted key": (command_problems, "```bash\nrfdetr-hwd train --resume a --accept train.rl\n```", "train.rl"),
    "torchrun": (command_problems, "```bash\ntorchrun --nproc-per-node=2 -m rfdetr_hwd tran\n```", "tran"),
    "sbatch": (command_problems, "```bash\nsbatch scripts/slurm.sbatch --confg configs/coco.yaml\n```", "confg"),
    "target": (command_problems, "```bash\nmake demos\n```", "demos"),
    "program": (command_problems, "```bash\nrfdetr_hwd train\n```", "rfdetr_hwd"),
    "inline override": (key_problems, "Set `train.last_batch=filled`.", "filled"),
    "inline key": (key_problems, "Set `train.microbatch`.", "train.microbatch"),
    "inline option": (option_problems, "Give `--autoresume`.", "--autoresume"),
    "YAML key": (yaml_problems, "```yaml\ntrain:\n  epoch: 3\n```", "epochs"),
    "YAML value": (yaml_problems, "```yaml\nmodel: {levels: [P5, P4]}\n```", "levels"),
    "syntax": (python_problems, "```python\nfrom rfdetr_hwd import\n```", "syntax"),
    "import": (python_problems, "```python\nfrom rfdetr_hwd import Detektor\n```", "Detektor"),
    "attribute": (python_problems, "```python\nfrom rfdetr_hwd import Detector\nDetector.open('a')\n```", "open"),
    "method": (
        python_problems,
        "```python\nfrom rfdetr_hwd import Detector\nd = Detector.load('a')\nd.detect('b')\n```",
        "detect",
    ),
    "link": (check_links, "[data](date.md)", "date.md"),
    "picture": (check_links, "![HWD](hdw.png)", "hdw.png"),
    "anchor": (check_links, "[output](configuration.md#outputs)", "#outputs"),
    "path": (check_links, "See `scripts/slurm.sh`.", "slurm.sh"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    check, page, expected = WRONG[name]
    (problem,) = check(page)
    assert expected in problem


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_a_page_lists_the_downsamplers() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "hwd.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(list_downsamples())


def test_a_page_lists_the_checkpoint_formats() -> None:
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert tuple(map(int, rows)) == tuple(READABLE)
    assert max(READABLE) == FORMAT


def test_the_configuration_page_is_fresh(script: Callable[[str], ModuleType]) -> None:
    writer = script("write_configuration_page")
    assert writer.PAGE.read_text() == writer.write_page(), "run `make pages`"


def test_the_benchmark_tables_are_fresh(script: Callable[[str], ModuleType]) -> None:
    writer = script("write_benchmarks_page")
    page = writer.PAGE.read_text()
    assert page == script("pages").with_text(page, writer.NAME, writer.write_tables()), "run `make pages`"


def test_a_record_of_models_becomes_a_table(script: Callable[[str], ModuleType]) -> None:
    """A graph for three images at once has no latency of one, and no AP where none was measured."""
    writer = script("write_benchmarks_page")
    assert writer.TABLES.keys() == writer.TITLES.keys()
    row = {"weights": "run", "form": "onnx", "precision": "float32", "parameters": None, "bytes": 2_400_000, "ap": None}
    row |= {"latency_ms": None, "end_latency_ms": [5.0, 6.25], "images_per_second": 30.0, "batch": 3}
    *_, line = writer.models({"rules": ["A rule."], "artefacts": [row]})
    assert line == "| run | onnx | float32 |  | 30.0 (3) | 5.0 (6.2) |  | 2 MB |  |"


def test_a_record_of_ranks_becomes_a_table(script: Callable[[str], ModuleType]) -> None:
    row = {"step_s_during": 0.0904, "step_s_after": 0.1, "ratio": 0.904, "small_message_ms": 0.25}
    record = {"settings": {"resolution": 128, "batch": 4}, "ddp_waited_s": 20.2, "ddp_time_limit_s": 20}
    _, waited, *_, line = script("write_benchmarks_page").ranks({**record, "ranks": {"2": row}})
    assert "waited 20 s" in waited
    assert line == "| 2 | 90 ms | 100 ms | 0.90 | 0.25 ms |"


def test_the_table_and_the_picture_of_the_rooms_are_fresh(script: Callable[[str], ModuleType]) -> None:
    rooms = script("rooms")
    arrows = rooms.find_arrows()
    page = rooms.PAGE.read_text()
    assert page == script("pages").with_text(page, rooms.NAME, rooms.write_table(arrows)), "run `make pages`"
    with Image.open(rooms.DOCS / rooms.PICTURE) as picture:
        assert picture.text["Description"] == rooms.describe(arrows), "run `make pages`"


def test_arrows_are_found(tmp_path: Path, script: Callable[[str], ModuleType]) -> None:
    files = {
        "top.py": '"""The top. More."""\nfrom package.low import name\nimport torch\n',
        "low/__init__.py": '"""Low"""\n',
        "low/inner.py": "from package.low import other\n\n\ndef late():\n    import package.base\n",
        "base.py": '"""Base"""\n',
    }
    for name, text in files.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    rooms = script("rooms")
    arrows = rooms.find_arrows(tmp_path / "package")
    assert arrows == {"base": set(), "low": {"base"}, "top": {"low"}}
    assert rooms.levels(arrows) == {"base": 0, "low": 1, "top": 2}
    assert rooms.about("top", tmp_path / "package") == "The top"
    with pytest.raises(ValueError, match="base -> low -> base"):
        rooms.levels({**arrows, "base": {"low"}})
