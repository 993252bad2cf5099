import json
from pathlib import Path

from rfdetr_hwd.comparison.artefact_cost import ModelCost
from rfdetr_hwd.comparison.interval import Estimate
from rfdetr_hwd.comparison.page import build_comparison_page
from rfdetr_hwd.comparison.results import ArmResult, Comparison, as_markdown, write_comparison
from rfdetr_hwd.comparison.verdict import judge

HOSTILE = "<script>alert(1)</script>|x"


def comparison(num_seeds: int = 3) -> Comparison:
    seeds = range(num_seeds)
    values = {arm: {seed: base + seed / 100 for seed in seeds} for arm, base in (("stock", 0.3), (HOSTILE, 0.35))}
    verdict = judge(Estimate(0.05, 1e-5, 1e-5, num_seeds, 50), 0.005, values["stock"], values[HOSTILE])
    size = [{"low": 8.0, "high": 20.0, "objects": 4, "recall": 0.5, "AP": 0.25}]
    common = {"error_costs": {"missed": 0.1, "background": 0.02}, "by_size": size}
    cost = ModelCost(30_000_000, 2_000_000_000, 10.0, 1.0, 0.9, 1.1, True)
    arms = {
        "stock": ArmResult({"AP": values["stock"]}, **common, cost=cost),
        HOSTILE: ArmResult({"AP": values[HOSTILE]}, {"AP": verdict}, {"AP/<b>cat": verdict}, **common, cost=cost),
    }
    return Comparison("stock", arms, ("AP",), {"seeds": list(seeds)}, ("a note about <i>this</i>",))


def test_the_page_begins_with_the_verdict_and_escapes_names() -> None:
    page = build_comparison_page(comparison())
    assert "<script>" not in page
    assert "<i>this" not in page
    assert page.index("better by 0.050 [") < page.index("<section")
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.replace("http-equiv", "")


def test_one_seed_has_a_page_too() -> None:
    assert "images only" in build_comparison_page(comparison(1))


def test_the_files_hold_the_numbers(tmp_path: Path) -> None:
    write_comparison(tmp_path, comparison())
    found = json.loads((tmp_path / "compare.json").read_text())
    metric = found["comparisons"][0]["metrics"]["AP"]
    assert (metric["difference"], metric["verdict"]) == (0.05, "better")
    assert metric["low"] < 0.05 < metric["high"]
    text = (tmp_path / "compare.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == rows[0].count("|") for line in rows[:4])
    assert "| stock | 0.3100 [0.3000, 0.3200] |" in text
    assert "<script>" not in as_markdown(comparison())
