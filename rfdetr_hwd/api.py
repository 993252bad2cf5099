"""Train, evaluate and compare from Python: the acts of the command line, with results to go on with.

Each function does what the verb of its name does, with the same files, messages and errors. Progress is printed as
plain lines, in a notebook, too.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import ConfigError, Interrupted

PathLike = str | os.PathLike[str]
"""A path, or a `Run`."""


@dataclass(frozen=True)
class Run:
    """A run on disk. It is accepted wherever the path of a run is.

    Attributes:
        directory: Run directory.
        step: Optimizer steps of its best checkpoint.
        metrics: Metrics of that checkpoint by name, of the weights that `Detector.load` takes; `None`: no ground truth.
            Empty without an evaluation.
    """

    directory: Path
    step: int
    metrics: Mapping[str, float | None]

    def __fspath__(self) -> str:
        return str(self.directory)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, in the order of their `step`: losses, learning rates, metrics by evaluation."""
        from rfdetr_hwd.training.trackers import read_metrics

        return read_metrics(self.directory / "metrics.jsonl")


def train(
    config: Config | Mapping[str, Any] | PathLike | None = None,
    overrides: Sequence[str] = (),
    resume: PathLike | None = None,
    accept: Sequence[str] = (),
) -> Run:
    """Train a new run, or resume one, in this process.

    Interrupting the kernel, or Ctrl-C, finishes the current step and saves. So does `train.max_hours`.

    Args:
        config: Configuration of a new run: a `Config`, nested values, or a YAML file.
        overrides: `key=value` assignments, such as `train.epochs=12`.
        resume: Run directory to resume, in place of a configuration.
        accept: Keys whose change is accepted in a resumed run.

    Returns:
        The run, with the metrics of its best checkpoint. With `train.max_hours` it may be unfinished.

    Raises:
        UserError: The configuration or the data is wrong, or the run cannot continue. The message says what to do.
        KeyboardInterrupt: The run was interrupted. The message says how to resume it.

    Example:
        >>> run = train("configs/coco.yaml", ["data.root=coco", "train.epochs=12"])  # doctest: +SKIP
        >>> run.metrics["AP"]  # doctest: +SKIP
    """
    from rfdetr_hwd.cli.train import report_training
    from rfdetr_hwd.config.load import as_overrides, load_config, override, parse_config
    from rfdetr_hwd.runtime.interrupt import TIME_LIMIT_CODE
    from rfdetr_hwd.training.run import run

    # Settle the configuration, whose directory is the run's
    overrides = as_overrides(overrides)
    if not isinstance(config, Config | Mapping | str | os.PathLike | None):
        raise ConfigError(f"a configuration is a Config, nested values or the path of a YAML file, not {config!r}")
    if not isinstance(resume, str | os.PathLike | None):
        raise ConfigError(f"resume is the path of a run directory, not {resume!r}")
    settings: Config | None = None
    if isinstance(config, Mapping):
        settings = parse_config(config, overrides)
    elif config is not None:
        settings = override(config, overrides) if isinstance(config, Config) else load_config(Path(config), overrides)
    if settings is None and resume is None:
        raise ConfigError("give a configuration for a new run, or resume=DIRECTORY to resume one")
    directory = Path(settings.output.dir) if settings else Path(resume or "")

    # Train. A run that was stopped is saved
    try:
        last = run(settings, Path(resume) if resume else None, [] if settings else overrides, accept)
        if last is not None:
            report_training(last)
    except Interrupted as interruption:
        if not (directory / "checkpoints").is_dir():
            raise KeyboardInterrupt("stopped before the run began") from None
        if interruption.status != TIME_LIMIT_CODE:
            raise KeyboardInterrupt(f"stopped and saved. Resume with train(resume={str(directory)!r})") from None
    return _read(directory)


