"""The benchmark of metrics measures two codes that agree, on a problem of the size it says."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    return importlib.import_module("bench_metrics")


def test_both_codes_agree_and_the_summary_says_so(bench: ModuleType) -> None:
    runs = {kind: [{**bench.measure(kind, 5), "gb": 1.0}] for kind in bench.ROUNDS}  # so small that none grows
    assert runs["now"][0]["metrics"]["AP"] > 0
    summary = bench.summarise(runs)
    assert summary["largest_difference"] < 1e-9
    assert summary["ratio_to_pycocotools"] > 0
    runs["now"][0]["metrics"]["AP"] += 0.25
    assert bench.summarise(runs)["largest_difference"] == pytest.approx(0.25)
    runs["now"][0]["metrics"]["AP"] = None
    with pytest.raises(ValueError, match="by one of them alone"):
        bench.summarise(runs)


def test_the_problem_is_of_val2017s_size(bench: ModuleType) -> None:
    assert bench.num_objects(5000) == 36_781
    truth = bench.make_ground_truth(50)
    (ids, results), *more = bench.make_results(truth)
    assert (len(truth["annotations"]), len(truth["categories"])) == (368, 80)
    assert sum(len(part) for part, _ in more) + len(ids) == 50
    assert results[0]["boxes"].shape == (300, 4)
