"""The files of a dataset are listed once, without hidden ones and links out of it; what cannot be listed is said."""

import os
from pathlib import Path

import pytest

from rfdetr_hwd.data.listing import FileList


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_hidden_files_and_directories_are_not_listed_and_the_reason_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "._a.jpg", ".ipynb_checkpoints/a.jpg", "__MACOSX/a.jpg", "sub/.git/a.jpg", "sub/b.jpg")
    files = FileList.scan(tmp_path)
    assert files.names == {"a.jpg", "sub/b.jpg"}
    for name in ("._a.jpg", ".ipynb_checkpoints/a.jpg", "__MACOSX/a.jpg"):
        assert files.problem(name) == (
            "missing_file",
            f"there is no file {name!r} in {tmp_path}; hidden files and directories are not read",
        )


def test_a_directory_that_cannot_be_listed_is_no_end_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "shut/b.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files = FileList.scan(tmp_path)
    assert (files.names, files.closed) == ({"a.jpg"}, {"shut/"})
    assert files.problem("shut/b.jpg")[1].endswith("; its directory cannot be listed")


def test_an_absolute_path_is_said_to_leave_only_if_it_does(tmp_path: Path) -> None:
    files = FileList.scan(tmp_path)
    assert files.problem(str(tmp_path / "none.jpg"))[0] == "missing_file"
    assert files.problem("/none.jpg")[0] == "unsafe_path"


def test_the_files_below_a_directory_begin_there(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/c.jpg", "a/d.png", "ab/e.jpg", "f.jpg")
    os.symlink("/etc", tmp_path / "a" / "out")
    files = FileList.scan(tmp_path)
    below = files.below("a")
    assert (below.root, below.names, below.escaping) == (tmp_path / "a", {"b/c.jpg", "d.png"}, {"out/"})
    assert files.below("") is files
    assert files.image_counts == {"": 1, "a": 1, "a/b": 1, "ab": 1}
    assert list(files.by_basename["c.jpg"]) == ["a/b/c.jpg"]
    assert files.leads_out("a/out/passwd")
    assert not files.leads_out("a/b/out")
