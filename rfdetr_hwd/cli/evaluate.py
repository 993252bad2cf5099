"""`rfdetr-hwd evaluate`: measure a checkpoint on a split."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rfdetr_hwd.amp import describe_precision
from rfdetr_hwd.checkpoint.record import read_options, recorded_config
from rfdetr_hwd.config.load import load_config, with_bit_depth
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.console import digits, print_table, say
from rfdetr_hwd.data.annotations import ClassMap, DetectionData
from rfdetr_hwd.data.decode import measure_split
from rfdetr_hwd.data.deep_images import describe
from rfdetr_hwd.data.layouts import read_split
from rfdetr_hwd.data.open import find_data
from rfdetr_hwd.data.shared_memory import foresee_shortage
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.evaluation.coco import COCO_FIGURES, CocoMetric
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.files import replace_text
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.launch import num_local_ranks
from rfdetr_hwd.runtime.process_group import process_group
from rfdetr_hwd.training.limits import say_ap_limit
from rfdetr_hwd.training.validation_split import read_validation


def run(
    weights: Path,
    config: Path | None,
    split: Literal["val", "test"],
    out: Path | None,
    which: Literal["auto", "ema", "plain"],
    overrides: list[str],
) -> None:
    """Evaluate a checkpoint and write `metrics.json`, `predictions.json` and `images.json`.

    Args:
        weights: Run folder (its best checkpoint) or checkpoint folder.
        config: Take data, precision and evaluation from this file instead of the checkpoint.
        split: Which split.
        out: Where the files go; by default `evaluate-SPLIT` in the run folder.
        which: Averaged or plain weights; `auto`: what the training found better.
        overrides: `key=value` assignments.

    Raises:
        UserError: What the user gave is wrong.
    """
    with process_group() as device:
        of_model = [text for text in overrides if text.startswith("model.")]  # the file says nothing of the model
        detector = Detector.load(weights, which, of_model if config else overrides)
        settings = load_config(config, overrides) if config else detector.config
        settings = with_bit_depth(settings, detector.config.data.bit_depth)
        if split == "val":
            data = read_validation(settings.data, detector.checkpoint)
        else:
            data = read_split(find_data(settings.data).split(split), settings.data.allow, read_options(settings.data))
        classes = data.map_classes(detector.class_names)
        evaluation = Evaluation.build(detector.model, data, settings, device)
        if distributed.is_main():
            foresee_shortage({"evaluation": evaluation.loader.largest_batch}, settings.data.workers, num_local_ranks())
        folder = _make_folder(out or _default_folder(weights, split))
        figures = evaluation.measure(detector.network)
        if distributed.is_main():
            for _, reason in describe(measure_split(data, settings.train.seed), data.options.bit_depth):
                say(f"{data.name}: {reason}")
            _write(folder, figures, evaluation.metric, _protocol(detector, settings, evaluation, data))
            _write_images(folder, data)
            if (trained := recorded_config(detector.checkpoint).data.exif) != settings.data.exif:
                say(f"data.exif is {settings.data.exif} here, and was {trained} in training")
            _say_classes(classes)
            say_ap_limit(data, settings.evaluation.max_dets)
            if evaluation.unreadable:
                say(f"images that cannot be read, their objects counted as missed: {len(evaluation.unreadable)}")
            _print_figures(
                f"{data.images}, {data.name}\n{detector.weights} weights of {detector.checkpoint.path}", figures
            )
            say(f"figures: {folder / 'metrics.json'}\ndetections: {folder / 'predictions.json'}")
            say(f"their images and categories, by id: {folder / 'images.json'}")


def _make_folder(folder: Path) -> Path:
    """Make the output folder before anything long is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {folder}: {error.strerror}") from None
    return folder


def _say_classes(classes: ClassMap) -> None:
    """Say which classes only one side has, and what that does to the figures."""
    if classes.only_model:
        say(f"classes that only the model has, not measured: {', '.join(classes.only_model)}")
    if classes.only_dataset:
        say(f"classes that only the dataset has, with an AP of 0 in the mean: {', '.join(classes.only_dataset)}")


def _protocol(detector: Detector, settings: Config, evaluation: Evaluation, data: DetectionData) -> dict[str, Any]:
    return {
        **evaluation.metric.protocol,
        "num_select": detector.model.stock.config.num_select,
        "images_unreadable": sorted(evaluation.unreadable),
        "data": str(data.images),
        "split": data.name,
        "bit_depth": data.options.bit_depth,
        "exif": data.options.exif,
        "resolution": detector.resolution,
        "preprocessing": f"{detector.model.resize} into a square, bilinear, antialiased",
        **describe_precision(settings, detector.device),
        "weights": detector.weights,
        "weights_sha256": detector.checkpoint.weights_sha256(detector.weights),
        "checkpoint": str(detector.checkpoint.path),
        "step": detector.checkpoint.step,
    }


def _write(folder: Path, figures: dict[str, float | None], metric: CocoMetric, protocol: dict[str, Any]) -> None:
    contents = {"predictions.json": metric.detections, "metrics.json": {"figures": figures, "protocol": protocol}}
    for name, content in contents.items():
        replace_text(folder / name, json.dumps(content, indent=2 if name == "metrics.json" else None))


def _write_images(folder: Path, data: DetectionData) -> None:
    """Write what the ids in `predictions.json` stand for: COCO's format of results names neither file nor class."""
    truth = data.ground_truth()
    images = [
        {**image, "file_name": str(name)} for image, name in zip(truth["images"], data.file_names.tolist(), strict=True)
    ]
    content = {"root": str(data.images), "images": images, "categories": truth["categories"]}
    replace_text(folder / "images.json", json.dumps(content))


def _default_folder(weights: Path, split: str) -> Path:
    """Return `evaluate-SPLIT` in the run folder, or beside a lone checkpoint's data."""
    resolved = weights.resolve()
    run = weights if (weights / "config.yaml").exists() else resolved.parent.parent
    return (run if (run / "config.yaml").exists() else weights) / f"evaluate-{split}"


def _print_figures(title: str, figures: Mapping[str, float | None]) -> None:
    """Print COCO's figures, four digits each, and the AP of each class."""
    extra = [name for name in figures if name.startswith("AP@")]
    names = [*COCO_FIGURES, *extra]
    print_table(title, ("figure", "value"), [(name, digits(figures[name])) for name in names])
    classes = [(name.removeprefix("AP/"), digits(value)) for name, value in figures.items() if name.startswith("AP/")]
    print_table("AP of each class", ("class", "AP"), classes)
