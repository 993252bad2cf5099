"""Read and check the data of a run before it starts. An error says why a split cannot be used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rfdetr_hwd.checkpoint.data_root import locate_data
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.augmentation import Augmentation
from rfdetr_hwd.data.dataset import DetectionDataset
from rfdetr_hwd.data.decoding_threads import measure_split
from rfdetr_hwd.data.deep_images import describe_bit_depth
from rfdetr_hwd.data.detect import find_data, read_options, say_remarks
from rfdetr_hwd.data.findings import DatasetError, Findings, check_allowed
from rfdetr_hwd.data.holdout import HeldOut
from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.data.layout import Split
from rfdetr_hwd.data.loader import Partition, TrainLoader, TrainOrder, multi_scale_resolutions
from rfdetr_hwd.data.quarantine import MAX_FRACTION, Quarantine, probe_images
from rfdetr_hwd.data.read import scan_split
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.data.sampling import build_sampler
from rfdetr_hwd.data.workers import Workers
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.training.validation_split import hold_out, refuse_val_split

_WITHOUT_OBJECTS: Mapping[str, str] = {
    "train": "there is nothing to learn. Correct the annotations, or name another split with data.train",
    "val": "there is nothing to evaluate on. Correct the annotations, name another split with data.val, or hold out "
    "training images with `rfdetr-hwd data split`",
}


class RunData(NamedTuple):
    """The training and validation data of a run.

    Attributes:
        train: The training split.
        val: The validation split.
        root: Directory of the dataset.
        held_out: Images held out of the training split for validation, if any.
    """

    train: DetectionData
    val: DetectionData
    root: Path
    held_out: HeldOut | None = None


def read_data(config: Config, recorded: HeldOut | None = None) -> RunData:
    """Read the annotations, and decode a sample of the images to check that the dataset can be trained on.

    Args:
        config: The configuration.
        recorded: Images that a resumed run held out.

    Returns:
        The splits, with the options for reading their images.

    Raises:
        ConfigError: Images are to be held out, but the dataset has a validation split.
        DatasetError: A split has errors that are not accepted, or too many unreadable images.
    """
    # Find and read the splits.
    settings = config.data
    check_allowed(settings.allow)
    layout = find_data(locate_data(settings, Path(config.output.dir)))
    if settings.val_fraction is None:
        train_split, val_split = layout.split("train"), layout.split("val")
        data = RunData(_read_split(train_split, config), _read_split(val_split, config), layout.root)
    else:
        refuse_val_split(layout, settings)
        parts = hold_out(_read_split(layout.split("train"), config), settings, recorded)
        data = RunData(parts.train, parts.val, layout.root, parts.held_out)
    # Compare the classes of the splits.
    train_data, val_data = data.train, data.val
    classes = val_data.map_classes(train_data.class_names)
    if classes.only_dataset and "classes_differ" not in settings.allow:
        raise DatasetError(
            f"{val_data.images} has classes that {train_data.images} lacks: {classes.describe_difference()}. Rename "
            "them, or accept the difference with data.allow=[classes_differ]"
        )
    # Report the data.
    if distributed.is_main():
        names = ", ".join(train_data.class_names[:8]) + (", ..." if len(train_data.class_names) > 8 else "")
        say(f"data: {layout.root} ({layout.format}), {len(train_data)} training and {len(val_data)} validation images")
        needed: tuple[Role, ...] = ("train", "val") if data.held_out is None else ("train",)
        say_remarks(layout, needed)
        if data.held_out is not None:
            num_images = len(train_data) + len(val_data)
            say(f"held out for validation: {len(val_data)} of {num_images} images ({data.held_out.describe()})")
        say(f"classes: {len(train_data.class_names)} ({names})")
        if classes.only_model:
            say(f"classes without ground truth in {val_data.name}: {', '.join(classes.only_model)}")
    # Settle how images are read, and decode a sample. Rank 0 does it for all ranks.
    options = _find_options(train_data, val_data, config) if distributed.is_main() else train_data.options
    options = distributed.broadcast_object(options)
    train_data, val_data = (replace(data, options=options) for data in (train_data, val_data))
    problem = _probe([train_data, val_data], config) if distributed.is_main() else None
    problem = distributed.broadcast_object(problem)
    if problem is not None:
        raise DatasetError(problem)
    return data._replace(train=train_data, val=val_data)


def _read_split(split: Split, config: Config) -> DetectionData:
    """Read a split. `data.on_bad_image` decides whether unreadable images end the run, in every format."""
    findings = Findings()
    data = scan_split(split, findings, read_options(config.data))
    # Skip unreadable images, if that is allowed and they are few.
    allow = list(config.data.allow)
    num_unreadable = findings.counts["unreadable_image"]  # in YOLO and shards, boxes need the image size
    if config.data.on_bad_image == "quarantine" and num_unreadable <= MAX_FRACTION * (len(data) + num_unreadable):
        allow.append("unreadable_image")
        if num_unreadable and distributed.is_main():
            first = findings.examples["unreadable_image"][0]
            say(f"{split.name}: {num_unreadable} images cannot be read and are skipped, the first: {first}")
    if lack := data.describe_lack():
        advice = _WITHOUT_OBJECTS[split.role or "train"]
        findings.add("no_boxes", split.annotations, split.name, f"{lack}: {advice}")
    findings.refuse_errors(allow)
    notices = ", ".join(f"{kind} {findings.counts[kind]}" for kind in findings.kinds("notice"))
    if notices and distributed.is_main():
        say(f"notices of {split.name}: {notices}. `rfdetr-hwd data check` explains them")
    return data


def _find_options(train_data: DetectionData, val_data: DetectionData, config: Config) -> ReadOptions:
    """Return how images are read. An open bit depth is detected from the training images and reported."""
    seed, options = config.train.seed, train_data.options
    held, is_open = measure_split(train_data, seed), config.data.bit_depth == "auto"
    if is_open:
        options = replace(options, bit_depth=held.bit_depth)
    for data, values, is_found in ((train_data, held, is_open), (val_data, measure_split(val_data, seed), False)):
        for kind, reason in describe_bit_depth(values, options.bit_depth, is_found):
            if data is train_data or kind == "clipped_values" or not is_open:
                say(f"{data.name}: {reason}")
    return options


def _probe(splits: Sequence[DetectionData], config: Config) -> str | None:
    """Decode some images before the first epoch. Return why they cannot be used, or `None`."""
    for data in splits:
        try:
            bad = probe_images(data, config.train.seed)
        except DatasetError as error:
            return str(error)
        if bad and config.data.on_bad_image == "fail":
            return bad[0].reason
        if bad:
            say(f"{data.name}: {len(bad)} images cannot be read, the first: {bad[0].reason}")
    return None


def build_train_loader(
    config: Config, model: BuiltModel, data: DetectionData, quarantine: Path, look: Callable[[], None]
) -> TrainLoader:
    """Return the loader of this rank.

    Args:
        config: The configuration.
        model: Decides the resolutions and how images are resized.
        data: The training split.
        quarantine: File that lists unreadable images.
        look: Called while waiting for a batch. An exception from it ends the loading.

    Raises:
        ConfigError: `train.last_batch=drop` leaves no batch, or there are no background images to draw.
    """
    # Settle the order of the images, a pure function of seed and epoch.
    train = config.train
    side = model.stock.resolution
    sides = multi_scale_resolutions(side, model.stock.resolution_step) if train.multi_scale else [side]
    augmentation = Augmentation.of_run(config.data.augment, train.seed, train.epochs)
    sampler = build_sampler(data, config.data, train)
    num_images = len(data) if sampler is None else sampler.num_drawn
    order = TrainOrder(num_images, train.batch_size, train.seed, sides, train.last_batch, sampler)
    if not order.steps_per_epoch:
        raise ConfigError(
            f"train.last_batch=drop leaves nothing to train on: {data.name} has {len(data)} images, fewer than "
            f"train.batch_size={train.batch_size}. Set train.last_batch=fill, or a smaller train.batch_size"
        )
    # Build the loader.
    partition = Partition(distributed.rank(), distributed.world_size())
    dataset = DetectionDataset(data, augmentation, model.resize, config.data.on_bad_image)
    workers = Workers(config.data.workers, config.data.worker_timeout, look)
    if distributed.is_main():
        say(f"data loader: {workers.describe()}")
        if sampler is not None:
            say(sampler.describe())
    return TrainLoader(dataset, order, workers, partition, Quarantine(quarantine, len(data)))
