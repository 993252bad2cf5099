"""`rfdetr-hwd push`: upload an exported model to the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from rfdetr_hwd.console import say


def push(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory that `export --format hub` has written.")],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
) -> None:
    """Upload an exported model to the Hugging Face hub.

    The token is read from HF_TOKEN.
    """
    from rfdetr_hwd.export.push import push as push_directory

    say(f"pushed: {push_directory(directory, repository, private)}")
