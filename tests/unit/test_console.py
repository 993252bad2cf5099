"""Progress bars and escapes are for terminals; a file gets plain lines, whatever the environment says."""

import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from rich.table import Table

from rfdetr_hwd.console import is_terminal, open_console, print_table, say, watch
from rfdetr_hwd.training.progress import ConsoleTracker
from rfdetr_hwd.training.speed import Speed

VARIABLES = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR", "COLUMNS", "LINES", "COLORTERM", "TERM")
FORCING = [
    {},
    {"FORCE_COLOR": "1"},
    {"TTY_COMPATIBLE": "1"},
    {"TTY_INTERACTIVE": "1"},
    {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "1", "COLUMNS": "40", "TERM": "xterm-256color", "COLORTERM": "truecolor"},
    {"NO_COLOR": "1", "COLUMNS": "40"},
]


@pytest.fixture(autouse=True)
def _environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in getattr(request, "param", {}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("_environment", FORCING, indirect=True, ids=str)
def test_a_file_gets_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.txt"
    with path.open("w") as file, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", file)
        patched.setattr("sys.stderr", file)
        print_table("a table", ("name", "value"), [("x" * 60, "y" * 60)])
        tracker = ConsoleTracker(0, 20, 1)
        tracker.log(10, {"epoch": 0, "loss": 1.0, "lr": 1e-4, **Speed().take()})
        tracker.log(20, {"epoch": 1, "ema/AP": 0.5, "ema/AP50": 0.75})
        tracker.close()
        assert list(watch("train", 3, iter([1, 2, 3]))) == [1, 2, 3]
    text = path.read_text()
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("step")] == ["step 10/20", "step 20/20"]
    assert sum("x" * 60 in line and "y" * 60 in line for line in lines) == 1, "the table keeps its width"
    assert len(lines) == 1 + 5 + 2


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """A terminal, as a stream that is written to."""
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as stream:
        yield stream
    os.close(parent)


@pytest.mark.parametrize(
    ("_environment", "is_interactive", "has_colour"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "TTY_COMPATIBLE": "0"}, False, False),
        ({"TERM": "xterm", "TTY_INTERACTIVE": "0"}, False, True),
    ],
    indirect=["_environment"],
    ids=str,
)
def test_a_terminal_is_one_unless_its_user_says_otherwise(
    terminal: TextIO, is_interactive: bool, has_colour: bool
) -> None:
    console = open_console(terminal)
    assert is_terminal(terminal)
    assert console.is_interactive == is_interactive
    with console.capture() as captured:
        console.print(Table("x", title="[red]y[/red]"))
    assert ("\x1b[31m" in captured.get() or "\x1b[3;31m" in captured.get()) == has_colour


def test_a_closed_stream_is_no_terminal(tmp_path: Path) -> None:
    file = (tmp_path / "x").open("w")
    file.close()
    assert not is_terminal(file)


def test_lines_for_a_file_stay_off_the_terminal_with_the_bar(
    tmp_path: Path, terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log.txt").open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        monkeypatch.setattr("sys.stderr", terminal)
        for number in watch("detecting", None, iter(range(3))):
            say(f"line {number}")
    assert (tmp_path / "log.txt").read_text() == "line 0\nline 1\nline 2\n"
