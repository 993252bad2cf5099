"""A browser shows the pages: all pictures, no request, no scroll bar below, on a phone and a screen, light and dark."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from rfdetr_hwd.cli.data.show import show
from rfdetr_hwd.comparison.artefact_cost import ModelCost
from rfdetr_hwd.comparison.judgement import compare_measured
from rfdetr_hwd.comparison.page import build_comparison_page
from rfdetr_hwd.comparison.robustness import compare_robustness
from rfdetr_hwd.config.experiment import ComparisonSection
from rfdetr_hwd.report.audit import AuditedSplit, AuditInputs, audit
from rfdetr_hwd.report.audit_files import write_audit
from rfdetr_hwd.report.evaluation_files import write_evaluation_report
from rfdetr_hwd.report.judges import Judge
from tests.unit.comparison.test_compare_robustness import arm
from tests.unit.comparison.test_judgement import run
from tests.unit.report.evaluations import CAT, DOG, make_inputs
from tests.unit.report.test_evaluation_report import records

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (400, 1400)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: pages are not looked at")

PROBE = """<!DOCTYPE html><meta charset="utf-8"><body>%s<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const view = frame.contentWindow, page = frame.contentDocument, root = page.documentElement;
    const images = [...page.images], tooWide = e => e.getBoundingClientRect().right > view.innerWidth;
    return {
      width: view.innerWidth, overflow: root.scrollWidth - root.clientWidth, images: images.length,
      broken: images.filter(i => !i.complete || !i.naturalWidth).length,
      wide: images.filter(tooWide).length,
      background: view.getComputedStyle(page.body).backgroundColor,
    };
  });
  const result = document.createElement("pre");
  result.textContent = JSON.stringify(found);
  document.body.replaceChildren(result);
});
</script>"""


POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a page may load: what is in it. Chromium logs everything else as refused."""


def look_at(page: Path, is_dark: bool) -> list[dict[str, Any]]:
    """Return what a browser shows of a page, at each width. Whatever it would load or run is an error."""
    strict, probe = page.with_name("strict.html"), page.with_name("probe.html")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    strict.write_text(page.read_text().replace("<head>", f"<head>{policy}", 1))
    frames = (
        f'<iframe src="{strict.name}" width="{width}" height="800" style="border: 0"></iframe>' for width in WIDTHS
    )
    probe.write_text(PROBE % "".join(frames))
    result = subprocess.run(
        [
            *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--allow-file-access-from-files", f"--blink-settings=preferredColorScheme={0 if is_dark else 1}"),
            *(f"--user-data-dir={page.parent / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *("--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom", probe.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "HOME": str(page.parent)},
    )
    assert [line for line in result.stderr.splitlines() if "CONSOLE" in line] == []
    (content,) = re.findall("<pre>(.*)</pre>", result.stdout)
    shown: list[dict[str, Any]] = json.loads(unescape(content))
    return shown


@pytest.fixture(scope="module")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "tags.csv").write_text("file_name,light\n")
    inputs = replace(make_inputs(folder), run=records(), tags=folder / "tags.csv")
    write_evaluation_report(inputs, folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def dataset_page(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("show") / "out"
    show(shapes_root, folder, ["model.resolution=64"], count=2)
    return folder / "index.html"


@pytest.fixture(scope="module")
def comparison_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison with every section: stand-in detectors, one of them with boxes that are 2 px off."""
    arms = {name: [run(name, seed, pixels) for seed in range(3)] for name, pixels in (("hwd", 0.0), ("jitter", 2.0))}
    compared = compare_measured(arms, ComparisonSection(), ("downsample.",))
    robustness, _ = compare_robustness({"hwd": arm(0.9, 0.8), "jitter": arm(0.7, 0.65)}, "hwd")
    cost = ModelCost(30_000_000, 2_000_000_000, 10.0, 1.0, 0.9, 1.1, True)
    results = {n: replace(r, robustness=robustness[n], cost=cost) for n, r in compared.arms.items()}
    page = tmp_path_factory.mktemp("comparison") / "report.html"
    page.write_text(build_comparison_page(replace(compared, arms=results)))
    return page


@pytest.fixture(scope="module")
def audit_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an audit with ten suggestions, each with a picture."""
    folder = tmp_path_factory.mktemp("audit")
    objects = [(image, "cow", DOG) for image in range(5)]
    made = make_inputs(folder, objects, [(image, "=dog", box, 0.9) for image in range(5) for box in (CAT, DOG)], 5)
    judge = Judge("the run", "runs/mine", "ema", 3, False, made.data.image_ids, 0.5)
    splits = [AuditedSplit("val", made.data, made.detections, [judge])]
    inputs = AuditInputs(splits, made.data.class_names, 0.5, 100, False, {"data": "data"})
    write_audit(inputs, audit(inputs), 50, folder)
    return folder / "report.html"


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("name", ["report_page", "audit_page", "dataset_page", "comparison_page"])
def test_a_page_is_whole_in_a_browser(name: str, is_dark: bool, request: pytest.FixtureRequest) -> None:
    page: Path = request.getfixturevalue(name)
    images = page.read_text().count("<img ")
    assert images > (3 if name == "comparison_page" else 8)
    for width, shown in zip(WIDTHS, look_at(page, is_dark), strict=True):
        background = "rgb(21, 24, 28)" if is_dark else "rgb(251, 251, 250)"
        whole = {"width": width, "overflow": 0, "images": images, "broken": 0, "wide": 0}
        assert shown == {**whole, "background": background}


def test_a_broken_page_is_seen(tmp_path: Path) -> None:
    """What the other test holds can fail."""
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><head></head><img src="data:image/png;base64,AAAA"><p style="width: 3000px">x</p>')
    for shown in look_at(page, is_dark=False):
        assert shown["broken"] == 1
        assert shown["overflow"] > 0
    for part in ('<img src="missing.png">', "<script>alert(1)</script>", '<link rel="stylesheet" href="a.css">'):
        page.write_text(f"<!DOCTYPE html><head></head><body>{part}")
        with pytest.raises(AssertionError, match="CONSOLE"):
            look_at(page, is_dark=False)
