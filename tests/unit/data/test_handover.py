"""Batches arrive through shared memory, through pipes where it is short, and without workers where there is none."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rfdetr_hwd.data import shared_memory
from rfdetr_hwd.data import workers as workers_module
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.loader import EvalLoader, Partition, TrainLoader, TrainOrder
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.workers import WorkerPool, Workers

BATCHES = [[SampleKey(row, 0, 64), SampleKey(row + 1, 0, 64)] for row in (0, 4)]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "_said", set())


@pytest.fixture
def data(shapes_root: Path) -> DetectionData:
    return read_split(find_layout(shapes_root).split("train"))


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared memory that takes the workers' queues and not a batch, as in a container of 64 MiB."""

    def refuse(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)


def check_same(batches: list[Batch], others: list[Batch]) -> None:
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.sizes, other.sizes)
        assert batch.image_ids == other.image_ids
        for target, same in zip(batch.targets, other.targets, strict=True):
            assert all(torch.equal(target[key], same[key]) for key in ("labels", "boxes"))


def test_with_room_images_are_shared_and_nothing_is_said(data: DetectionData, caplog: pytest.LogCaptureFixture) -> None:
    dataset = DetectionDataset(data)
    shared = list(WorkerPool(dataset, Workers(2, 60)).serve(BATCHES))
    assert all(batch.images.is_shared() for batch in shared)
    assert not caplog.records
    check_same(shared, list(WorkerPool(dataset, Workers(0, 60)).serve(BATCHES)))


