"""How this process was started: its rank, and the command that starts as many ranks again."""

import os
from contextlib import suppress
from dataclasses import dataclass

from rfdetr_hwd.errors import ConfigError

_TOGETHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that a launcher sets in each process."""
_LARGEST_PORT = 2**16 - 1


@dataclass(frozen=True)
class Place:
    """This process among those that a launcher started.

    Attributes:
        rank: Its number, from 0.
        world_size: How many there are, at least 2.
        local_rank: Its number on this machine.
        host: Where they find each other.
        port: The port there.
    """

    rank: int
    world_size: int
    local_rank: int
    host: str
    port: int


def find_place() -> Place | None:
    """Return the place that a launcher gave this process; `None` for a single process.

    A leftover variable is ignored: without RANK, or with WORLD_SIZE=1, there is a single process. SLURM's own variables
    mean nothing: `scripts/slurm.sbatch` calls torchrun.

    Raises:
        ConfigError: The variables say that this is one of several processes, but not how they find each other.
    """
    world_size = _number("WORLD_SIZE", 1, 1)
    if world_size == 1 or not _text("RANK"):
        return None
    missing = [name for name in _TOGETHER if not _text(name)]
    if missing:
        told = " and ".join(f"{name}={_text(name)}" for name in _TOGETHER[:2])
        raise ConfigError(f"{told} are set in the environment, but not {' and '.join(missing)}: {_advice()}")
    rank, local_rank = _number("RANK", 0, 0), _number("LOCAL_RANK", 0, 0)
    port = _number("MASTER_PORT", 0, 0)
    if rank >= world_size or port > _LARGEST_PORT:
        what = f"RANK={rank} with WORLD_SIZE={world_size}" if rank >= world_size else f"MASTER_PORT={port}"
        raise ConfigError(f"{what} in the environment is out of range: {_advice()}")
    return Place(rank, world_size, local_rank, _text("MASTER_ADDR"), port)


def leftover() -> str:
    """Return a warning about leftover variables in the environment; empty if there are none."""
    if find_place() is not None or _number("WORLD_SIZE", 1, 1) == 1:
        return ""
    return (
        f"WORLD_SIZE={_text('WORLD_SIZE')} is set in the environment, but not RANK: running as a single process. For "
        f"{_text('WORLD_SIZE')} ranks: torchrun --nproc-per-node={_text('WORLD_SIZE')} -m rfdetr_hwd ..."
    )


def is_first() -> bool:
    """Return whether this process prints for all ranks, which it also does in an unclear environment."""
    with suppress(ConfigError):
        place = find_place()
        return place is None or place.rank == 0
    return True


def is_under_torchrun() -> bool:
    """Return whether torchrun started this process. torchrun restarts its ranks if one of them fails."""
    return bool(_text("TORCHELASTIC_RUN_ID"))


def num_restarts() -> int:
    """Return how often torchrun has started the ranks again."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0, 0) if is_under_torchrun() else 0


def num_local_ranks() -> int:
    """Return how many ranks share this machine, as far as the launcher says."""
    return 1 if find_place() is None else _number("LOCAL_WORLD_SIZE", 1, 1)


def cores_of_a_rank() -> int:
    """Return the CPU cores that this process may use, shared out among the ranks of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // num_local_ranks())


def num_nodes() -> int:
    """Return how many machines the ranks are on, as far as torchrun says."""
    return _number("GROUP_WORLD_SIZE", 1, 1) if is_under_torchrun() else 1


def launcher() -> str:
    """Return the command in front of a verb. On several nodes it is run on each."""
    if not is_under_torchrun():
        return "rfdetr-hwd"
    nodes, restarts = num_nodes(), _number("TORCHELASTIC_MAX_RESTARTS", 0, 0)
    place = f"--nnodes={nodes} --rdzv-backend=c10d --rdzv-endpoint={_text('MASTER_ADDR')} " if nodes > 1 else ""
    again = f"--max-restarts={restarts} " if restarts else ""
    return f"torchrun {place}--nproc-per-node={_number('LOCAL_WORLD_SIZE', 1, 1)} {again}-m rfdetr_hwd"


def _text(name: str) -> str:
    return os.environ.get(name, "").strip()


def _number(name: str, default: int, least: int) -> int:
    """Return the whole number that a variable holds.

    Raises:
        ConfigError: It holds something else.
    """
    text = _text(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ConfigError(f"{name}={text} in the environment is not an integer of at least {least}: {_advice()}")
    return int(text)


def _advice() -> str:
    names = " ".join((*_TOGETHER, "LOCAL_RANK"))
    return f"start with torchrun, which sets them all. For a single process: unset {names}"
