"""Images are decoded in few threads whose memory is bounded, whatever machine and images there are."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.data import decoding_threads
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.decoding_threads import MAX_THREADS, NUM_PROBED, decode_in_threads, measure_split, probed_rows
from rfdetr_hwd.data.deep_images import DeepValues
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.read import read_split


@pytest.fixture
def data(shapes_root: Path, tmp_path: Path) -> DetectionData:
    shutil.copytree(shapes_root, tmp_path / "data")
    return read_split(find_layout(tmp_path / "data").split("train"))


class Look:
    """Counts who decodes at the same time; the first few wait for each other as long as they may be so many."""

    def __init__(self, together: int) -> None:
        self.together = threading.Barrier(together)
        self.lock, self.now, self.most, self.rows = threading.Lock(), 0, 0, []
        self.threads: list[int] = []

    def __call__(self, row: int) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            is_first = len(self.rows) < self.together.parties
            self.rows.append(row)
            self.threads.append(threading.get_ident())
        if is_first:
            self.together.wait(60)
        with self.lock:
            self.now -= 1
        return row * row


def test_a_machine_with_many_cores_gets_few_threads(data: DetectionData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_threads.os, "cpu_count", lambda: 128)
    look = Look(MAX_THREADS)
    assert list(decode_in_threads(data, look, range(24))) == [row * row for row in range(24)]
    assert look.most == MAX_THREADS == 4


@pytest.mark.parametrize(("room", "together"), [(4.0, 4), (3.9, 1), (0.3, 1)])
def test_large_images_are_decoded_one_after_another(
    data: DetectionData, monkeypatch: pytest.MonkeyPatch, room: float, together: int
) -> None:
    """Where the memory has no room for so many; how large one is says its file, not its annotation."""
    monkeypatch.setattr(decoding_threads.os, "cpu_count", lambda: 128)
    for row in range(len(data)):
        PIL.Image.new("L", (1000, 1000)).save(data.path(row))
    monkeypatch.setattr(decoding_threads, "MEMORY", round(room * decoding_threads._estimate_bytes(data, 0)))
    assert decoding_threads._estimate_bytes(data, 0) == pytest.approx(16e6, rel=0.01)
    look = Look(together)
    small = replace(data, sizes=np.ones_like(data.sizes))
    assert list(decode_in_threads(small, look, range(24))) == [row * row for row in range(24)]
    assert look.most == together
    assert len(set(look.threads)) == together


def test_whoever_is_asked_to_stop_does_not_decode_the_rest(
    data: DetectionData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, is_over = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            is_over.set()
            super().shutdown(wait=wait)

    def look(row: int) -> None:
        if row == 0:
            raise KeyboardInterrupt
        is_over.wait(60)
        seen.append(row)

    monkeypatch.setattr(decoding_threads, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(decoding_threads.os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        list(decode_in_threads(data, look, range(24)))
    assert seen in ([], [1])


def test_what_cannot_be_read_is_left_to_whoever_looks(data: DetectionData) -> None:
    data.path(3).write_bytes(b"")
    data.path(4).unlink()
    assert list(decode_in_threads(data, lambda row: row, [3, 4, 5])) == [3, 4, 5]
    assert measure_split(data, 0) == DeepValues()


def test_the_bits_of_a_split_are_those_of_its_images(data: DetectionData) -> None:
    for row, value in ((3, 900), (7, 5000), (11, 20)):
        PIL.Image.fromarray(np.full((80, 96), value, dtype=np.uint16)).save(data.path(row), "PNG")
    data.path(5).write_bytes(b"")
    assert measure_split(data, 0) == DeepValues(3, 5000, 0)


def test_the_images_that_are_probed_are_drawn_by_the_seed() -> None:
    assert probed_rows(NUM_PROBED, 3).tolist() == list(range(NUM_PROBED))
    rows = probed_rows(5000, 3).tolist()
    assert len(set(rows)) == NUM_PROBED
    assert rows == probed_rows(5000, 3).tolist() != probed_rows(5000, 4).tolist()
