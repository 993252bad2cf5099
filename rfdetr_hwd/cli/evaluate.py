"""`rfdetr-hwd evaluate`: evaluate a checkpoint with COCO metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rfdetr_hwd.cli.options import Overrides, WeightsKind, WeightsPath
from rfdetr_hwd.console import digits, print_table, say
from rfdetr_hwd.errors import writing

if TYPE_CHECKING:
    from rfdetr_hwd.config.schema import Config
    from rfdetr_hwd.data.annotations import ClassMap, DetectionData
    from rfdetr_hwd.detector import Detector


def evaluate(
    weights: WeightsPath,
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of the data settings, instead of the checkpoint's.")
    ] = None,
    split: Annotated[Literal["val", "test"], typer.Option(help="Split to evaluate on.")] = "val",
    which: WeightsKind = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for metrics and detections.", show_default="evaluate-SPLIT in the run directory"),
    ] = None,
) -> None:
    """Evaluate a checkpoint with COCO metrics."""
    from rfdetr_hwd.amp import describe_precision
    from rfdetr_hwd.checkpoint.record import recorded_config
    from rfdetr_hwd.config.load import load_config, with_bit_depth
    from rfdetr_hwd.data.decode import measure_split
    from rfdetr_hwd.data.deep_images import describe
    from rfdetr_hwd.data.shared_memory import foresee_shortage
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.evaluation.measurement import Evaluation
    from rfdetr_hwd.evaluation.results import write_results
    from rfdetr_hwd.runtime import distributed
    from rfdetr_hwd.runtime.launch import num_local_ranks
    from rfdetr_hwd.runtime.process_group import process_group
    from rfdetr_hwd.training.limits import say_ap_limit

    overrides = overrides or []
    with process_group() as device:
        # Load the checkpoint, whose model a configuration file does not change
        of_model = [text for text in overrides if text.startswith("model.")]
        detector = Detector.load(weights, which, of_model if config else overrides)
        settings = load_config(config, overrides) if config else detector.config
        settings = with_bit_depth(settings, detector.config.data.bit_depth)

        # Read the split with the preprocessing of the training
        data = _read_split(detector, settings, split)
        classes = data.map_classes(detector.class_names)

        # Evaluate, after the output directory is made, so that an error there comes early
        evaluation = Evaluation.build(detector.model, data, settings, device)
        folder = out or _default_folder(weights, split)
        with writing("--out", folder):
            folder.mkdir(parents=True, exist_ok=True)
        if distributed.is_main():
            foresee_shortage({"evaluation": evaluation.loader.largest_batch}, settings.data.workers, num_local_ranks())
        metrics = evaluation.measure(detector.network)
        if not distributed.is_main():
            return

        # Write the files, and report what limits the metrics
        protocol = {
            **evaluation.metric.protocol,
            "images_unreadable": sorted(evaluation.unreadable),
            **_describe_data(data),
            **describe_precision(settings, detector.device),
            **_describe_model(detector),
        }
        write_results(folder, metrics, protocol, evaluation.metric.detections, data)
        for _, reason in describe(measure_split(data, settings.train.seed), data.options.bit_depth):
            say(f"{data.name}: {reason}")
        if (trained := recorded_config(detector.checkpoint).data.exif) != settings.data.exif:
            say(f"data.exif is {settings.data.exif} here, but was {trained} in training")
        _say_classes(classes)
        say_ap_limit(data, settings.evaluation.max_dets)
        if evaluation.unreadable:
            say(f"unreadable images, whose objects count as missed: {len(evaluation.unreadable)}")

        # Print the metrics
        title = f"{data.images}, {data.name}\n{detector.weights} weights of {detector.checkpoint.path}"
        _print_metrics(title, metrics)
        say(f"metrics: {folder / 'metrics.json'}\ndetections: {folder / 'predictions.json'}")
        say(f"images and categories by id: {folder / 'images.json'}")


def _default_folder(weights: Path, split: str) -> Path:
    """Return `evaluate-SPLIT` in the run directory, or in the checkpoint directory without a run."""
    resolved = weights.resolve()
    run = weights if (weights / "config.yaml").exists() else resolved.parent.parent
    return (run if (run / "config.yaml").exists() else weights) / f"evaluate-{split}"


def _read_split(detector: "Detector", settings: "Config", split: Literal["val", "test"]) -> "DetectionData":
    from rfdetr_hwd.checkpoint.record import read_options
    from rfdetr_hwd.data.layouts import read_split
    from rfdetr_hwd.data.open import find_data
    from rfdetr_hwd.training.validation_split import read_validation

    if split == "val":
        return read_validation(settings.data, detector.checkpoint)
    return read_split(find_data(settings.data).split(split), settings.data.allow, read_options(settings.data))


def _describe_data(data: "DetectionData") -> dict[str, Any]:
    return {
        "data": str(data.images),
        "split": data.name,
        "bit_depth": data.options.bit_depth,
        "exif": data.options.exif,
    }


def _describe_model(detector: "Detector") -> dict[str, Any]:
    return {
        "num_select": detector.model.stock.config.num_select,
        "resolution": detector.resolution,
        "preprocessing": f"{detector.model.resize} into a square, bilinear, antialiased",
        "weights": detector.weights,
        "weights_sha256": detector.checkpoint.weights_sha256(detector.weights),
        "checkpoint": str(detector.checkpoint.path),
        "step": detector.checkpoint.step,
    }


def _say_classes(classes: "ClassMap") -> None:
    """Report classes that the model or the dataset lacks, and the effect on the metrics."""
    if classes.only_model:
        say(f"classes only in the model, not evaluated: {', '.join(classes.only_model)}")
    if classes.only_dataset:
        say(f"classes only in the dataset, with an AP of 0 in the mean: {', '.join(classes.only_dataset)}")


def _print_metrics(title: str, metrics: Mapping[str, float | None]) -> None:
    """Print COCO's metrics, four digits each, and the AP of each class."""
    from rfdetr_hwd.evaluation.coco import COCO_METRICS

    names = [*COCO_METRICS, *(name for name in metrics if name.startswith("AP@"))]
    print_table(title, ("metric", "value"), [(name, digits(metrics[name])) for name in names])
    classes = [(name.removeprefix("AP/"), digits(value)) for name, value in metrics.items() if name.startswith("AP/")]
    print_table("AP of each class", ("class", "AP"), classes)
