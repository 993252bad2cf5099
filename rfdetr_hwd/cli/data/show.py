"""`rfdetr-hwd data show`: pictures and plots of a split, as PNG files and one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rfdetr_hwd.cli.data.options import Seed, Source, TestSplit, TrainSplit, ValSplit
from rfdetr_hwd.cli.options import Overrides
from rfdetr_hwd.console import say
from rfdetr_hwd.data.formats import Format
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.errors import ConfigError, writing

if TYPE_CHECKING:
    from rfdetr_hwd.config.schema import Config
    from rfdetr_hwd.data.findings import Findings
    from rfdetr_hwd.report.page import Picture

_MAX_COUNT = 200


def show(
    root: Source,
    out: Annotated[Path, typer.Option(help="New directory for the pictures and the page.")],
    overrides: Overrides = None,
    split: Annotated[Role, typer.Option(help="Split to show.")] = "train",
    count: Annotated[int, typer.Option(help="Images to draw.", min=1, max=_MAX_COUNT)] = 16,
    seed: Seed = 0,
    config: Annotated[Path | None, typer.Option(help="YAML configuration whose preprocessing is shown.")] = None,
    format: Annotated[Format | None, typer.Option(help="Format of the dataset.")] = None,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
) -> None:
    """Draw annotated images and plot statistics.

    Images are shown as stored and as the model sees them. The training split is shown with the augmentation of the
    first epochs. Other splits are shown as in evaluation.
    """
    from rfdetr_hwd.data.detect import find_data
    from rfdetr_hwd.data.findings import Findings
    from rfdetr_hwd.files import check_new_directory
    from rfdetr_hwd.report.dataset_page import DatasetFacts, build_dataset_page, draw_plots
    from rfdetr_hwd.report.legend import write_legend
    from rfdetr_hwd.report.objects import collect_objects
    from rfdetr_hwd.report.views import describe_views, draw_views, read_views
    from rfdetr_hwd.training.preview import find_resolution, preview_dataset, scan_as_run

    # Read the configuration and the split
    check_new_directory("--out", out)
    settings = _read_settings(root, config, [*(overrides or []), *([f"data.format={format}"] if format else [])])
    findings = Findings()
    layout = find_data(settings.data, {"train": train, "val": val, "test": test})
    data = scan_as_run(settings, layout, split, findings)
    resolution = find_resolution(settings)

    # Collect the objects, and read the images to draw
    objects = collect_objects(data)
    input_sides = objects.input_sides(resolution, settings.model.resize == "letterbox")
    say(f"data: {data.images}, {len(data)} images, {len(objects)} objects, {len(data.class_names)} classes")
    views, skipped = read_views(preview_dataset(settings, data, split), resolution, count, seed)
    for reason in skipped:
        say(f"skipped: {reason}")

    # Draw the pictures and arrange the page
    pictures = draw_views(views, data.class_names) | draw_plots(objects, input_sides)
    view = describe_views(settings, resolution, split == "train", data.options)
    facts = DatasetFacts(f"{root.resolve().name}, {data.name}", str(data.images), view, _tabulate(findings), skipped)
    page = build_dataset_page(facts, objects, input_sides, pictures)

    # Write them
    _write(out, pictures, page)
    write_legend(out, data.class_names)
    say(f"page: {out / 'index.html'}\npictures: {len(pictures)} PNG files in the same directory")


def _read_settings(root: Path, config: Path | None, overrides: Sequence[str]) -> "Config":
    """Return the configuration with `data.root` as given; without a file, the defaults."""
    from rfdetr_hwd.config.load import override_keys, parse_config
    from rfdetr_hwd.files import read_yaml

    if "data.root" in override_keys(overrides):
        raise ConfigError("data.root is the first argument here: remove the override")
    values = read_yaml(config) if config else {}
    sections: dict[str, Any] = {**values, "data": values.get("data", {}), "output": values.get("output", {})}
    for section, key, value in (("data", "root", str(root)), ("output", "dir", "unused")):
        if isinstance(sections[section], Mapping):
            sections[section] = {**sections[section], key: value}
    return parse_config(sections, overrides, origin=str(config or "the command line"))


def _tabulate(findings: "Findings") -> list[tuple[str, str, int, str, str]]:
    """Return a row per kind of finding: kind, level, count, effect and the first example."""
    from rfdetr_hwd.data.findings import KINDS

    return [
        (kind, about.level, findings.counts[kind], about.effect, str(findings.examples[kind][0]))
        for kind, about in KINDS.items()
        if findings.counts[kind]
    ]


def _write(out: Path, pictures: "Mapping[str, Picture]", page: str) -> None:
    from rfdetr_hwd.report.page import encode_png

    with writing("--out", out):
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            (out / f"{name}.png").write_bytes(encode_png(picture.image))
        (out / "index.html").write_text(page, encoding="utf-8")
