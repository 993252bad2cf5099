"""Build the HTML page of an evaluation: what to do next first, then metrics, errors, classes, training, protocol."""

import json
from collections.abc import Mapping
from typing import Any

from rfdetr_hwd.analysis.errors import KINDS
from rfdetr_hwd.console import digits
from rfdetr_hwd.evaluation.bootstrap import Interval
from rfdetr_hwd.report.errors_gallery import LEGEND
from rfdetr_hwd.report.evaluation_report import Findings, ReportInputs
from rfdetr_hwd.report.page import Picture, Section, Table, build_page
from rfdetr_hwd.report.training_curves import RunRecords, drawn_per_epoch, last_bands

MEANINGS = {
    "AP": "mean over classes and IoU 0.50:0.95: the metric to compare models by",
    "AP50": "at IoU 0.5: objects are found",
    "AP75": "at IoU 0.75: and boxes are tight",
    "AP_small": "objects under 32 x 32 pixels of the image",
    "AP_medium": "objects from 32 x 32 to 96 x 96 pixels",
    "AP_large": "larger objects",
    "AR_1": "recall with one detection an image and class",
    "AR_10": "recall with ten",
    "AR_100": "recall with a hundred",
    "AR_small": "recall of small objects",
    "AR_medium": "recall of medium objects",
    "AR_large": "recall of large objects",
}
"""The twelve metrics of COCO, and how to read them."""

_ERRORS = {
    "missed": "no detection on an object",
    "wrong class": "on an object of another class, IoU 0.5 or more",
    "badly placed": "on an object of its class, IoU from 0.1 to 0.5",
    "both": "on an object of another class, IoU from 0.1 to 0.5",
    "duplicate": "on an object that a better detection has found",
    "background": "on no object, IoU below 0.1",
}
_NUM_SHOWN = 8  # worst images that are seen without a click
_RUN_KEYS = {
    "model": ("variant", "resolution", "resize", "pretrain_weights", "num_queries"),
    "downsample": ("name", "site", "init"),
    "data": ("root", "format", "sampling", "background_fraction"),
    "train": ("epochs", "batch_size", "lr", "lr_encoder", "schedule", "ema", "seed"),
}
"""Keys of the configuration that say what was trained on what."""


def build_evaluation_page(
    inputs: ReportInputs, findings: Findings, pictures: Mapping[str, Picture], gap: str = ""
) -> str:
    """Return the page as HTML.

    Args:
        inputs: What the report is made of.
        findings: What was found.
        pictures: Pictures by name; a section shows those that are there.
        gap: Why images are not shown.
    """
    sections = [
        _metrics(findings),
        _errors(findings, pictures),
        _worst(findings, pictures, gap),
        _thresholds(findings, pictures),
        _classes(findings, pictures),
        _sizes(inputs, pictures),
        _calibration(findings, pictures),
        *([_tags(findings)] if findings.tags else []),
        *([_training(inputs.run, pictures)] if inputs.run is not None else []),
        *(_bands(inputs.run, pictures) if inputs.run is not None else []),
        Section("Protocol", "How the detections were made and measured.", [_table(inputs.protocol)]),
    ]
    return build_page(inputs.title, _describe(inputs, findings), sections, findings.lead)


def _describe(inputs: ReportInputs, findings: Findings) -> str:
    num_objects = len(findings.analysis.overlaps.objects)
    weights, step = inputs.protocol.get("weights"), inputs.protocol.get("step")
    kinds = {"ema": "EMA", "raw": "Raw"}
    of = f"{kinds.get(weights, weights)} weights at step {step}: " if weights is not None and step is not None else ""
    return (
        f"{of}{len(inputs.detections):,} detections in {len(inputs.data):,} images with {num_objects:,} objects of "
        f"{len(inputs.data.class_names):,} classes. Intervals are 95 % confidence intervals over images; they say "
        "nothing about another training run."
    )


def _metrics(findings: Findings) -> Section:
    rows = [
        (name, digits(value, 3), _between(findings.intervals.get(name)), _meaning(name))
        for name, value in findings.metrics.items()
    ]
    table = Table(("metric", "value", "95 % interval", "meaning"), rows, numeric=("value", "95 % interval"))
    text = "COCO's twelve metrics, and AP with more detections. A dash: no such object, or no interval was computed."
    return Section("Metrics", text, [table])


def _meaning(name: str) -> str:
    return MEANINGS.get(name) or f"AP with {name.removeprefix('AP@')} detections an image and class, not with 100"


def _errors(findings: Findings, pictures: Mapping[str, Picture]) -> Section:
    counts, costs = findings.errors.count(), findings.analysis.costs.by_kind
    rows = [
        (kind, counts[kind], digits(costs.get(kind) if findings.analysis.costs.ap50 is not None else None, 3), meaning)
        for kind, meaning in _ERRORS.items()
    ]
    rows.sort(key=lambda row: row[2] if row[2] != "-" else "", reverse=True)
    header = ("error", f"number at threshold {findings.threshold:.2f}", "AP50 to gain", "meaning")
    text = (
        "Each error has one name, TIDE's. The numbers count errors at the best confidence threshold. The gain counts "
        "the detections of all scores, as AP does."
    )
    return Section("Errors", text, [Table(header, rows, numeric=("AP50 to gain",))], _named(pictures, "errors"))


