"""`rfdetr-hwd checkpoint verify`: check the files of checkpoints against their hashes."""

from rfdetr_hwd.cli.options import CheckpointPath
from rfdetr_hwd.console import print_table, say


def verify(path: CheckpointPath) -> None:
    """Check every file against its sha256.

    The exit status is 1 if a file is corrupt.
    """
    from rfdetr_hwd.checkpoint.read import MANIFEST, CheckpointError, checkpoints_of, open_checkpoint, verify_files

    corrupt: list[str] = []
    for folder in checkpoints_of(path):
        # Compare the hashes
        try:
            files = verify_files(folder)
        except CheckpointError as error:
            if not (folder / MANIFEST).exists() and folder == path.resolve():
                raise  # it is no checkpoint at all
            corrupt.append(str(error))
            continue
        print_table(str(folder), ("file", "state"), [(name, problem or "ok") for name, problem in files.items()])
        corrupt += [f"{folder / name} {problem}" for name, problem in files.items() if problem]

        # Check the content, which the hashes do not cover
        if not any(files.values()):
            open_checkpoint(folder)
    if corrupt:
        raise CheckpointError("\n  ".join(["corrupt:", *corrupt]))
    say("every file matches its sha256")
