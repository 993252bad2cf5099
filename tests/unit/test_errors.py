"""What ends a command."""

from pathlib import Path

import pytest

from rfdetr_hwd.errors import ConfigError, UserError, explaining, writing


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


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 600), "x" * 500),
    ],
)
def test_an_error_is_explained_in_one_line(failure: Exception, reason: str) -> None:
    with pytest.raises(ConfigError) as caught, explaining((OSError, ValueError), "cannot read x", ConfigError):
        raise failure
    assert str(caught.value) == f"cannot read x: {reason}"
    assert caught.value.__suppress_context__  # no traceback of the cause


def test_the_innermost_explanation_stands() -> None:
    """`NotImplementedError` is a `RuntimeError`, too."""
    with (
        pytest.raises(ConfigError, match="^inner: x$"),
        explaining(RuntimeError, "outer", UserError),
        explaining(NotImplementedError, "inner", ConfigError),
    ):
        raise NotImplementedError("x")
