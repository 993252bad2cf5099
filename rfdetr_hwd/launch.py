"""How this process was started, as the command that starts as many of them again."""

import os


def launcher() -> str:
    """Return what to type before a verb; on several nodes it is given on each."""
    ranks, nodes = os.environ.get("LOCAL_WORLD_SIZE"), int(os.environ.get("GROUP_WORLD_SIZE", 1))
    if not ranks:
        return "rfdetr-hwd"
    place = f"--nnodes={nodes} --rdzv-backend=c10d --rdzv-endpoint={os.environ['MASTER_ADDR']} " if nodes > 1 else ""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0))
    again = f"--max-restarts={restarts} " if restarts else ""
    return f"torchrun {place}--nproc-per-node={ranks} {again}-m rfdetr_hwd"
