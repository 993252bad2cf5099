"""`best`: the link of a run directory to its best checkpoint."""

import logging
import os
from pathlib import Path

from rfdetr_hwd.checkpoint.read import CheckpointError, list_checkpoints
from rfdetr_hwd.errors import explaining

logger = logging.getLogger(__name__)


def point(link: Path, target: Path) -> None:
    """Point the link to a checkpoint of the run. A copied directory in its place is set aside.

    Raises:
        CheckpointError: The link cannot be made.
    """
    new = link.with_name(f".{link.name}.partial")
    with explaining(OSError, f"cannot link {link} to {target}", CheckpointError):
        # A copy by a program that follows links leaves a directory.
        if link.is_dir() and not link.is_symlink():
            link.rename(link.with_name(f"copied-{link.name}-{os.getpid()}"))
        new.unlink(missing_ok=True)
        new.symlink_to(target.relative_to(link.parent), target_is_directory=True)
        os.replace(new, link)


def retire(link: Path, checkpoints: Path, current: Path) -> None:
    """Remove the link when its AP no longer counts. Its checkpoint is kept under another name.

    Args:
        link: The link.
        checkpoints: Directory of the checkpoints. A target elsewhere is not renamed.
        current: The checkpoint that the run resumes from, which keeps its name.

    Raises:
        CheckpointError: The link cannot be removed, or the checkpoint cannot be renamed.
    """
    if not link.is_symlink():
        return
    former = link.resolve()
    with explaining(OSError, f"cannot retire {link}", CheckpointError):
        if former != current.resolve() and former in (path.resolve() for path in list_checkpoints(checkpoints)):
            kept = former.rename(former.with_name(f"former-best-{former.name}"))
            logger.info("the former best checkpoint is kept as %s", kept)
        link.unlink()
