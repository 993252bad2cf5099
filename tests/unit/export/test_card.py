"""The model card: what a hub reads of it, and what it says when facts are missing or hostile."""

from dataclasses import replace
from typing import Any

from huggingface_hub import ModelCard

from rfdetr_hwd.checkpoint.schema import DataIdentity
from rfdetr_hwd.config.load import parse_config
from rfdetr_hwd.export.card import build_card
from rfdetr_hwd.export.card_facts import CardFacts
from rfdetr_hwd.export.hub import without_places

CONFIG = parse_config({"data": {"root": "cells"}, "output": {"dir": "runs/a"}})
FACTS = CardFacts(
    config=CONFIG,
    class_names=("RBC", "WBC", "a | b <img>"),
    resolution=384,
    resize="stretch",
    num_select=300,
    threshold=0.375,
    weights="ema",
    step=1200,
    data_name="cells",
    training_data=DataIdentity(images=765, boxes=9000, sha256="a" * 64),
    validation_data=DataIdentity(images=73, boxes=967, sha256="b" * 64),
    start={"environment": {"rfdetr_hwd": "0.1.0", "packages": {"torch": "2.14"}, "devices": [{"name": "GPU"}]}},
    metrics={"AP": 0.6125, "AP50": 0.9, "AP_small": None, "AP/RBC": 0.61, "AP/a | b <img>": None},
    intervals={"AP": (0.58, 0.64)},
    protocol={"split": "valid", "resolution": 384, "data": "/home/someone/cells/valid"},
)


def read(facts: CardFacts, license: str = "unknown") -> Any:
    """Return the card as the hub's own library reads it."""
    return ModelCard(build_card(facts, license))


def test_the_hub_reads_the_front_matter() -> None:
    card = read(FACTS, "apache-2.0")
    assert (card.data.license, card.data.pipeline_tag) == ("apache-2.0", "object-detection")
    results = {
        one.metric_name: (one.metric_value, one.dataset_name, one.dataset_split) for one in card.data.eval_results
    }
    assert results == {"AP (IoU 0.50:0.95)": (0.6125, "cells", "valid"), "AP50": (0.9, "cells", "valid")}


def test_the_card_says_what_was_recorded() -> None:
    text = read(FACTS).text
    for expected in (
        "| AP | 0.613 | 0.580 to 0.640 |",
        "| AP50 | 0.900 | - |",
        f"| training | 765 | 9,000 | `{'a' * 64}` |",
        "| confidence threshold | 0.375, of the best F1 on the validation images |",
        "| versions | rfdetr-hwd 0.1.0, torch 2.14 |",
        "Classes without objects in the evaluated images: a \\| b \\<img\\>.",
        "at most 300 objects",
        "No licence was chosen for the weights.",
    ):
        assert expected in text
    assert "/home/someone" not in text


def test_without_an_evaluation_or_a_run_the_card_claims_nothing() -> None:
    facts = replace(FACTS, metrics={}, intervals={}, protocol={}, start={}, threshold=None)
    card = read(facts)
    assert "Not evaluated." in card.text
    assert card.data.eval_results is None
    assert "0.6" not in card.text.partition("## Metrics")[2].partition("## Data")[0]
    facts = replace(FACTS, intervals={}, protocol={})
    assert "There are no intervals: these weights were not evaluated on their own." in read(facts).text
    assert "Measured on the validation split, 73 images." in read(facts).text


def test_absolute_paths_lose_their_place() -> None:
    given = {"root": "/home/someone/cells", "val": {"annotations": "/data/x/val.json"}, "levels": ["P4"], "n": 3}
    assert without_places(given) == {"root": "cells", "val": {"annotations": "val.json"}, "levels": ["P4"], "n": 3}
    assert without_places({"root": "demo/data", "dir": None}) == {"root": "demo/data", "dir": None}
