"""The model card of a hub directory: front matter that a hub reads, then Markdown for people."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from rfdetr_hwd.checkpoint.schema import DataIdentity
from rfdetr_hwd.console import digits, printable
from rfdetr_hwd.evaluation.coco import COCO_METRICS
from rfdetr_hwd.export.card_facts import CardFacts

_SHOWN_CLASSES = 20

_USE = Path(__file__).with_name("card_use.md")
"""How to use a hub directory, as the card says it."""


def build_card(facts: CardFacts, license: str) -> str:
    """Return README.md.

    Args:
        facts: What is known of the model.
        license: Licence of the weights, as a hub names it.
    """
    front = yaml.safe_dump(_front_matter(facts, license), sort_keys=False, allow_unicode=True)
    sections = {
        "Use": _USE.read_text(encoding="utf-8").strip(),
        "Metrics": "\n".join(_metrics(facts)),
        "Data": "\n".join(_data(facts)),
        "Training": _table(("setting", "value"), _training(facts)),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(facts)),
        "Licence": _licence(license),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"---\n{front}---\n\n# {_title(facts)}\n\n{_lead(facts)}\n\n{body}\n"


def _front_matter(facts: CardFacts, license: str) -> dict[str, Any]:
    shown = {"AP": "AP (IoU 0.50:0.95)", "AP50": "AP50", "AP75": "AP75"}
    measured = [
        {"type": "mean_average_precision", "name": title, "value": round(value, 4)}
        for name, title in shown.items()
        if (value := facts.metrics.get(name)) is not None
    ]
    front: dict[str, Any] = {
        "license": license,
        "library_name": "rfdetr-hwd",
        "pipeline_tag": "object-detection",
        "tags": ["object-detection", "rf-detr", "wavelet", "safetensors"],
    }
    if measured:
        dataset = {"type": facts.data_name, "name": facts.data_name, "split": str(facts.protocol.get("split", "val"))}
        task = {"type": "object-detection", "name": "Object detection"}
        front["model-index"] = [
            {"name": _title(facts), "results": [{"task": task, "dataset": dataset, "metrics": measured}]}
        ]
    return front


def _title(facts: CardFacts) -> str:
    return f"RF-DETR {facts.config.model.variant}, trained with {facts.config.downsample.name} on {facts.data_name}"


def _lead(facts: CardFacts) -> str:
    names = ", ".join(_cell(name) for name in facts.class_names[:_SHOWN_CLASSES])
    more = f" and {len(facts.class_names) - _SHOWN_CLASSES} more" if len(facts.class_names) > _SHOWN_CLASSES else ""
    return (
        f"An object detector for {len(facts.class_names)} classes: {names}{more}.\n\n"
        f"It was trained with the downsampler `{facts.config.downsample.name}` at the {facts.config.downsample.site}, "
        "which is folded: the weights are those of stock RF-DETR."
    )


def _metrics(facts: CardFacts) -> Iterator[str]:
    if all(facts.metrics.get(name) is None for name in COCO_METRICS):
        yield "Not evaluated."
        return
    names = [*COCO_METRICS, *sorted(name for name in facts.metrics if name.startswith("AP/"))]
    rows = []
    for name in filter(facts.metrics.__contains__, names):
        low, high = facts.intervals.get(name, (None, None))
        between = "-" if low is None else f"{digits(low, 3)} to {digits(high, 3)}"
        rows.append((name, digits(facts.metrics.get(name), 3), between))
    yield _table(("metric", "value", "95 % interval"), rows)
    yield ""
    if facts.intervals:
        yield "The intervals are about other images of the same kind, for these weights. Another seed differs, too."
    else:
        yield "There are no intervals: these weights were not evaluated on their own."
    split = facts.protocol.get("split", "the validation split")
    count = facts.validation_data.images
    yield f"Measured on {_cell(split)}" + (f", {count:,} images." if not facts.protocol else ".")
    protocol = {name: value for name, value in facts.protocol.items() if name not in ("data", "checkpoint")}
    if protocol:
        yield ""
        yield _table(("protocol", "value"), protocol.items())


def _data(facts: CardFacts) -> Iterator[str]:
    rows = [(name, f"{data.images:,}", f"{data.boxes:,}", f"`{data.sha256}`") for name, data in _splits(facts)]
    yield _table(("split", "images", "boxes", "sha256 of the annotations"), rows)
    data = facts.config.data
    if data.val_fraction is not None:
        part = f", part {data.val_part}" if data.val_part is not None else ""
        held = f"{data.val_fraction:g} of the training images, drawn with seed {data.val_seed}{part}"
        yield f"\nThe validation images were held out of the training split: {held}."


def _splits(facts: CardFacts) -> Sequence[tuple[str, DataIdentity]]:
    return ("training", facts.training_data), ("validation", facts.validation_data)


def _training(facts: CardFacts) -> Iterator[tuple[str, object]]:
    config, start = facts.config, facts.start
    model, train = config.model, config.train
    source = "random" if model.pretrain_weights is None else "COCO, published by RF-DETR"
    yield "initial weights", source if model.pretrain_weights in (None, "auto") else "an earlier training"
    yield "input", f"{facts.resolution} x {facts.resolution} pixels, {facts.resize}"
    yield "levels", "+".join(model.levels)
    yield "steps", f"{facts.step:,} of batch size {train.batch_size}; {train.epochs} epochs were planned"
    yield "learning rate", f"{train.lr:g}, encoder {train.lr_encoder:g}, {train.schedule}"
    yield "seed", train.seed
    yield "weights", "exponential moving average (EMA)" if facts.weights == "ema" else "raw"
    if facts.threshold is not None:
        yield "confidence threshold", f"{facts.threshold:.3f}, of the best F1 on the validation images"
    environment, git = start.get("environment", {}), start.get("git")
    if precision := start.get("precision"):
        yield "precision", precision
    if environment:
        packages = environment.get("packages", {})
        versions = {"rfdetr-hwd": environment.get("rfdetr_hwd"), **{n: packages.get(n) for n in ("rfdetr", "torch")}}
        yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        devices = [str(device.get("name")) for device in environment.get("devices", [])]
        yield "devices", ", ".join(devices) or "CPU"
    if isinstance(git, dict):
        changed = f", {git.get('num_changed')} files changed" if git.get("num_changed") else ""
        yield "commit", f"{git.get('commit')}{changed}"


def _limits(facts: CardFacts) -> Iterator[str]:
    yield "It was measured on no other images than the ones above. Images of another kind may give other results."
    yield "The checkpoint was chosen by its AP on the validation images, which makes that AP a little too high."
    yield "It is one training with one seed."
    yield f"It finds at most {facts.num_select} objects in an image."
    small = facts.metrics.get("AP_small")
    if small is not None:
        yield f"Objects under 32 x 32 pixels: AP {small:.3f}."
    bare = [name for name in facts.class_names if facts.metrics.get(f"AP/{name}", 0.0) is None]
    if bare:
        yield f"Classes without objects in the evaluated images: {', '.join(map(_cell, bare))}."
    yield "It finds the classes above alone, and names the nearest of them for other objects."


def _licence(license: str) -> str:
    chosen = f"The weights: {license}." if license != "unknown" else "No licence was chosen for the weights."
    return (
        f"{chosen} The training images have their own licence. RF-DETR is by Roboflow, Apache-2.0; rfdetr-hwd is "
        "Apache-2.0."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: object) -> str:
    """Return a value as text of one line without markup: a class may be called `a | b` or `<img>`."""
    text = printable(" ".join(str(value).split()))
    for mark in "\\|<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text
