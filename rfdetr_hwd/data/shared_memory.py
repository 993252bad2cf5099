"""What room there is to hand batches over through shared memory, and what to say where there is little of it.

A Docker container has 64 MB of /dev/shm unless it is told otherwise. Torch is not imported: `doctor` works without it.
"""

import logging
import os

PREFETCHED = 2
"""Batches that each data loader worker makes ahead."""

_FOLDER = "/dev/shm"
_AMPLE = 1 << 30
"""Bytes that a training of the usual kind gets by with."""
_MORE_ROOM = "docker run --shm-size=8g (or --ipc=host), in Kubernetes an emptyDir of medium Memory"
_ADVICE = f"More room: {_MORE_ROOM}. Less need: fewer data.workers, a smaller train.micro_batch"
_INSTEAD = "batches that do not fit go through pipes, which is slower"

_said: set[str] = set()

logger = logging.getLogger(__name__)


def find_room() -> tuple[int, int] | None:
    """Return the bytes of /dev/shm that are free, and all of them; `None` where there is no such directory."""
    try:
        found = os.statvfs(_FOLDER)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def describe_room() -> str:
    """Return what to say of /dev/shm in `doctor`; empty where the system shares memory in another way."""
    room = find_room()
    if room is None:
        return ""
    free, total = room
    described = f"shared memory ({_FOLDER}): {_size(free)} free of {_size(total)}"
    return described if free >= _AMPLE else f"{described}, which is little: {_INSTEAD}. More room: {_MORE_ROOM}"


def foresee_shortage(batch_bytes: int, workers: int, ranks: int) -> None:
    """Say before a run that its batches may not fit into shared memory, if that is so.

    Args:
        batch_bytes: Size of the largest batch.
        workers: Data loader workers of a rank.
        ranks: Ranks on this machine.
    """
    room, batches = find_room(), ranks * (PREFETCHED * workers + 1)
    if room is None or not workers or batches * batch_bytes <= room[0]:
        return
    _say_once(
        "room",
        f"{_FOLDER} has {_size(room[0])} free of {_size(room[1])}, but up to {batches} batches of {_size(batch_bytes)} "
        f"may wait in it ({ranks} x {workers} data.workers): {_INSTEAD}. {_ADVICE}",
    )


def say_shortage(batch_bytes: int, reason: str) -> None:
    """Say, once in this process, that a batch was not handed over through shared memory.

    Args:
        batch_bytes: Its size.
        reason: What torch said.
    """
    if "shared memory" not in reason:
        what = f"a batch cannot be shared with the training process ({reason}): it goes through a pipe, which is slower"
        _say_once("sharing", f"{what}. If files are too many, raise `ulimit -n`")
        return
    _say_once("room", f"a batch of {_size(batch_bytes)} does not fit into {_described()}: {_INSTEAD}. {_ADVICE}")


def say_no_workers(reason: str) -> None:
    """Say, once in this process, that data loader workers cannot be started."""
    _say_once(
        "workers",
        f"data loader workers cannot be started ({reason}; {_described()}): images are loaded in the training process, "
        f"which is slower. {_ADVICE}",
    )


def explain_bus_error() -> str:
    """Return what a process died of that was killed by SIGBUS, and what to do."""
    return f"killed by SIGBUS, which means that shared memory is full: {_described()}. {_ADVICE}"


def _described() -> str:
    room = find_room()
    return f"{_FOLDER}, {_size(room[0])} free of {_size(room[1])}" if room else f"{_FOLDER}, which there is not"


def _say_once(topic: str, message: str) -> None:
    if topic not in _said:
        _said.add(topic)
        logger.warning("%s", message)


def _size(number: int) -> str:
    unit, name = next(
        ((unit, name) for unit, name in ((2**30, "GiB"), (2**20, "MiB")) if number >= unit), (2**10, "KiB")
    )
    return f"{number / unit:.3g} {name}"
