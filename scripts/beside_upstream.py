"""What the benchmarks beside upstream's trainer share: images, a process for each run, a dated file."""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every such benchmark has."""
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="directory of the dated JSON file")
    parser.add_argument("--upstream-python", help="Python that has rfdetr[train]; without it upstream is skipped")
    parser.add_argument("--data", type=Path, help="Roboflow COCO dataset; default: built-in images of 640x480")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)


def make_images(root: Path, **images_of_split: int) -> Path:
    """Write the built-in dataset with images of 640x480: 8 in a split that is not named."""
    from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes

    images = {"train": 8, "valid": 8, "test": 8} | images_of_split
    write_shapes(root, ShapesSpec(**images, width=640, height=480, max_objects=6))
    return root


def run_child(kind: str, script: str, options: Mapping[str, Any], upstream_python: str | None) -> dict[str, Any]:
    """Return what a script measures of one kind, in a process of its own: the JSON of its last line."""
    python = upstream_python if kind.startswith("upstream") and upstream_python else sys.executable
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    result = subprocess.run([python, script, f"--child={kind}", *given], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{kind} failed:\n{result.stdout[-3000:]}{result.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return measured


def write_record(
    name: str,
    arguments: argparse.Namespace,
    settings: Sequence[str],
    runs: Mapping[str, Any],
    ratios: Mapping[str, Any],
) -> None:
    """Write the dated file of a benchmark, and print the ratios as the last line.

    Args:
        name: Start of the file's name: `training` gives training-DATE-cpu.json.
        arguments: The options.
        settings: Names of the options that say what was measured.
        runs: Measurements of each kind.
        ratios: Their ratios.
    """
    from rfdetr_hwd.runtime.environment import describe_environment

    environment = describe_environment()
    devices = environment["devices"]
    options = " ".join(f"--{setting} {getattr(arguments, setting)}" for setting in (*settings, "rounds"))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    content = {
        "command": f"python scripts/bench_{name}.py --upstream-python VENV/bin/python {options}",
        "date": today,
        "machine": devices[0]["name"] if devices else f"{platform.machine()} CPU",
        "settings": {setting: getattr(arguments, setting) for setting in settings},
        "environment": environment,
        "runs": runs,
        "ratios": ratios,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{name}-{today}-{'cuda' if devices else 'cpu'}.json"
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    print(f"written: {path}")
    print(json.dumps(ratios))
