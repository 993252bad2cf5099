"""A directory for a model hub: stock RF-DETR as safetensors, its configuration and preprocessing, and a model card.

DIR/
    README.md                   the model card, from what the run recorded
    model.safetensors           weights with the keys of stock RF-DETR
    config.json                 the model configuration of rfdetr, and the class names
    preprocessor_config.json    how an image becomes an input
    record.json, manifest.json  what `Detector.load` reads: the directory is a checkpoint of rfdetr-hwd, too
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rfdetr_hwd.checkpoint.read import HUB_WEIGHTS, MANIFEST, RECORD
from rfdetr_hwd.checkpoint.schema import Record
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.checkpoint.write import write_hub_files
from rfdetr_hwd.console import say
from rfdetr_hwd.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import writing
from rfdetr_hwd.export.card import build_card
from rfdetr_hwd.export.card_facts import gather_facts
from rfdetr_hwd.export.formats import make_room
from rfdetr_hwd.export.parity import check_released, check_reloaded
from rfdetr_hwd.files import replace_text
from rfdetr_hwd.model.fold import fold_model
from rfdetr_hwd.model.release import describe_rfdetr, load_released, save_rfdetr
from rfdetr_hwd.model.rfdetr import StockModel
from rfdetr_hwd.model.swap import FOLDED

CARD, CONFIG, PREPROCESSOR = "README.md", "config.json", "preprocessor_config.json"
FILES = (CARD, HUB_WEIGHTS, CONFIG, PREPROCESSOR, RECORD, MANIFEST)
"""All files of the directory, and the only ones that are pushed."""


def export_hub(detector: Detector, out: Path, images: Tensor, license: str = "unknown") -> None:
    """Fold, write the directory, load it again, and compare before reporting success.

    Args:
        detector: The trained model.
        out: A new or empty directory.
        images: Images to compare raw outputs on, (N, 3, R, R), from `sample_images`.
        license: Licence of the weights, as a hub names it, such as `apache-2.0`.

    Raises:
        UserError: The downsampler does not fold, the directory cannot be written, or the comparison fails.
    """
    make_room("hub", out)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
        # Fold, and check that rfdetr itself loads these keys
        folder, checkpoint = Path(scratch) / "hub", Path(scratch) / "stock.pth"
        stock = fold_model(detector.model)
        save_rfdetr(stock, detector.class_names, checkpoint)
        check_released(detector, load_released(checkpoint), stock.network, images)

        # Write the files, and load them as users do
        facts = gather_facts(detector)
        with writing("--out", out):
            folder.mkdir()
            write_hub_files(folder, _state(detector), _record(detector), stock.network.state_dict())
            replace_text(folder / CONFIG, _as_text(_describe_model(detector, stock)))
            replace_text(folder / PREPROCESSOR, _as_text(describe_preprocessing(detector)))
            replace_text(folder / CARD, build_card(facts, license))
        check_reloaded(detector, Detector.load(folder), images)

        # Move the directory to its place
        with writing("--out", out):
            if out.is_dir():
                out.rmdir()  # it is empty
            shutil.move(folder, out)
    if not facts.intervals:
        run = detector.checkpoint.run
        say(f"note: the card has no intervals. For them, run `rfdetr-hwd evaluate --weights {run}`, and export again")


def describe_preprocessing(detector: Detector) -> dict[str, Any]:
    """Return how an image becomes an input, with the names that hubs use where they have one."""
    side, bits = detector.resolution, detector.options.bit_depth
    return {
        "size": {"height": side, "width": side},
        "do_resize": True,
        "resize": detector.model.resize,
        "resample": 2,  # Pillow's BILINEAR, which is antialiased
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "do_convert_rgb": True,
        "bit_depth": bits,
        "exif": "ignore" if detector.options.exif == "ignore" else "apply",
    }


def _describe_model(detector: Detector, stock: StockModel) -> dict[str, Any]:
    names = detector.class_names
    return {
        "model_type": "rf-detr",
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": {name: label for label, name in enumerate(names)},
        "num_labels": len(names),
        "rfdetr": describe_rfdetr(stock, names),
    }


def _record(detector: Detector) -> Record:
    """Return the record of the folded model. Absolute paths of the training become their last part."""
    record = detector.checkpoint.record
    config = detector.config.model_dump(mode="json")
    config["downsample"] = {"name": FOLDED, "site": detector.config.downsample.site}
    return record.model_copy(update={"config": without_places(config)})


def without_places(value: Any) -> Any:
    """Return plain values with each absolute path replaced by its last part: a hub need not know whose disk it was."""
    if isinstance(value, Mapping):
        return {name: without_places(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(part) for part in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _state(detector: Detector) -> TrainState:
    """Return the position of the weights, with their metrics and thresholds as those of raw weights."""
    state, prefix = detector.checkpoint.state, f"{detector.weights}/"
    found = {name: value for name, value in state.current_metrics.items() if name.startswith(prefix)}
    metrics = {f"raw/{name.removeprefix(prefix)}": value for name, value in found.items()}
    return TrainState(
        step=state.step,
        epoch=state.epoch,
        best_ap=metrics.get("raw/AP"),
        best_step=state.step,
        best_weights="raw",
        metrics=metrics,
        metrics_step=state.step if metrics else 0,
    )


def _as_text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, default=_plain) + "\n"


def _plain(value: object) -> object:
    """Return a value of rfdetr's configuration that JSON has no type for as text."""
    return str(value) if not isinstance(value, torch.dtype) else str(value).removeprefix("torch.")
