"""What the tests on a GPU share: a GPU as they found it, a configuration file, and the installed command."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.config.schema import Config

Run = Callable[..., str]


@pytest.fixture(autouse=True)
def _gpu_as_it_was() -> Iterator[None]:
    """Put back the switches that a run sets for its process, and free its memory."""
    kernels = torch.backends.cuda
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    for name in ("flash", "mem_efficient", "cudnn"):
        getattr(kernels, f"enable_{name}_sdp")(True)
    torch.cuda.set_sync_debug_mode("default")
    gc.collect()
    torch.cuda.empty_cache()


@pytest.fixture
def config_file(tiny_config: Config, tmp_path: Path) -> Path:
    """The configuration of the tiny model, as a file; its run goes to `tiny_config.output.dir`."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_config.to_yaml())
    return path


@pytest.fixture
def command() -> Run:
    """Run `rfdetr-hwd` in a process of its own, under a launcher if one is given, and return what it printed."""

    def run(*arguments: object, launcher: tuple[str, ...] = ()) -> str:
        result = subprocess.run(
            [sys.executable, "-m", *launcher, *(("-m",) if launcher else ()), "rfdetr_hwd", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    return run
