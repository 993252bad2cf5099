"""Fixtures: a tiny dataset and a tiny real model (real DINOv2 encoder, real deformable attention)."""

import os
import signal
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.config.load import parse_config
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes

TINY_MODEL = {"resolution": 64, "pretrain_weights": None, "num_queries": 10, "group_detr": 1}


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPU from every selection but `-m gpu`: the other tests compare bits, which hold on a CPU alone."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in dataset, small."""
    root = tmp_path_factory.mktemp("shapes")
    write_shapes(root, ShapesSpec(train=24, valid=8, test=2, width=96, height=80, max_objects=2))
    return root


@pytest.fixture
def tiny_config(shapes_root: Path, tmp_path: Path) -> Config:
    """A complete configuration of the tiny model on the tiny dataset."""
    return parse_config(
        {
            "model": TINY_MODEL,
            "data": {"root": str(shapes_root), "workers": 0},
            "train": {"epochs": 2, "batch_size": 4, "multi_scale": False, "log_every": 1},
            "evaluation": {"batch_size": 4},
            "output": {"dir": str(tmp_path / "run"), "report": False},
        }
    )


@pytest.fixture(autouse=True, scope="session")
def _not_under_nohup() -> None:
    """Where a closed terminal is ignored, commands rightly ignore it, too; the tests are not about that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