def _worst(findings: Findings, pictures: Mapping[str, Picture], gap: str) -> Section:
    drawn = _named(pictures, *(name for name in pictures if name.startswith("worst-")))
    if not findings.images:
        text = f"No image has an error at the threshold {findings.threshold:.2f}."
    elif not drawn:
        text = f"No image can be shown. {gap}"
    else:
        text = (
            f"The {len(drawn)} worst of {len(findings.images):,} images with errors at the threshold "
            f"{findings.threshold:.2f}: ground truth on the left, detections on the right. {gap}"
        )
    legend = LEGEND if drawn else ()
    return Section("Worst images", text, pictures=drawn[:_NUM_SHOWN], more=drawn[_NUM_SHOWN:], legend=legend)


def _thresholds(findings: Findings, pictures: Mapping[str, Picture]) -> Section:
    thresholds = findings.analysis.thresholds
    names = ("all classes together", *findings.analysis.matches.class_names)
    rows = [
        (name, *(digits(value, 2) for value in (best.threshold, best.f1, best.precision, best.recall)))
        for name, best in zip(names, (thresholds.overall, *thresholds.per_class), strict=True)
        if best is not None
    ]
    header = ("class", "best threshold", "F1", "precision", "recall")
    tables = [Table(header, rows, numeric=header[1:])] if rows else []
    text = "The confidence threshold with the highest F1, at IoU 0.5. Precision and recall are those at the threshold."
    return Section("Thresholds", text, tables, _named(pictures, "thresholds", "precision-recall"))


def _classes(findings: Findings, pictures: Mapping[str, Picture]) -> Section:
    by_class = findings.errors.count_by_class(findings.analysis.matches, findings.analysis.overlaps.objects)
    rows: list[tuple[str | int | None, ...]] = [
        (
            one.name,
            one.num_objects,
            one.num_images,
            digits(one.ap, 3),
            _between(findings.intervals.get(f"AP/{one.name}")),
            digits(one.ap50, 3),
            digits(one.ar, 3),
            *by_class[:, row].tolist(),
        )
        for row, one in enumerate(findings.classes)
    ]
    numeric = ("AP", "95 % interval", "AP50", "AR")
    header = ("class", "objects", "images", *numeric, *KINDS)
    text = f"Errors are counted at the threshold {findings.threshold:.2f}, under the detected class or the missed one."
    return Section("Classes", text, [Table(header, rows, numeric)], _named(pictures, "classes", "confusion"))


def _sizes(inputs: ReportInputs, pictures: Mapping[str, Picture]) -> Section:
    shown = _named(pictures, "sizes")
    text = f"Sizes are square roots of box areas in {inputs.unit}." if shown else "There is no object."
    return Section("Object sizes", text, pictures=shown)


def _calibration(findings: Findings, pictures: Mapping[str, Picture]) -> Section:
    text = (
        f"D-ECE, the mean distance between score and precision weighted by the number of detections, is "
        f"{digits(findings.calibration.d_ece, 3)} over the score and {digits(findings.d_ece_by_size, 3)} over score "
        "and box size. 0 is calibrated. Low scores dominate it, because most detections have them."
    )
    return Section("Calibration", text, pictures=_named(pictures, "reliability"))


def _tags(findings: Findings) -> Section:
    rows = [
        (
            one.tag,
            one.value,
            one.num_images,
            one.num_objects,
            digits(one.metrics["AP"], 3),
            digits(one.metrics["AP50"], 3),
        )
        for one in findings.tags
    ]
    number = findings.num_untagged
    left = f" {number:,} image{' has' if number == 1 else 's have'} no tag." if number else ""
    table = Table(("tag", "value", "images", "objects", "AP", "AP50"), rows, numeric=("AP", "AP50"))
    return Section("Tags", f"Metrics of the images with each value of your tags.{left}", [table])


def _training(run: RunRecords, pictures: Mapping[str, Picture]) -> Section:
    values = {
        f"{section}.{key}": run.config[section][key]
        for section, keys in _RUN_KEYS.items()
        for key in keys
        if isinstance(run.config.get(section), Mapping) and key in run.config[section]
    }
    shown = _named(pictures, "ap", "loss", "learning-rate", "speed", "memory")
    steps = ", ".join(map(str, run.resumes))
    often = f"{len(run.resumes)} times, at steps" if len(run.resumes) > 1 else "once, at step"
    resumed = f"It was resumed {often} {steps}."
    tables = [*([_table(values)] if values else []), *_drawn(run)]
    return Section("Training", resumed if run.resumes else "", tables, shown)


def _drawn(run: RunRecords) -> list[Table]:
    """Return what an epoch drew, if it did not draw every image once."""
    rows = [
        (name.removeprefix("objects/") if name.startswith("objects/") else name.replace("_", " "), round(number))
        for name, number in drawn_per_epoch(run).items()
    ]
    header = ("images, and objects of each class", "drawn in an epoch, on average")
    return [Table(header, rows)] if rows else []


def _bands(run: RunRecords, pictures: Mapping[str, Picture]) -> list[Section]:
    bands = last_bands(run)
    if not bands:
        return []
    columns = ("LL", "cH", "cV", "cD", "outside")
    rows = [(path, *(f"{fraction:.1%}" for fraction in fractions)) for path, fractions in bands]
    text = "Where the energy of the downsamplers' weights lies at the last evaluation. The mean of a block is in LL."
    return [Section("Wavelet bands", text, [Table(("module", *columns), rows, columns)], _named(pictures, "bands"))]


def _named(pictures: Mapping[str, Picture], *names: str) -> list[Picture]:
    return [pictures[name] for name in names if name in pictures]


def _table(values: Mapping[str, Any]) -> Table:
    return Table(("key", "value"), [(key, _shown(value)) for key, value in values.items()])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _between(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
