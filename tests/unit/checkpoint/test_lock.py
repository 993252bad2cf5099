"""One process trains in a directory, and the lock goes with the process."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from rfdetr_hwd.checkpoint import lock
from rfdetr_hwd.checkpoint.lock import locked
from rfdetr_hwd.errors import ConfigError


def test_a_second_holder_is_refused_and_the_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_TIMEOUT", 0.0)
    with locked(tmp_path):
        with pytest.raises(ConfigError, match="is in use: another process is training in it"), locked(tmp_path):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from rfdetr_hwd.checkpoint.lock import locked\n"
        f"with locked(Path({str(tmp_path)!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        pass


def test_a_link_is_refused_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    refusal = "output.dir: cannot write .*: Too many levels of symbolic links"
    with pytest.raises(ConfigError, match=refusal), locked(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_without_flock_there_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path):
        pass
    (record,) = caplog.records
    assert "cannot be locked" in record.getMessage()
    assert "No locks available" in record.getMessage()
