"""Files are replaced whole, never through a planted link; files from anyone are bounded, and nothing in them runs."""

import argparse
import gc
import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import (
    UntrustedFileError,
    check_directory,
    load_tensors,
    open_without_links,
    read_json_list,
    read_json_object,
    removed_afterwards,
    replace_parts,
    replace_text,
)
from rfdetr_hwd.training.trackers import JsonLinesTracker


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "is not a JSON object"),
        ('{"a": NaN}', "contains NaN"),
        ('{"a": -Infinity}', "contains -Infinity"),
        ('{"a": 1e999}', "contains 1e999"),
        ("{", "not valid JSON"),
        ('{"a": ' + "[" * 100_000, "not valid JSON"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (" \n", "it is empty"),
        ('{"a": "' + "x" * 2000 + '"}', "more than the limit of 1000"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UntrustedFileError, match="^it is a directory$"):
        read_json_object(tmp_path)
    with pytest.raises(UntrustedFileError, match=message):
        read_json_object(path, max_bytes=1000 if "more than" in message else 1 << 20)


def test_a_list_is_read_and_the_collector_runs_again(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content, message in (("{}", "not a JSON list"), ("[NaN]", "contains NaN"), ("[1, 2, 3]", "the limit of 8")):
        path.write_text(content)
        with pytest.raises(UntrustedFileError, match=message):
            read_json_list(path, max_bytes=8)
        assert gc.isenabled()
    path.write_text("[1.5]")
    assert read_json_list(path, max_bytes=8) == [1.5]
    assert gc.isenabled()


def test_a_directory_that_cannot_be_written_is_refused_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=f"--out: cannot write {path}: {tmp_path / 'file'} is not a directory"):
            check_directory("--out", path)
    check_directory("--out", tmp_path)
    check_directory("--out", tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match=f"--out: cannot write {tmp_path}: no permission to write to {tmp_path}"):
        check_directory("--out", tmp_path)


def test_parts_that_fail_leave_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    replace_parts(path, iter(["a", "b"]))
    assert path.read_text() == "ab"
    with pytest.raises(ZeroDivisionError):
        replace_parts(path, (str(1 // number) for number in (1, 0)))
    assert path.read_text() == "ab"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"a": [1, 2.5, None]}))
    assert read_json_object(tmp_path / "x.json") == {"a": [1, 2.5, None]}
    torch.save({"w": torch.ones(2), "args": argparse.Namespace(a=1)}, tmp_path / "x.pth")
    with pytest.raises(UntrustedFileError):
        load_tensors(tmp_path / "x.pth")
    assert load_tensors(tmp_path / "x.pth", [argparse.Namespace])["args"].a == 1
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "nowhere")


def test_a_compressed_member_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"x" * 1000)
    with pytest.raises(UntrustedFileError, match="compressed"):
        load_tensors(tmp_path / "x.pth")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    replace_text(path, "one")
    replace_text(path, "two")
    assert path.read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a.json").symlink_to(victim)
    (tmp_path / ".a.json.partial").symlink_to(victim)
    replace_text(tmp_path / "a.json", "theirs")
    assert victim.read_text() == "mine"
    assert (tmp_path / "a.json").read_text() == "theirs"
    assert not (tmp_path / "a.json").is_symlink()


def test_a_link_is_not_appended_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        open_without_links(tmp_path / "link", "a")
    assert victim.read_text() == "mine"


def test_metrics_are_not_written_through_planted_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("metrics.jsonl", ".metrics.jsonl.partial"):
        (tmp_path / name).symlink_to(victim)
    tracker = JsonLinesTracker(tmp_path / "metrics.jsonl", 0)
    tracker.log(1, {"loss": 2.0})
    tracker.close()
    assert victim.read_text() == "mine"
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n'


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_temporary_is_removed_however_the_block_ends(tmp_path: Path, fails: bool) -> None:
    file, folder, link, kept = (tmp_path / name for name in ("file", "folder", "link", "kept"))
    kept.mkdir()
    (kept / "mine").write_text("")
    with suppress(KeyError), removed_afterwards(file, folder, link, tmp_path / "nothing"):
        file.write_text("x")
        (folder / "deep").mkdir(parents=True)
        link.symlink_to(kept, target_is_directory=True)
        if fails:
            raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert [path.name for path in kept.iterdir()] == ["mine"]