def evaluate(
    run: PathLike,
    overrides: Sequence[str] = (),
    split: Literal["val", "test"] = "val",
    weights: Literal["auto", "ema", "raw"] = "auto",
    out: PathLike | None = None,
) -> dict[str, float | None]:
    """Evaluate a run with COCO metrics, and write a report.

    Args:
        run: Run directory (its best checkpoint), checkpoint directory, or a `Run`.
        overrides: `key=value` assignments to data, evaluation and precision, such as `data.root=DIR`.
        split: Split to evaluate on.
        weights: EMA weights, raw weights, or those with the higher validation AP.
        out: Directory for metrics, detections and the report. `None`: `evaluate-SPLIT` in the run directory.

    Returns:
        The metrics by name: `AP`, `AP50`, ..., `AP/CLASS`, each in [0, 1]; `None`: no ground truth.

    Raises:
        UserError: The checkpoint or the data cannot be read. The message says what to do.
    """
    from rfdetr_hwd.cli.evaluate import (
        default_directory,
        measure_detector,
        read_detector_split,
        run_directory,
        say_limits,
    )
    from rfdetr_hwd.cli.report import read_run, write_report
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.evaluation.results import describe_protocol
    from rfdetr_hwd.files import check_directory
    from rfdetr_hwd.report.evaluation_report import ReportInputs
    from rfdetr_hwd.runtime.process_group import process_group

    if split not in ("val", "test"):
        raise ConfigError(f"split {split!r} is not val or test")
    with process_group() as device:
        detector = Detector.load(run, weights, overrides)
        directory = Path(out) if out is not None else default_directory(Path(run), f"evaluate-{split}")
        check_directory("out", directory)
        data = read_detector_split(detector, detector.config, split)
        metrics, evaluation = measure_detector(detector, data, detector.config, directory, device)
        say_limits(detector, detector.config, data, len(evaluation.unreadable))
        protocol = {**describe_protocol(evaluation, data), **detector.describe()}
        records = read_run(run_directory(Path(run)))
        write_report(ReportInputs(data, evaluation.metric.detections, protocol, records), directory)
    return metrics


def compare(
    arms: Mapping[str, PathLike | Sequence[PathLike]],
    vary: Sequence[str] = (),
    split: Literal["val", "test"] = "val",
    weights: Literal["ema", "raw"] = "ema",
    margin: float = 0.005,
    out: PathLike = "comparison",
) -> dict[str, Any]:
    """Say whether one arm is better than another, or whether the difference is noise.

    Args:
        arms: What is compared, by name: a run (its last checkpoint), a checkpoint, a directory with runs in seed-K, an
            evaluation, a COCO result file; or several of them, one for each seed. The first arm is the baseline.
        vary: Keys that the arms may differ in, beside `downsample.*`.
        split: Split to evaluate on.
        weights: Weights of the last checkpoint to evaluate.
        margin: Arms whose difference lies within plus or minus this are equivalent, in [0, 1].
        out: Directory of the comparison: compare.json, compare.md, report.html.

    Returns:
        The content of compare.json: `baseline`, `comparisons` (a list with `arm` and, by metric, `difference`, `low`,
        `high` of its 95 % interval, `verdict` and its `text`), `arms` with their values, `protocol` and `notes`.

    Raises:
        ComparisonError: The arms cannot be compared: they do not match in everything but what is varied.
    """
    from rfdetr_hwd.cli.compare import VARIED, compare_sources
    from rfdetr_hwd.comparison.sources import group_sources
    from rfdetr_hwd.config.experiment import ComparisonSection
    from rfdetr_hwd.config.validation import first_problem

    if not isinstance(arms, Mapping) or len(arms) < 2:
        raise ConfigError("give two arms or more, as a mapping of names to paths")
    paths = {name: [one] if isinstance(one, str | os.PathLike) else one for name, one in arms.items()}
    for name, found in paths.items():
        if not isinstance(found, Sequence) or not all(isinstance(path, str | os.PathLike) for path in found):
            raise ConfigError(f"the arm {name!r} is a path or a list of paths, not {found!r}")
    if empty := [name for name, found in paths.items() if not found]:
        raise ConfigError(f"the arm {empty[0]!r} has no path")
    if isinstance(vary, str) or not isinstance(out, str | os.PathLike):
        raise ConfigError("vary is a list of keys, such as ['train.lr'], and out is a path")
    sources = group_sources((name, [Path(path) for path in found]) for name, found in paths.items())
    try:
        settings = ComparisonSection(baseline=next(iter(sources)), margin=margin, weights=weights, split=split)
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None
    compare_sources(sources, settings, [*VARIED, *vary], None, Path(out))
    judgement: dict[str, Any] = json.loads((Path(out) / "compare.json").read_text())
    return judgement


def _read(directory: Path) -> Run:
    from rfdetr_hwd.checkpoint.record import find_checkpoint

    checkpoint = find_checkpoint(directory)
    prefix = f"{checkpoint.better_weights}/"
    found = checkpoint.state.current_metrics
    metrics = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    return Run(directory, checkpoint.step, metrics)
