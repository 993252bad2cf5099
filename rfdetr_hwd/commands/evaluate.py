"""`rfdetr-hwd evaluate`: measure a checkpoint on a split."""

import json
from pathlib import Path
from typing import Any, Literal

from rfdetr_hwd.commands.console import print_figures, say
from rfdetr_hwd.config import Config, load_config, parse_config
from rfdetr_hwd.data.loader import DetectionDataset, EvalLoader, Share
from rfdetr_hwd.data.source import check_images_exist, find_layout, read_split
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.engine import distributed
from rfdetr_hwd.engine.evaluator import evaluate
from rfdetr_hwd.metrics.coco import CocoMetric


def run(
    weights: Path,
    config: Path | None,
    split: Literal["val", "test"],
    out: Path | None,
    which: Literal["auto", "ema", "plain"],
    overrides: list[str],
) -> None:
    """Evaluate a checkpoint and write `metrics.json` and `predictions.json`.

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
    with distributed.process_group() as device:
        detector = Detector.load(weights, which)
        settings = _settings(detector.config, config, overrides)
        layout = find_layout(settings.data.root, settings.data.format)
        data = read_split(layout.split(split, settings.data.val if split == "val" else settings.data.test))
        check_images_exist(data)
        metric = CocoMetric(
            data.ground_truth(),
            data.category_ids_of(detector.class_names),
            settings.evaluation.max_dets,
            settings.evaluation.backend,
        )
        loader = EvalLoader(
            DetectionDataset(data),
            detector.resolution,
            settings.evaluation.batch_size,
            settings.data.workers,
            Share(distributed.rank(), distributed.world_size()),
        )
        figures = evaluate(detector.network, loader, detector.postprocess, metric, settings, device)
        if distributed.is_main():
            folder = out or _default_folder(weights, split)
            _write(folder, figures, metric, _protocol(detector, settings, metric, str(data.images)))
            print_figures(f"{data.images} with {detector.weights} weights of {detector.checkpoint.path}", figures)
            say(f"figures: {folder / 'metrics.json'}\ndetections: {folder / 'predictions.json'}")


def _settings(recorded: Config, config: Path | None, overrides: list[str]) -> Config:
    """Return data, precision and evaluation as asked, and the model as the checkpoint records it."""
    asked = load_config(config, overrides) if config else parse_config(recorded.model_dump(mode="json"), overrides)
    return asked.model_copy(update={"model": recorded.model, "downsample": recorded.downsample})


def _protocol(detector: Detector, settings: Config, metric: CocoMetric, images: str) -> dict[str, Any]:
    return {
        **metric.protocol,
        "data": images,
        "resolution": detector.resolution,
        "preprocessing": "square resize, bilinear, antialiased",
        "precision": "bfloat16 autocast" if settings.amp and detector.device.type == "cuda" else "float32",
        "weights": detector.weights,
        "weights_sha256": detector.checkpoint.weights_sha256(detector.weights),
        "checkpoint": str(detector.checkpoint.path),
        "step": detector.checkpoint.step,
    }


def _write(folder: Path, figures: dict[str, float], metric: CocoMetric, protocol: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"figures": figures, "protocol": protocol}
    (folder / "metrics.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    (folder / "predictions.json").write_text(json.dumps(metric.detections), encoding="utf-8")


def _default_folder(weights: Path, split: str) -> Path:
    """Return `evaluate-SPLIT` in the run folder, or beside a lone checkpoint's data."""
    resolved = weights.resolve()
    run = weights if (weights / "config.yaml").exists() else resolved.parent.parent
    return (run if (run / "config.yaml").exists() else weights) / f"evaluate-{split}"
