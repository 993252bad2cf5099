"""Where the data of a run is now: the run was moved, or the command is started in another directory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.run_log import read_starts
from rfdetr_hwd.config.schema import DataSection
from rfdetr_hwd.console import say
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.runtime import distributed


def describe_root(root: Path, given: str, run: Path) -> dict[str, str]:
    """Return the places of a dataset for run.json: as given, absolute, and from the run directory.

    Args:
        root: Directory of the dataset.
        given: `data.root`.
        run: Run directory.
    """
    absolute = root.resolve()
    return {"root": given, "root_absolute": str(absolute), "root_from_run": os.path.relpath(absolute, run.resolve())}


def locate_data(settings: DataSection, run: Path) -> DataSection:
    """Return the data settings with `data.root` where the dataset is found now.

    The places of a run are tried in this order: `data.root` as given, from the current directory; the absolute path of
    the newest start of the run; the same path from the run directory, for a run that was moved with its data.

    Args:
        settings: The settings. A `data.root` that is not the one of the run is returned as it is.
        run: Run directory. Without run.json the settings are returned as they are.

    Raises:
        DatasetError: The dataset is in none of these places. The message names them.
    """
    given = Path(settings.root)
    recorded = [] if given.exists() else list(_recorded_roots(settings.root, run))
    if not recorded:
        return settings
    for place in recorded:
        if place.is_dir():
            if distributed.is_main():
                say(f"data: there is no directory {given} here; using {place}, as the run recorded")
            return settings.model_copy(update={"root": str(place)})
    tried = [str(Path.cwd() / given), *map(str, recorded)]
    raise DatasetError(f"data.root: the dataset is at none of {', '.join(dict.fromkeys(tried))}. Give data.root=DIR")


def locate_images(images: str, run: Path) -> list[Path]:
    """Return the places of an image directory of a run: as given, then where its dataset is recorded.

    Args:
        images: The directory as an evaluation of the run recorded it.
        run: Run directory.
    """
    recorded = _newest_data(run)
    given, root = Path(images), recorded.get("root")
    places = [given]
    for base in (root, recorded.get("root_absolute")):  # an evaluation elsewhere recorded the second
        if isinstance(root, str) and isinstance(base, str) and given.is_relative_to(base):
            places += [place / given.relative_to(base) for place in _recorded_roots(root, run)]
    return list(dict.fromkeys(places))


def _recorded_roots(given: str, run: Path) -> Iterator[Path]:
    """Yield where the newest start of a run found its data, if it named the data the same."""
    recorded = _newest_data(run)
    absolute, from_run = recorded.get("root_absolute"), recorded.get("root_from_run")
    if recorded.get("root") == given and isinstance(absolute, str) and isinstance(from_run, str):
        yield from dict.fromkeys([Path(absolute), Path(os.path.normpath(run.resolve() / from_run))])


def _newest_data(run: Path) -> dict[str, Any]:
    *_, newest = read_starts(RunFolder(run).log_file) or [{}]
    recorded = newest.get("data")
    return recorded if isinstance(recorded, dict) else {}
