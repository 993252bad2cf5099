"""Check the free shared memory for batches, and report if there is too little.

A Docker container has 64 MB of /dev/shm unless it is told otherwise. Torch is not imported: `doctor` works without it.
"""

import logging
import os
from collections.abc import Mapping

PREFETCHED = 2
"""Batches that each data loader worker makes ahead."""

_IN_USE = 2
"""Batches that training holds: that of the step, and that of the step before until its loss is known to be finite."""

FOLDER = "/dev/shm"
"""Where Linux keeps shared memory."""
_USUAL_IMAGES, _USUAL_RESOLUTION, _USUAL_WORKERS = 16, 640, 2
"""What `doctor` judges by: about as much as a training of the usual kind needs."""
_BYTES_OF_A_PIXEL = 3  # images travel in 8 bits
_MORE_ROOM = "docker run --shm-size=8g (or --ipc=host), in Kubernetes an emptyDir of medium Memory"
_LESS_NEED = "fewer data.workers, or a smaller evaluation.batch_size"
_ADVICE = f"To enlarge it: {_MORE_ROOM}. To use less: {_LESS_NEED}"
_INSTEAD = "batches that do not fit are sent through pipes, which is slower"

_said: set[str] = set()

logger = logging.getLogger(__name__)


def find_room() -> tuple[int, int] | None:
    """Return the bytes of /dev/shm that are free, and all of them; `None` where there is no such directory."""
    try:
        found = os.statvfs(FOLDER)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def describe_room() -> str | None:
    """Return what to say of /dev/shm in `doctor`; `None` where the system shares memory in another way."""
    room = find_room()
    if room is None:
        return None
    free, total = room
    batch = batch_bytes(_USUAL_IMAGES, _USUAL_RESOLUTION)
    workers = max(0, free // batch - _IN_USE) // PREFETCHED
    described = (
        f"shared memory ({FOLDER}): {_size(free)} free of {_size(total)}, room for {workers or 'no'} data.workers with "
        f"batches of {_USUAL_IMAGES} images of {_USUAL_RESOLUTION} px ({_size(batch)} each)"
    )
    return described if workers >= _USUAL_WORKERS else f"{described}. This is little: {_INSTEAD}. {_ADVICE}"


def batch_bytes(images: int, resolution: int) -> int:
    """Return the bytes of a batch of images at a resolution."""
    return images * resolution**2 * _BYTES_OF_A_PIXEL


def foresee_shortage(batches: Mapping[str, int], workers: int, ranks: int) -> None:
    """Say before a run that its batches may not fit into shared memory, if that is so.

    Args:
        batches: Bytes of the largest batch of training, of evaluation, which are not loaded at the same time.
        workers: Data loader workers of a rank.
        ranks: Ranks on this machine.
    """
    room, waiting = find_room(), ranks * (PREFETCHED * workers + _IN_USE)
    if room is None or not workers or waiting * max(batches.values()) <= room[0]:
        return
    of = " or ".join(f"{_size(size)} ({what})" for what, size in batches.items() if waiting * size > room[0])
    _say_once(
        "room",
        f"{FOLDER} has {_size(room[0])} free of {_size(room[1])}, but up to {waiting} batches of {of} may wait in it "
        f"({ranks} x {workers} data.workers): {_INSTEAD}. {_ADVICE}",
    )


def say_shortage(batch_bytes: int, reason: str) -> None:
    """Say, once in this process, that a batch was not handed over through shared memory.

    Args:
        batch_bytes: Its size.
        reason: What torch said.
    """
    if "shared memory" not in reason:
        what = (
            f"a batch cannot be shared with the training process ({reason}): it is sent through a pipe, which is slower"
        )
        _say_once("sharing", f"{what}. If too many files are open, raise `ulimit -n`")
        return
    _say_once("room", f"a batch of {_size(batch_bytes)} does not fit into {_described()}: {_INSTEAD}. {_ADVICE}")


def say_fewer_workers(wanted: int, count: int, reason: str) -> None:
    """Say, once in this process, that not all data loader workers can be started.

    Args:
        wanted: Workers that were asked for.
        count: Workers that there are.
        reason: What the system said.
    """
    instead = f"images are loaded by {count}" if count else "images are loaded in the training process"
    what = f"data.workers={wanted} cannot be started ({reason}; {_described()}): {instead}, which is slower"
    _say_once("workers", f"{what}. {_ADVICE}")


def explain_bus_error() -> str:
    """Return what a process died of that was killed by SIGBUS, and what to do."""
    return f"killed by SIGBUS, which means that shared memory is full: {_described()}. {_ADVICE}"


def _described() -> str:
    room = find_room()
    return f"{FOLDER}, {_size(room[0])} free of {_size(room[1])}" if room else f"{FOLDER}, which does not exist"


def _say_once(topic: str, message: str) -> None:
    if topic not in _said:
        _said.add(topic)
        logger.warning("%s", message)


def _size(number: int) -> str:
    unit, name = next(
        ((unit, name) for unit, name in ((2**30, "GiB"), (2**20, "MiB")) if number >= unit), (2**10, "KiB")
    )
    return f"{number / unit:.3g} {name}"
