"""The pictures of an evaluation's report, by the names of their files, each with a caption that says how to read it."""

from collections.abc import Sequence

import numpy as np

from rfdetr_hwd.data.images import ImageError
from rfdetr_hwd.evaluation.thresholds import threshold_curve
from rfdetr_hwd.report import evaluation_plots as plots
from rfdetr_hwd.report import training_curves as curves
from rfdetr_hwd.report.errors_gallery import Boxes, Outcome, draw_outcome, list_errors
from rfdetr_hwd.report.evaluation_report import Findings, ReportInputs
from rfdetr_hwd.report.page import Picture
from rfdetr_hwd.report.plots import render
from rfdetr_hwd.report.training_curves import RunRecords

NUM_WORST = 50
"""Largest number of images that are shown."""
_QUALITY = 80

CAPTIONS = {
    "errors": "AP50 that would be gained if all errors of one type were fixed (TIDE). Fix the longest bar first. The "
    "gains do not add up.",
    "precision-recall": "Coloured lines: single classes at IoU 0.5. A curve that ends early misses objects; one that "
    "sinks early has false positives with high scores. Where the dashed line is far below the solid one, boxes are "
    "placed badly.",
    "thresholds": "All classes together, at IoU 0.5. The dashed line is the best threshold. In the grey range, F1 is "
    "within 0.01 of the best: there, choose by precision and recall.",
    "classes": "The lowest first. A class with a high AP50 and a low AP is found, but placed badly.",
    "confusion": "Number of objects (rows) by detected class (columns); colours: percent of the row. The last column "
    "holds objects without a detection, the last row detections without an object.",
    "reliability": "Precision of the detections of each range of scores, with their number. Bars below the dashed "
    "line: scores are too high. Bars above it: too low.",
    "sizes": "Ranges hold about equally many objects. Where recall falls towards small objects, a higher resolution "
    "may help.",
    "loss": "The loss, and its terms of the last decoder layer. Dotted lines mark resumes.",
    "ap": "AP of the validation split at each evaluation. If it still rises at the end, train longer. EMA: moving "
    "average of the weights.",
    "learning-rate": "The highest learning rate of each part of the model.",
    "speed": "Images trained on in a second, without evaluation and saving.",
    "memory": "Peak memory of the process: GPU memory if there is a GPU, else resident memory.",
    "bands": "Fraction of each downsampler's weight energy in each Haar band: LL averages, cH, cV and cD are details "
    "(horizontal, vertical, diagonal). A branch that keeps only LL has learned to average; a growing detail band is "
    "used for edges.",
}


def draw_findings(inputs: ReportInputs, findings: Findings) -> dict[str, Picture]:
    """Return the plots of an evaluation, without those that would be empty."""
    matches = findings.analysis.matches
    figures = {}
    if findings.analysis.costs.ap50 is not None:
        figures["errors"] = plots.plot_costs(findings.analysis.costs.by_kind)
        figures["precision-recall"] = plots.plot_precision_recall(matches)
        figures["classes"] = plots.plot_class_ap(matches)
    if len(matches.score):
        best = findings.analysis.thresholds.overall
        figures["thresholds"] = plots.plot_thresholds(threshold_curve(matches), best)
    if findings.confusion.any():
        figures["confusion"] = plots.plot_confusion(findings.confusion, matches.class_names)
    if findings.calibration.d_ece is not None:
        figures["reliability"] = plots.plot_reliability(findings.calibration)
    if findings.sizes:
        figures["sizes"] = plots.plot_sizes(findings.sizes, inputs.unit)
    return {name: Picture(render(figure), CAPTIONS[name]) for name, figure in figures.items()}


def draw_run(run: RunRecords) -> dict[str, Picture]:
    """Return the plots of what a run recorded, without those that have no record."""
    figures = {
        "loss": curves.plot_losses(run),
        "ap": curves.plot_precision(run),
        "learning-rate": curves.plot_rates(run),
        "speed": curves.plot_speed(run),
        "memory": curves.plot_memory(run),
        "bands": curves.plot_bands(run),
    }
    drawn = ((name, figure) for name, figure in figures.items() if figure is not None)
    return {name: Picture(render(figure), CAPTIONS[name]) for name, figure in drawn}


def draw_worst(inputs: ReportInputs, findings: Findings) -> tuple[dict[str, Picture], str]:
    """Return pictures of the worst images, and why some of them are not shown; empty: all are.

    Args:
        inputs: What the report is made of.
        findings: What was found in it.
    """
    if not inputs.has_images:
        return {}, f"The image files are not in {inputs.data.images}."
    worst = findings.images[:NUM_WORST]
    outcomes = _outcomes(findings, [image.image_id for image in worst])
    row_of = {int(image_id): row for row, image_id in enumerate(inputs.data.image_ids)}
    pictures, failed = {}, []
    for number, found in enumerate(worst, start=1):
        row = row_of[found.image_id]
        try:
            image = inputs.data.read(row)
        except ImageError as error:
            failed.append(str(error))
            continue
        drawn = draw_outcome(image, Outcome(*outcomes[found.image_id], found.errors))
        caption = f"{inputs.data.file_names[row]}\n{list_errors(found.errors)}"
        pictures[f"worst-{number:02d}"] = Picture(drawn, caption, is_photo=True, quality=_QUALITY)
    many = "1 image" if len(failed) == 1 else f"{len(failed)} images"
    return pictures, f"{many} cannot be read, the first: {failed[0]}." if failed else ""


def _outcomes(findings: Findings, image_ids: Sequence[int]) -> dict[int, tuple[Boxes, Boxes, Boxes]]:
    """Return the boxes of found objects, of other objects that are not missed, and of correct detections."""
    matches, overlaps, errors = findings.analysis.matches, findings.analysis.overlaps, findings.errors
    is_missed = np.zeros(len(overlaps.objects), bool)
    is_missed[errors.missed] = True
    is_correct = (matches.score >= findings.threshold) & matches.matched[0, 0] & ~matches.ignored[0, 0]
    found = {}
    for image in np.flatnonzero(np.isin(matches.image_ids, image_ids)):
        here = overlaps.objects.image == image
        found[int(matches.image_ids[image])] = (
            _corners(overlaps.objects.boxes_xywh[here & errors.is_found]),
            _corners(overlaps.objects.boxes_xywh[here & ~errors.is_found & ~is_missed]),
            _corners(overlaps.boxes_xywh[is_correct & (matches.image == image)]),
        )
    return found


def _corners(boxes_xywh: Boxes) -> Boxes:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
