"""`rfdetr-hwd checkpoint verify`: check the files of checkpoints against their hashes."""

from rfdetr_hwd.cli.options import CheckpointPath
from rfdetr_hwd.console import print_table, say


def verify(path: CheckpointPath) -> None:
    """Check every file against its sha256.

    The exit status is 1 if a file is corrupt.
    """
    from rfdetr_hwd.checkpoint.read import MANIFEST, CheckpointError, checkpoints_of, open_checkpoint, verify_files

    corrupt: list[str] = []
    for directory in checkpoints_of(path):
        # Compare the hashes
        try:
            files = verify_files(directory)
        except CheckpointError as error:
            if not (directory / MANIFEST).exists() and directory == path.resolve():
                raise  # it is no checkpoint at all
            corrupt.append(str(error))
            continue
        print_table(str(directory), ("file", "state"), [(name, problem or "ok") for name, problem in files.items()])
        corrupt += [f"{directory / name} {problem}" for name, problem in files.items() if problem]

        # Check the content, which the hashes do not cover
        if not any(files.values()):
            open_checkpoint(directory)
    if corrupt:
        raise CheckpointError("\n  ".join(["corrupt:", *corrupt]))
    say("every file matches its sha256")
