"""Linux and macOS; Windows gets one sentence."""

import os
import signal
import subprocess
import sys

import pytest

from rfdetr_hwd.cli import app as cli
from rfdetr_hwd.errors import STOP_SIGNALS
from rfdetr_hwd.runtime import interrupt

ON_WINDOWS = """
import signal, sys
import typer  # which runs on Windows, and would look for more of it
sys.platform = "win32"
names = ("SIGUSR1", "SIGHUP")
signal.Signals = [number for number in signal.Signals if number.name not in names]
for name in names:
    delattr(signal, name)
for module in ("fcntl", "resource"):
    sys.modules[module] = None
from rfdetr_hwd.cli.app import main
main()
"""


def test_windows_gets_one_sentence() -> None:
    result = subprocess.run([sys.executable, "-c", ON_WINDOWS], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: rfdetr-hwd runs on Linux and macOS, not on Windows")
    assert "WSL 2" in line


def test_the_signals_are_those_of_the_system() -> None:
    assert set(STOP_SIGNALS) == {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP}


def test_a_launched_run_on_macos_counts_its_own_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no clock since boot, and no /proc that says when the launcher started."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(interrupt.time, "CLOCK_BOOTTIME")
    monkeypatch.delattr(os, "sysconf")
    before = interrupt.time.monotonic()
    assert before <= interrupt._started() <= interrupt.time.monotonic()


def test_the_command_runs_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rfdetr-hwd", "--version"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    assert capsys.readouterr().out.startswith("rfdetr-hwd ")
