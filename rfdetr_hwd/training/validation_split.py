"""The splits of a run: the dataset's own, or a validation split that is held out of the training images."""

from dataclasses import replace
from typing import NamedTuple

from rfdetr_hwd.checkpoint.data_root import locate_data
from rfdetr_hwd.checkpoint.read import Checkpoint
from rfdetr_hwd.config.schema import DataSection
from rfdetr_hwd.console import say, watch
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_data, read_options
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.holdout import HeldOut, Watch, choose_held_out, part_held_out
from rfdetr_hwd.data.layout import Layout
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.runtime import distributed


class Parts(NamedTuple):
    """A split that is divided for training and validation."""

    train: DetectionData
    val: DetectionData
    held_out: HeldOut


def refuse_val_split(layout: Layout, settings: DataSection) -> None:
    """Refuse to hold images out where the dataset has a validation split, unless it is one of several parts.

    Raises:
        ConfigError: It has one, or one is named.
    """
    if settings.val_part is not None:  # cross-validation uses the training images alone
        return
    own = layout.names.get("val") is not None or any(split.role == "val" for split in layout.found)
    if own:
        name = layout.split("val").name
        raise ConfigError(
            f"data.val_fraction: {layout.root} has a validation split, {name}. To use it, set data.val_fraction=null"
        )


def hold_out(whole: DetectionData, settings: DataSection, recorded: HeldOut | None) -> Parts:
    """Divide a split as `data.val_fraction` says. Rank 0 chooses, unless a checkpoint has recorded the choice.

    Args:
        whole: The training split.
        settings: Of a run that holds images out.
        recorded: Images that the run held out before.

    Raises:
        DatasetError: The split cannot be divided like this.
    """
    fraction, seed = settings.val_fraction or 0.0, settings.val_seed
    # A recorded choice stands, also for changed annotations: an image that was validated on is not trained on later.
    if (
        recorded is not None
        and recorded.is_chosen_by(settings)
        and set(recorded.image_ids) <= set(whole.image_ids.tolist())
    ):
        kept = replace(recorded, sha256=whole.fingerprint)
        return Parts(*part_held_out(whole, kept), kept)
    found: HeldOut | str = ""
    if distributed.is_main():
        say(f"data.val_fraction: comparing {len(whole)} images, to keep near-duplicates in one split ...")
        try:
            found = choose_held_out(whole, fraction, seed, watch_comparison(whole), settings.val_part)
        except DatasetError as error:
            found = str(error)
    found = distributed.broadcast_object(found)
    if isinstance(found, str):
        raise DatasetError(found)
    return Parts(*part_held_out(whole, found), found)


def watch_comparison(data: DetectionData) -> Watch:
    """Return what shows the progress of comparing the images of a split."""
    return lambda images: watch("comparing images", len(data), images)


def read_validation(settings: DataSection, checkpoint: Checkpoint) -> DetectionData:
    """Read the validation split to evaluate a checkpoint on; see `read_as_trained`."""
    return read_as_trained(settings, checkpoint, find_data(locate_data(settings, checkpoint.run)), "val")


def read_as_trained(settings: DataSection, checkpoint: Checkpoint, layout: Layout, role: Role) -> DetectionData:
    """Read a split as the training of a checkpoint did: images that it held out, if any, are validation images.

    Args:
        settings: Settings of the data.
        checkpoint: The checkpoint.
        layout: The dataset.
        role: Role of the split.

    Raises:
        ConfigError: Images are to be held out that were not held out in training.
        DatasetError: The split cannot be read, has errors, or is not the split that images were held out of.
    """
    # Read the split of the dataset, if it is a whole one.
    if settings.val_fraction is None or role == "test":
        split = read_split(layout.split(role), settings.allow, read_options(settings))
        _say_if_other(split, layout, checkpoint, role)
        return split
    refuse_val_split(layout, settings)
    # Check that these images were held out in training.
    recorded = checkpoint.record.held_out
    if recorded is None or not recorded.is_chosen_by(settings):
        did = f"held images out with {recorded.describe()}" if recorded else "held out nothing"
        raise ConfigError(
            f"data.val_fraction: the training of {checkpoint.path} {did}. It trained on other images. Leave "
            "data.val_fraction, data.val_seed and data.val_part as they were, or set data.val_fraction=null, "
            "data.val_part=null and data.val=NAME"
        )
    # Hold the same images out again.
    whole = read_split(layout.split("train"), settings.allow, read_options(settings))
    if recorded.sha256 != whole.fingerprint:
        raise DatasetError(
            f"{layout.root} is not the dataset that {checkpoint.path} held its validation images out of. To evaluate "
            "on other data, set data.val_fraction=null, data.val_part=null and data.val=NAME"
        )
    return part_held_out(whole, recorded)[1 if role == "val" else 0]


def _say_if_other(split: DetectionData, layout: Layout, checkpoint: Checkpoint, role: Role) -> None:
    """Say that a split is not the one of the training: it changed, or another dataset has its place."""
    record = checkpoint.record
    trained = {"train": record.training_data, "val": record.validation_data}.get(role)
    if trained is not None and trained.sha256 != split.fingerprint and distributed.is_main():
        say(
            f"{split.name}: the annotations or images of {layout.root} are not those of the training ({trained.images} "
            f"images with {trained.boxes} objects then, {len(split)} with {len(split.labels)} now)"
        )
