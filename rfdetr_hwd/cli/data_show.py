"""`rfdetr-hwd data show`: pictures and figures of a split, as PNG files and one HTML page."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from rfdetr_hwd.checkpoint.record import read_options
from rfdetr_hwd.cli.legend import write_legend
from rfdetr_hwd.config.load import override_keys, parse_config
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.batch import Failure
from rfdetr_hwd.data.dataset import Augmentation, DetectionDataset, SampleKey
from rfdetr_hwd.data.decode import measure_split
from rfdetr_hwd.data.findings import KINDS, DatasetError, Findings
from rfdetr_hwd.data.images import ImageError, ReadOptions
from rfdetr_hwd.data.layout import Layout
from rfdetr_hwd.data.layouts import scan_split
from rfdetr_hwd.data.open import NOTHING_SAID, find_data
from rfdetr_hwd.data.roles import ROLES, Role
from rfdetr_hwd.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import read_yaml
from rfdetr_hwd.report.dataset_page import DatasetFacts, build_dataset_page, draw_plots
from rfdetr_hwd.report.objects import collect_objects
from rfdetr_hwd.report.page import Picture, encode_png
from rfdetr_hwd.report.samples import Sample, draw_sheet
from rfdetr_hwd.training.validation_split import hold_out, refuse_val_split

EPOCHS = 4
"""Epochs in which the training images are shown."""

_MAX_COUNT = 200
_MAX_LEFT_OUT = 50  # images that cannot be read before no further one is tried
_ROWS = 6  # images down a sheet
_SIDE = 272  # pixels of a cell
_PAIRS = ["on disk", "model's input"] * 2


@dataclass(frozen=True)
class View:
    """One image as it lies on disk, and as the model sees it, in one epoch or several."""

    on_disk: Sample
    by_model: tuple[Sample, ...]


def run_show(
    root: Path,
    out: Path,
    split: str,
    count: int,
    seed: int,
    config: Path | None,
    overrides: list[str],
    said: Mapping[Role, str | None] = NOTHING_SAID,
) -> None:
    """Write sheets of annotated images and histograms, as PNG files and one HTML page that holds them all.

    The training split is shown as training sees it: augmented with the configuration's `data.augment` and
    `train.seed`, in the first epochs, at the model's resolution. Other splits are shown as the evaluation sees them.

    Args:
        root: Folder of the dataset.
        out: Folder of the files; it must be new or empty.
        split: train, val or test.
        count: Images on the sheets, at most 200.
        seed: Seed of the choice of these images.
        config: Take model, augmentation and the names of the splits from this file.
        overrides: `key=value` assignments.
        said: What `--train`, `--val` and `--test` say.

    Raises:
        UserError: What the user gave is wrong.
    """
    role = _check_arguments(split, count, seed)
    _check_out(out)
    settings = _read_settings(root, config, overrides)
    findings = Findings()
    layout = find_data(settings.data, said)
    data = _scan(settings, layout, role, findings)
    data = replace(data, options=_find_options(settings, layout, data, role))
    resolution = settings.model.resolution or _own_resolution(settings)
    objects = collect_objects(data)
    input_sides = objects.input_sides(resolution, settings.model.resize == "letterbox")
    say(f"data: {data.images}, {len(data)} images, {len(objects)} objects, {len(data.class_names)} classes")
    views, left_out = _read_views(data, _build_dataset(data, settings, role), resolution, count, seed)
    for reason in left_out:
        say(f"left out: {reason}")
    pictures = _draw_sheets(views, data.class_names) | draw_plots(objects, input_sides)
    view = _describe_view(settings, resolution, role, data.options)
    name = f"{root.resolve().name}, {data.name}"
    facts = DatasetFacts(name, str(data.images), view, _tabulate(findings), left_out)
    page = build_dataset_page(facts, objects, input_sides, pictures)
    _write(out, pictures, page)
    write_legend(out, data.class_names)
    say(f"page: {out / 'index.html'}\npictures: {len(pictures)} PNG files beside it")


def _scan(settings: Config, layout: Layout, role: Role, findings: Findings) -> DetectionData:
    """Return a split as a run has it: its own, or what is left and what is held out of the training images."""
    if settings.data.val_fraction is None or role == "test":
        return scan_split(layout.split(role), findings, read_options(settings.data))
    refuse_val_split(layout)
    parts = hold_out(scan_split(layout.split("train"), findings, read_options(settings.data)), settings.data, None)
    return parts.train if role == "train" else parts.val


def _check_arguments(split: str, count: int, seed: int) -> Role:
    if not 1 <= count <= _MAX_COUNT:
        raise ConfigError(f"--count {count} is not between 1 and {_MAX_COUNT}")
    if seed < 0:
        raise ConfigError(f"--seed {seed} is negative")
    for role in ROLES:
        if split == role:
            return role
    raise ConfigError(f"--split {split!r} is not one of {', '.join(ROLES)}; data.{ROLES[0]} and so on name the folders")


def _check_out(out: Path) -> None:
    """Refuse a folder that holds something or cannot be written, before anything long is done, and leave no trace."""
    try:
        if out.is_dir() and any(out.iterdir()):
            raise ConfigError(f"--out: {out} is not empty; choose a new folder")
        existing = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out}: {error.strerror}") from None
    if not existing.is_dir():
        raise ConfigError(f"--out: cannot write to {out}: {existing} is no folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"--out: cannot write to {out}: no permission to write to {existing}")


def _read_settings(root: Path, config: Path | None, overrides: Sequence[str]) -> Config:
    """Return the configuration with `data.root` as given; without a file, the defaults."""
    if "data.root" in override_keys(overrides):
        raise ConfigError("data.root is what stands first on the command line; leave the override out")
    values = read_yaml(config) if config else {}
    sections: dict[str, Any] = {**values, "data": values.get("data", {}), "output": values.get("output", {})}
    for section, key, value in (("data", "root", str(root)), ("output", "dir", "unused")):
        if isinstance(sections[section], Mapping):
            sections[section] = {**sections[section], key: value}
    return parse_config(sections, overrides, origin=str(config or "the command line"))


def _find_options(settings: Config, layout: Layout, data: DetectionData, role: Role) -> ReadOptions:
    """Return how a run of the configuration would read the images, which looks at its training split."""
    if settings.data.bit_depth != "auto":
        return read_options(settings.data)
    if role != "train":
        with suppress(DatasetError):  # there need not be one
            data = scan_split(layout.split("train"), Findings(), read_options(settings.data))
    return replace(read_options(settings.data), bit_depth=measure_split(data, settings.train.seed).bit_depth)


def _own_resolution(settings: Config) -> int:
    """Return the input side that the variant has where the configuration names none."""
    from rfdetr_hwd.model.rfdetr import build_stock_model  # late: it takes seconds

    return build_stock_model(settings.model.variant, 1, doubled_stem=settings.downsample.site == "stem").resolution


def _build_dataset(data: DetectionData, settings: Config, role: Role) -> DetectionDataset:
    augment = settings.data.augment
    augmentation = Augmentation(settings.train.seed, augment.flip, augment.crop, augment.min_crop)
    return DetectionDataset(data, augmentation if role == "train" else None, settings.model.resize)


def _read_views(
    data: DetectionData, dataset: DetectionDataset, resolution: int, count: int, seed: int
) -> tuple[list[View], list[str]]:
    """Return the chosen images, and why others that were drawn are left out; another takes the place of each."""
    views: list[View] = []
    left_out: list[str] = []
    for row in np.random.default_rng(seed).permutation(len(data)).tolist():
        if len(views) == count or len(left_out) == _MAX_LEFT_OUT:
            break
        try:
            views.append(_read_view(data, dataset, row, resolution))
        except ImageError as error:
            left_out.append(str(error))
    return views, left_out


def _read_view(data: DetectionData, dataset: DetectionDataset, row: int, resolution: int) -> View:
    """Read an image once for each way it is shown.

    Raises:
        ImageError: It cannot be read.
    """
    epochs = range(EPOCHS if dataset.augmentation is not None else 1)
    by_model = tuple(sample_as_seen(dataset, SampleKey(row, epoch, resolution)) for epoch in epochs)
    boxes_xyxy, labels = data.objects(row)
    return View(Sample(data.read(row), boxes_xyxy.astype(np.float64), labels, str(data.file_names[row])), by_model)


def sample_as_seen(dataset: DetectionDataset, key: SampleKey) -> Sample:
    """Return what the model gets for a key, as a picture: the normalisation is undone, boxes are in its pixels.

    Raises:
        ImageError: The image cannot be read.
    """
    batch = dataset[key]
    if isinstance(batch, Failure):
        raise ImageError(batch.reason)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = ((batch.images[0] * deviation + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    centres, extents = (batch.targets[0]["boxes"].double() * key.resolution).numpy().reshape(-1, 2, 2).swapaxes(0, 1)
    corners = np.concatenate([centres - extents / 2, centres + extents / 2], axis=1)
    labels = batch.targets[0]["labels"].numpy()
    number = f"{len(labels)} object" + ("" if len(labels) == 1 else "s")
    return Sample(PIL.Image.fromarray(pixels.permute(1, 2, 0).numpy()), corners, labels, number)


def _draw_sheets(views: Sequence[View], class_names: Sequence[str]) -> dict[str, Picture]:
    """Return sheets of the images on disk, and of each image beside what the model sees of it."""
    if not views:
        return {}
    num_epochs = len(views[0].by_model)
    columns = ["on disk", *(f"epoch {epoch}" for epoch in range(num_epochs))] if num_epochs > 1 else _PAIRS
    on_disk = [[view.on_disk] for view in views]
    by_model = [[view.on_disk, *view.by_model] for view in views]
    pictures = {}
    for name, groups, headings, caption in (
        ("images", on_disk, [""] * 4, "The images and their annotations as they lie on disk."),
        ("model", by_model, columns, "Each image as it lies on disk, and what the model is given."),
    ):
        step = _ROWS * len(headings) // len(groups[0])
        for start in range(0, len(groups), step):
            samples = [sample for group in groups[start : start + step] for sample in group]
            sheet = draw_sheet(samples, class_names, len(headings), _SIDE, headings if any(headings) else ())
            pictures[f"{name}-{start // step + 1:02d}"] = Picture(sheet, caption, is_photo=True)
    return pictures


def _tabulate(findings: Findings) -> list[tuple[str, str, int, str, str]]:
    """Return a row a kind of finding: kind, level, number, what reading does about it, the first of them."""
    return [
        (kind, about.level, findings.counts[kind], about.effect, str(findings.examples[kind][0]))
        for kind, about in KINDS.items()
        if findings.counts[kind]
    ]


def _describe_view(settings: Config, resolution: int, role: Role, options: ReadOptions) -> str:
    fit = {"stretch": "stretched to", "letterbox": "fitted, with its aspect ratio, into"}[settings.model.resize]
    fitted = f"{fit} {resolution} x {resolution} pixels"
    deep = f" Values of 16-bit files are read as {options.bit_depth} bits." if options.bit_depth < 16 else ""
    deep += " Images are as stored, whatever EXIF says." if options.exif == "ignore" else ""
    if role != "train":
        return f"Each image is {fitted}; this split is not augmented.{deep}"
    augment = settings.data.augment
    sides = " The side of each update varies around it (train.multi_scale)." if settings.train.multi_scale else ""
    return (
        f"What a {settings.model.variant} run with train.seed {settings.train.seed} is given: each image is flipped "
        f"with probability {augment.flip}, cropped with probability {augment.crop} to no less than "
        f"{augment.min_crop:.0%} of a side, and {fitted}. Each epoch draws anew.{sides}{deep}"
    )


def _write(out: Path, pictures: Mapping[str, Picture], page: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            (out / f"{name}.png").write_bytes(encode_png(picture.image))
        (out / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out}: {error.strerror or error}") from None
