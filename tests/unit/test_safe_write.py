"""Files are replaced whole, and never through a link that somebody planted."""

from pathlib import Path

import pytest

from rfdetr_hwd.safe_write import open_without_links, replace_text
from rfdetr_hwd.training.trackers import JsonLinesTracker


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
