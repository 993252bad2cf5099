"""Objects keep their numbers through a video, also where the detector is in doubt; ByteTrack is the real one."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.prediction.frame import Frame, Moment
from rfdetr_hwd.prediction.sources import Source
from rfdetr_hwd.prediction.tracking import Tracking, TrackingError, candidate_thresholds
from tests.unit.prediction.frames import CLASS_NAMES, found

THRESHOLDS = {"cat": 0.5, "dog/puppy": 0.3}


def frame(index: int, video: str = "a.mp4") -> Frame:
    moment = Moment(index, index, Fraction(1, 30), Fraction(30))
    return Frame(Source(video, video, Path(video), "video"), PIL.Image.new("RGB", (400, 100)), moment)


def moved(x: float, label: int, score: float) -> tuple[int, float, tuple[float, float, float, float]]:
    return label, score, (x, 20.0 * label, x + 40, 20.0 * label + 18)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(TrackingError, match=r"^--track needs the package trackers: pip install 'rfdetr-hwd\[track\]'$"):
        Tracking(THRESHOLDS, CLASS_NAMES)


def test_candidates_are_what_may_continue_a_track() -> None:
    assert candidate_thresholds({"a": 0.5, "b": 0.05}) == {"a": 0.1, "b": 0.05}


def test_objects_keep_their_numbers() -> None:
    """A cat goes right, a dog left; the cat is doubtful for two frames. A doubtful dog elsewhere starts no track."""
    pytest.importorskip("trackers")
    tracking = Tracking(THRESHOLDS, CLASS_NAMES)
    seen = []
    for index in range(12):
        cat = moved(100 + 5 * index, 0, 0.2 if index in (5, 6) else 0.9)
        dog = moved(300 - 5 * index, 1, 0.35)
        doubtful = (1, 0.2, (0.0, 80.0, 20.0, 95.0))
        kept = tracking.update(frame(index), found(cat, dog, doubtful))
        seen.append(dict(zip(kept.class_id.tolist(), kept.tracker_id.tolist(), strict=True)))
        assert kept.confidence.tolist() == pytest.approx([cat[1], dog[1]])
    assert seen[0] == {0: -1, 1: -1}
    assert all(tracks == seen[1] for tracks in seen[1:])
    assert sorted(seen[1].values()) == [0, 1]


def test_each_video_has_its_own_tracks_and_images_have_none() -> None:
    pytest.importorskip("trackers")
    tracking = Tracking(THRESHOLDS, CLASS_NAMES)
    for video in ("a.mp4", "b.mp4"):
        numbers = [tracking.update(frame(index, video), found(moved(100, 0, 0.9))).tracker_id for index in range(3)]
        assert np.concatenate(numbers).tolist() == [-1, 0, 0]
    assert len(tracking.update(frame(3, "b.mp4"), found())) == 0
    image = Frame(Source("c", "c", Path("c.jpg"), "image"), PIL.Image.new("RGB", (9, 9)))
    kept = tracking.update(image, found(moved(0, 0, 0.9), moved(0, 1, 0.2)))
    assert (kept.confidence.tolist(), kept.tracker_id.tolist()) == ([pytest.approx(0.9)], [-1])
