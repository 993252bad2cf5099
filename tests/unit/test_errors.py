"""What ends a command."""

from pathlib import Path

import pytest

from rfdetr_hwd.errors import ConfigError, UserError, writing


def test_what_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "file" / "x"
    path.parent.write_text("")
    with pytest.raises(ConfigError) as caught, writing("--out", path):
        path.write_text("")
    assert str(caught.value) == f"--out: cannot write {path}: Not a directory"
    with (
        pytest.raises(UserError, match="^output.dir: cannot write x: no system's error$"),
        writing("output.dir", Path("x"), UserError),
    ):
        raise OSError("no system's error")
    with pytest.raises(ValueError, match="another"), writing("--out", path):
        raise ValueError("another")
