"""TIDE's errors as hotcoco computes them, under the names of this package."""

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import hotcoco

from rfdetr_hwd.evaluation.detections import Detections

NAMES = {
    "Cls": "wrong class",
    "Loc": "badly placed",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}


def evaluated(truth: dict[str, Any], detections: Detections) -> Any:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        (Path(folder) / "truth.json").write_text(json.dumps(truth))
        (Path(folder) / "found.json").write_text(json.dumps(detections.to_results()))
        dataset = hotcoco.COCO(f"{folder}/truth.json")
        evaluation = hotcoco.COCOeval(dataset, dataset.load_res(f"{folder}/found.json"), "bbox")
        evaluation.evaluate()
    return evaluation


def tide(truth: dict[str, Any], detections: Detections) -> dict[str, Any]:
    result = evaluated(truth, detections).tide_errors()
    counts = {name: result["counts"][short] for short, name in NAMES.items()}
    costs = {name: result["delta_ap"][short] for short, name in NAMES.items()}
    return {**result, "counts": counts, "costs": costs}