def test_without_room_images_go_through_pipes_which_is_said_once(
    data: DetectionData, no_room: None, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = DetectionDataset(data)
    piped = list(WorkerPool(dataset, Workers(2, 60)).serve(BATCHES))
    assert not any(batch.images.is_shared() for batch in piped)
    assert len(caplog.records) == 1
    for text in ("a batch of 24 KiB does not fit into /dev/shm", "through pipes", "--shm-size", "fewer data.workers"):
        assert text in caplog.records[0].message
    check_same(piped, list(WorkerPool(dataset, Workers(0, 60)).serve(BATCHES)))


@pytest.mark.parametrize(
    ("most", "tried", "instead"),
    [(2, [5, 2], "images are loaded by 2"), (0, [5, 2, 1, 0], "images are loaded in the training process")],
)
def test_where_not_all_workers_can_be_started_there_are_fewer(
    data: DetectionData,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: int,
    tried: list[int],
    instead: str,
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(workers_module, "_load", refuse_more(most, workers_module._load, counts))
    check_same(*(list(WorkerPool(DetectionDataset(data), Workers(count, 60)).serve(BATCHES)) for count in (5, 0)))
    assert counts == [*tried, 0]
    assert len(caplog.records) == 1
    message = caplog.records[0].message
    assert "data.workers=5 cannot be started ([Errno 28] No space left on device; /dev/shm, " in message
    assert instead in message
    assert "--shm-size" in message


def refuse_more(most: int, load: Callable[..., Any], counts: list[int]) -> Callable[..., Any]:
    def refuse(dataset: DetectionDataset, batches: list[list[SampleKey]], workers: Workers) -> Any:
        counts.append(workers.count)
        if workers.count > most:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # of the queues' semaphores
        return load(dataset, batches, workers)

    return refuse


def test_what_may_not_fit_is_said_before_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_memory, "find_room", lambda: (60 << 20, 64 << 20))
    shared_memory.foresee_shortage({"training": 9 << 20, "evaluation": 10 << 20}, workers=2, ranks=1)
    assert not caplog.records  # six batches fit, of either kind
    shared_memory.foresee_shortage({"training": 9 << 20, "evaluation": 11 << 20}, workers=2, ranks=1)
    shared_memory.foresee_shortage({"training": 99 << 20}, workers=2, ranks=1)
    (record,) = caplog.records
    assert "/dev/shm has 60 MiB free of 64 MiB, but up to 6 batches of 11 MiB (evaluation) may wait" in record.message
    assert "(1 x 2 data.workers)" in record.message


def test_without_workers_nothing_waits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(shared_memory, "find_room", lambda: (0, 0))
    shared_memory.foresee_shortage({"training": 10 << 20}, workers=0, ranks=1)
    assert not caplog.records


def test_the_largest_batches_are_known_beforehand(data: DetectionData) -> None:
    dataset, order = DetectionDataset(data), TrainOrder(len(data), 7, 3, [64, 96])
    for world_size in (1, 2):
        loader = TrainLoader(dataset, order, Workers(0, 60), Partition(0, world_size), print)
        assert loader.largest_batch == max(batch.images.nbytes for epoch in range(3) for batch in loader.epoch(epoch))
    evaluation = EvalLoader(dataset, 64, 5, Workers(0, 60), Partition(), print)
    assert evaluation.largest_batch == max(batch.images.nbytes for batch in evaluation)


@pytest.mark.parametrize(
    ("mebibytes", "judgement"), [(16, "room for no data.workers"), (94, "room for 1 "), (256, "room for 5 ")]
)
def test_doctor_judges_the_room(monkeypatch: pytest.MonkeyPatch, mebibytes: int, judgement: str) -> None:
    monkeypatch.setattr(shared_memory, "find_room", lambda: (mebibytes << 20, mebibytes << 20))
    described = shared_memory.describe_room()
    assert judgement in described
    assert "batches of 16 images of 640 px (18.8 MiB each)" in described
    assert ("This is little" in described and "--shm-size" in described) == (mebibytes < 256)


SCRIPT = """
import json, logging, multiprocessing, os, signal, sys
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.workers import WorkerPool, Workers

logging.basicConfig(level=logging.WARNING, format="%(message)s")
root, what = sys.argv[1:]
data = read_split(find_layout(root).split("train"))
batches = [[SampleKey(4 * number + k, 0, 128) for k in range(4)] for number in range(6)] * 2  # each of 192 KiB
kept = []
for batch in WorkerPool(DetectionDataset(data), Workers(2, 60)).serve(batches):
    kept.append(batch)
    if what == "fill" and len(kept) == 1:
        with open("/dev/shm/filler", "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
    if what == "wait":
        print(json.dumps([process.pid for process in multiprocessing.active_children()]), flush=True)
        signal.pause()
shared = [batch.images.is_shared() for batch in kept]
left = sorted(os.listdir("/dev/shm")), len(multiprocessing.active_children())
print(json.dumps([len(kept), any(shared), all(shared), *left]))
"""


def start_with(kibibytes: int, root: Path, what: str) -> "subprocess.Popen[str]":
    """Start the script with a /dev/shm of its own that has so much room; without permission for that, skip."""
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    mount = [*unshare, "sh", "-c", f'mount -t tmpfs -o size={kibibytes}k tmpfs /dev/shm && exec "$@"', "sh"]
    try:
        is_permitted = sys.platform == "linux" and not subprocess.run([*mount, "true"], capture_output=True).returncode
    except FileNotFoundError:
        is_permitted = False
    if not is_permitted:
        pytest.skip("a /dev/shm of its own cannot be mounted: no unshare, or no permission")
    return subprocess.Popen(
        [*mount, sys.executable, "-W", "ignore", "-c", SCRIPT, str(root), what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("kibibytes", "what", "shared", "said"),
    [
        (16384, "", (True, True), []),
        (200, "", (False, False), ["a batch of 192 KiB does not fit into /dev/shm"]),
        (48, "", (False, False), ["images are loaded by 1,", "a batch of 192 KiB does not fit"]),
        (4, "", (False, False), ["images are loaded in the training process"]),
        (2048, "fill", (True, False), ["a batch of 192 KiB does not fit into /dev/shm, "]),
    ],
)
def test_a_small_shared_memory_costs_one_line(
    shapes_root: Path, kibibytes: int, what: str, shared: tuple[bool, bool], said: list[str]
) -> None:
    """Every batch comes; no traceback, no process and no segment is left."""
    out, err = start_with(kibibytes, shapes_root, what).communicate(timeout=120)
    assert json.loads(out) == [12, *shared, ["filler"] if what else [], 0]
    lines = err.splitlines()
    assert len(lines) == len(said), err
    assert all(text in line for text, line in zip(said, lines, strict=True)), err


def test_workers_end_when_the_process_that_trains_is_killed(shapes_root: Path) -> None:
    """Although what they put into the pipe is never read."""
    process = start_with(200, shapes_root, "wait")
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        workers = json.loads(process.stdout.readline())
        process.kill()
        process.wait()
    end = time.monotonic() + 60  # torch looks every five seconds
    while any(is_alive(worker) for worker in workers) and time.monotonic() < end:
        time.sleep(0.2)
    left = [worker for worker in workers if is_alive(worker)]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert len(workers) == 2
    assert not left


def is_alive(pid: int) -> bool:
    """Return whether a process has not ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
