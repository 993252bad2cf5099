"""The clock of a GPU is read from nvidia-smi where there is one; nothing depends on it."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rfdetr_hwd.runtime.gpu_clock import GpuClock, reading_gpu_clock

CUDA = torch.device("cuda")
LINES = """\
1980, 1980, 60, 0x0000000000000000
1200, 1980, 81, 0x0000000000000020
[N/A], 1980, 81, 0x0000000000000000
1965, 1980, 70, 0x0000000000000001
19"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory that programs are looked for in."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(uuid="12-ab"))
    return tmp_path


def test_the_clock_is_read_during_the_block(programs: Path) -> None:
    done, given = programs / "done", programs / "given"
    script = f"#!/bin/sh\necho \"$@\" > {given}\nprintf '{LINES}'\n: > {done}\nexec /bin/sleep 60\n"
    (programs / "nvidia-smi").write_text(script)
    (programs / "nvidia-smi").chmod(0o755)
    with reading_gpu_clock(CUDA) as clock:
        while not done.exists():
            time.sleep(0.01)
    assert clock is not None
    assert clock.readings == [(1980, 1980, 60, 0), (1200, 1980, 81, 0x20), (1965, 1980, 70, 1)]
    assert "--id=GPU-12-ab" in given.read_text()


def test_without_nvidia_smi_nothing_is_read(programs: Path) -> None:
    with reading_gpu_clock(CUDA) as clock:
        pass
    assert clock is not None
    assert clock.describe() == "clock and throttling: not read (no nvidia-smi)"


def test_a_cpu_has_no_such_clock() -> None:
    with reading_gpu_clock(torch.device("cpu")) as clock:
        assert clock is None


def test_an_idle_gpu_is_not_throttled() -> None:
    clock = GpuClock([(1980, 1980, 60, 0), (1200, 1980, 81, 0x20), (1965, 1980, 70, 1), (1965, 1980, 70, 2)])
    expected = "clock: median 1965 MHz, 1200 to 1980, of at most 1980; up to 81 °C; throttled in 25% of 4 readings"
    assert clock.describe() == expected
