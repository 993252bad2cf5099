"""Metrics files always parse, and a resumed run neither repeats nor skips a step."""

from pathlib import Path

import pytest

from rfdetr_hwd.training.trackers import JsonLinesTracker, read_metrics


def test_records_after_the_resumed_step_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonLinesTracker(path, last_step=0)
    for step in range(1, 6):
        tracker.log(step, {"loss": step / 10})
    tracker.close()
    with path.open("a") as file:
        file.write('{"step": 6, "lo')  # a kill cut it off
    tracker = JsonLinesTracker(path, last_step=3)
    tracker.log(4, {"loss": 0.4})
    tracker.close()
    assert read_metrics(path) == [{"step": step, "loss": step / 10} for step in range(1, 5)]


def test_a_damaged_line_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st\xff\x00p": 2\n[3]\n{"step": "4"}\n' + b"[" * 100_000 + b'\n{"step": 6}\n{"ste')
    assert read_metrics(path) == [{"step": 1}, {"step": 6}]
    content = path.read_bytes()
    JsonLinesTracker(path, last_step=6).close()
    assert "corrupt lines [2, 3, 4, 5] are skipped" in caplog.text
    assert path.read_text() == '{"step": 1}\n{"step": 6}\n'
    assert (tmp_path / "corrupt-metrics.jsonl").read_bytes() == content


def test_an_evaluation_that_is_due_is_recorded_once(tmp_path: Path) -> None:
    """A kill between the record and the checkpoint's state: the evaluation is made, and recorded, again."""
    path = tmp_path / "metrics.jsonl"
    tracker = JsonLinesTracker(path, last_step=0)
    records = [(1, {"loss": 0.5}), (2, {"loss": 0.4}), (2, {"epoch": 1, "ema/AP": 0.1})]
    for step, values in records:
        tracker.log(step, values)
    tracker.close()
    JsonLinesTracker(path, last_step=2).close()
    assert len(read_metrics(path)) == 3
    tracker = JsonLinesTracker(path, last_step=2, is_evaluation_due=True)
    assert len(read_metrics(path)) == 2
    tracker.log(*records[2])
    tracker.close()
    assert read_metrics(path) == [{"step": step, **values} for step, values in records]


@pytest.mark.parametrize("line", [b"[1]", b'{"loss": 1}', b'{"step": "1"}', b"\xff", b"[" * 100_000, b'{"step": 2, "l'])
def test_a_line_of_something_else_ends_the_records(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 0.5}\n' + line)
    assert read_metrics(path) == [{"step": 1, "loss": 0.5}]


def test_speed_has_a_file_of_its_own(tmp_path: Path) -> None:
    values = {"loss": 2.0, "speed/images_per_second": 3.5}
    for name, is_speed in (("metrics.jsonl", False), ("speed.jsonl", True)):
        tracker = JsonLinesTracker(tmp_path / name, 0, is_speed=is_speed)
        tracker.log(1, values)
        tracker.log(1, {"ema/AP": 0.5})
        tracker.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}, {"step": 1, "ema/AP": 0.5}]
    (record,) = read_metrics(tmp_path / "speed.jsonl")
    assert record.keys() == {"step", "time", "images_per_second"}
    JsonLinesTracker(tmp_path / "speed.jsonl", 1, is_evaluation_due=True, is_speed=True).close()
    assert len(read_metrics(tmp_path / "speed.jsonl")) == 1
    JsonLinesTracker(tmp_path / "speed.jsonl", 0, is_speed=True).close()
    assert read_metrics(tmp_path / "speed.jsonl") == []
