"""The installed command, and a run that it made on a tiny real model."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from rfdetr_hwd.cli.app import app
from tests.conftest import TINY_MODEL

COMMAND = Path(sys.executable).parent / "rfdetr-hwd"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def command() -> Run:
    """Run `rfdetr-hwd` with arguments; stdout and stderr are captured as text."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(COMMAND), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **environment},
        )

    return run


@pytest.fixture
def cli() -> Run:
    """Run `rfdetr-hwd` inside this process, for what ends before or soon after the model is built."""

    def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def config_file(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of the tiny model with everything random switched on."""
    content = {
        "model": {**TINY_MODEL, "dropout": 0.1, "drop_path": 0.1},
        "data": {"root": str(shapes_root), "workers": 0},
        "train": {
            **{"epochs": 2, "batch_size": 4, "micro_batch": 2, "multi_scale": True, "log_every": 1, "lr": 1e-3},
            **{"schedule": "cosine", "warmup_epochs": 0.5},
        },
        "evaluation": {"batch_size": 4, "raw_every": 1},
        "output": {"dir": "replaced", "keep_last": 3, "report": False},
    }
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def trained(command: Run, config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = command("train", "--config", config_file, f"output.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def halfway(trained: Path, tmp_path: Path) -> Path:
    """The run as it was after its first epoch. Files are links: nothing writes into one that is there."""
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True, copy_function=os.link)
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    return run
