"""Write the report of an evaluation: one page, and its numbers and pictures as files.

OUT/
    report.html         the page, with everything in it
    report/
        report.json     its numbers
        per_class.csv   metrics and errors of each class
        thresholds.csv  best confidence thresholds
        errors.csv      every error at the best threshold
        confusion.csv   confusion matrix at the best threshold
        *.png, *.jpg    its pictures
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rfdetr_hwd.analysis.errors import KINDS
from rfdetr_hwd.errors import writing
from rfdetr_hwd.files import replace_text
from rfdetr_hwd.report.evaluation_page import build_evaluation_page
from rfdetr_hwd.report.evaluation_pictures import draw_findings, draw_run, draw_worst
from rfdetr_hwd.report.evaluation_report import Findings, ReportInputs, find
from rfdetr_hwd.report.page import Picture, encode_jpeg, encode_png

PAGE, FILES = "report.html", "report"
_ERROR_COLUMNS = ("image_id", "file_name", "kind", "class", "true_class", "score", "x0", "y0", "x1", "y1")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def write_evaluation_report(inputs: ReportInputs, out: Path) -> list[str]:
    """Write the report, and return its three sentences.

    Args:
        inputs: What it is made of.
        out: Directory of `report.html`, made if it is missing.

    Raises:
        TagsError: The file of tags cannot be used.
        ConfigError: A file cannot be written.
    """
    findings = find(inputs)
    worst, gap = draw_worst(inputs, findings)
    pictures = draw_findings(inputs, findings) | (draw_run(inputs.run) if inputs.run is not None else {}) | worst
    page = build_evaluation_page(inputs, findings, pictures, gap)
    with writing("--out", out):
        folder = out / FILES
        folder.mkdir(parents=True, exist_ok=True)
        _remove_pictures(folder)
        for name, picture in pictures.items():
            _write_picture(folder, name, picture)
        for name, rows in _tables(inputs, findings).items():
            replace_text(folder / f"{name}.csv", _as_csv(rows))
        replace_text(folder / "report.json", json.dumps(_as_json(inputs, findings), indent=2))
        replace_text(out / PAGE, page)
    return findings.lead


def _remove_pictures(folder: Path) -> None:
    """Remove the pictures of an earlier report, which may have had more of them."""
    for path in (*folder.glob("*.png"), *folder.glob("worst-*.jpg")):
        path.unlink()


def _write_picture(folder: Path, name: str, picture: Picture) -> None:
    if picture.is_photo:
        (folder / f"{name}.jpg").write_bytes(encode_jpeg(picture.image, picture.quality))
    else:
        (folder / f"{name}.png").write_bytes(encode_png(picture.image))


def _tables(inputs: ReportInputs, findings: Findings) -> dict[str, Iterable[Sequence[object]]]:
    """Return the rows of each CSV file, with their header."""
    matches, thresholds = findings.analysis.matches, findings.analysis.thresholds
    by_class = findings.errors.count_by_class(matches, findings.analysis.overlaps.objects).T.tolist()
    names = [*matches.class_names, "background"]
    return {
        "per_class": [
            ("class", "objects", "images", "AP", "AP_low", "AP_high", "AP50", "AR", *KINDS),
            *(
                (
                    one.name,
                    one.num_objects,
                    one.num_images,
                    one.ap,
                    *_ends(findings, one.name),
                    one.ap50,
                    one.ar,
                    *errors,
                )
                for one, errors in zip(findings.classes, by_class, strict=True)
            ),
        ],
        "thresholds": [
            ("class", "threshold", "F1", "precision", "recall", "flat_low", "flat_high"),
            *(
                (name, best.threshold, best.f1, best.precision, best.recall, best.flat_low, best.flat_high)
                for name, best in zip(
                    ("", *matches.class_names), (thresholds.overall, *thresholds.per_class), strict=True
                )
                if best is not None
            ),
        ],
        "errors": _error_rows(inputs, findings),
        "confusion": [
            ("truth", *names[:-1], "not found"),
            *((name, *row) for name, row in zip(names, findings.confusion.tolist(), strict=True)),
        ],
    }


def _ends(findings: Findings, class_name: str) -> tuple[float | None, float | None]:
    interval = findings.intervals.get(f"AP/{class_name}")
    return (None, None) if interval is None else (interval.low, interval.high)


def _error_rows(inputs: ReportInputs, findings: Findings) -> Iterator[Sequence[object]]:
    yield _ERROR_COLUMNS
    file_names = dict(zip(inputs.data.image_ids.tolist(), inputs.data.file_names.tolist(), strict=True))
    for image in findings.images:
        for error in image.errors:
            what = (error.kind, error.class_name, error.true_class, error.score)
            yield image.image_id, file_names[image.image_id], *what, *(round(value, 2) for value in error.box_xyxy)


def _as_csv(rows: Iterable[Sequence[object]]) -> str:
    """Return CSV text. A name that a spreadsheet would compute gets an apostrophe in front."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([[_harmless(cell) for cell in row] for row in rows])
    return text.getvalue().encode("utf-8", errors="backslashreplace").decode("utf-8")


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _as_json(inputs: ReportInputs, findings: Findings) -> Mapping[str, Any]:
    analysis = findings.analysis
    best, calibration = analysis.thresholds.overall, findings.calibration
    return {
        "lead": findings.lead,
        "metrics": findings.metrics,
        "intervals": {name: interval and asdict(interval) for name, interval in findings.intervals.items()},
        "classes": [asdict(one) for one in findings.classes],
        "threshold": findings.threshold,
        "thresholds": {
            "overall": best and asdict(best),
            "classes": {
                name: one and asdict(one)
                for name, one in zip(analysis.matches.class_names, analysis.thresholds.per_class, strict=True)
            },
        },
        "errors": findings.errors.count(),
        "ap50_to_gain": analysis.costs.by_kind if analysis.costs.ap50 is not None else None,
        "calibration": {
            "d_ece": calibration.d_ece,
            "d_ece_by_size": findings.d_ece_by_size,
            "edges": calibration.edges.tolist(),
            "count": calibration.count.tolist(),
            "precision": [None if np.isnan(value) else value for value in calibration.precision.tolist()],
        },
        "sizes": [asdict(one) for one in findings.sizes],
        "tags": [asdict(one) for one in findings.tags],
        "worst_images": [{"image_id": one.image_id, "weight": one.weight} for one in findings.images],
        "protocol": dict(inputs.protocol),
    }
