"""What is compared: runs, checkpoints, evaluations and result files, grouped into arms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rfdetr_hwd.comparison.compare import ComparisonError
from rfdetr_hwd.config.experiment import check_arm_name
from rfdetr_hwd.errors import explaining
from rfdetr_hwd.evaluation.results import GROUND_TRUTH, PREDICTIONS

Kind = Literal["run", "checkpoint", "evaluation", "results"]


_FILES: dict[Kind, tuple[str, ...]] = {
    "run": ("config.yaml",),
    "checkpoint": ("manifest.json",),
    "evaluation": (PREDICTIONS, GROUND_TRUTH),
}
"""Files by which a directory is recognised."""


@dataclass(frozen=True)
class Source:
    """A trained model, or its detections.

    Attributes:
        arm: Name of its arm.
        path: A run, a checkpoint, the directory of an evaluation, or a file of COCO results.
        kind: Which of these it is.
    """

    arm: str
    path: Path
    kind: Kind

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.arm} ({self.path})"


def find_sources(arguments: Sequence[str]) -> dict[str, list[Source]]:
    """Return the arms that arguments name.

    Args:
        arguments: Each is `PATH` or `NAME=PATH[,PATH...]`. A path is a run, a checkpoint, the directory of an
            evaluation, a file of COCO results, the directory of an arm (with runs in seed-K), or, alone, the directory
            of an experiment.

    Raises:
        ComparisonError: A path is none of these, two arms have one name or one path, or there is one arm only.
    """
    return group_sources(_split(argument) for argument in _expanded(arguments))


def group_sources(named: Iterable[tuple[str | None, Sequence[Path]]]) -> dict[str, list[Source]]:
    """Return the arms of paths.

    Args:
        named: The name of each arm, and its paths; `None`: it is called as its directory.

    Raises:
        ComparisonError: As `find_sources`.
    """
    # Recognise each path.
    arms: dict[str, list[Source]] = {}
    seen: dict[Path, str] = {}
    for name, paths in named:
        found = [source for path in paths for source in _sources(name, path)]
        _refuse_same(found, seen)
        arm = found[0].arm
        if arm in arms:
            raise ComparisonError(f"two arms are called {arm}: give them different names, as NAME={paths[0]}")
        arms[arm] = found
    # Refuse what compares nothing.
    if len(arms) < 2:
        raise ComparisonError(f"there is nothing to compare {next(iter(arms), 'nothing')} with: give two arms or more")
    return arms


def _expanded(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, with the directory of an experiment replaced by its arms."""
    if len(arguments) == 1 and (arms := _arms_below(Path(arguments[0]))):
        return [str(arm) for arm in arms]
    return list(arguments)


def _refuse_same(found: Sequence[Source], seen: dict[Path, str]) -> None:
    """Refuse sources that were given before. Add them to those."""
    for source in found:
        path = source.path.resolve()
        if path in seen:
            is_within_arm = seen[path] == source.arm and source is not found[0]
            what = f"the arm {source.arm} has one artefact twice" if is_within_arm else "two arms are the same artefact"
            raise ComparisonError(f"{what}, {source.path}: give different ones")
        seen[path] = source.arm


def _split(argument: str) -> tuple[str | None, list[Path]]:
    """Return the name and the paths of an argument. A path may contain an equals sign."""
    name, separator, paths = argument.partition("=")
    if not separator or Path(argument).exists():
        return None, [Path(argument)]
    with explaining(ValueError, argument, ComparisonError):
        check_arm_name(name)
    return name, [Path(path) for path in paths.split(",")]


def _sources(name: str | None, path: Path) -> list[Source]:
    runs = seed_runs(path)
    if runs:
        return [Source(name or path.resolve().name, run, "run") for run in runs]
    kind = _kind(path)
    is_seed = kind == "run" and path.resolve().name.startswith("seed-")
    own_name = path.resolve().parent.name if is_seed else path.stem if kind == "results" else path.resolve().name
    return [Source(name or own_name, path, kind)]


def _kind(path: Path) -> Kind:
    if path.is_file():
        return "results"
    for kind, files in _FILES.items():
        if all((path / file).is_file() for file in files):
            return kind
    problem = "is no run, checkpoint, evaluation, arm or experiment" if path.is_dir() else "does not exist"
    raise ComparisonError(f"{path} {problem}")


def seed_runs(path: Path) -> list[Path]:
    """Return the runs of an arm's directory, which are called seed-K."""
    return sorted(config.parent for config in path.glob("seed-*/config.yaml"))


def _arms_below(path: Path) -> list[Path]:
    """Return the arms of an experiment's directory."""
    return sorted({config.parent.parent for config in path.glob("*/seed-*/config.yaml")})
