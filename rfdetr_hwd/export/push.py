"""Upload a hub directory to the Hugging Face hub. Nothing is uploaded unless the command is given."""

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rfdetr_hwd.checkpoint.read import CheckpointError, open_checkpoint
from rfdetr_hwd.errors import ConfigError, UserError
from rfdetr_hwd.export.hub import CARD, FILES

TOKEN_VARIABLE = "HF_TOKEN"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class PushError(UserError):
    """A model that was not uploaded."""


def push(folder: Path, repository: str, is_private: bool = False) -> str:
    """Upload the files of a hub directory in one commit, and create the repository if it is missing.

    The token is read from the environment variable `HF_TOKEN`, and from nowhere else. `HF_ENDPOINT` may name another
    hub.

    Args:
        folder: A directory of `rfdetr-hwd export --format hub`. Other files in it stay.
        repository: `USER/NAME`.
        is_private: Create a private repository. An existing one stays as it is.

    Returns:
        URL of the commit.

    Raises:
        ConfigError: The directory, the name or the token is missing or wrong.
        PushError: The hub refused it, or cannot be reached.
    """
    # Check everything that can be checked here.
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConfigError("push needs huggingface_hub: pip install 'rfdetr-hwd[hub]'")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} has no {missing[0]}: give a directory that `rfdetr-hwd export --format hub` has written"
        )
    open_checkpoint(folder)  # every file that is loaded is as it was written
    if not (folder / CARD).read_text(encoding="utf-8").startswith("---\n"):
        raise CheckpointError(f"{folder / CARD} has no front matter: the hub would not know the model. Export it again")
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"{repository!r} is not the name of a repository: give USER/NAME")
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise ConfigError(
            f"{TOKEN_VARIABLE} is not set: create a token with write access on the hub, and set {TOKEN_VARIABLE} to it"
        )
    # Upload.
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    with _explained(repository, str(api.endpoint)):
        api.create_repo(repository, private=is_private or None, exist_ok=True)
        files = [CommitOperationAdd(name, folder / name) for name in FILES]
        commit = api.create_commit(repository, files, commit_message="Upload the model with rfdetr-hwd")
    return str(commit.commit_url)


@contextmanager
def _explained(repository: str, endpoint: str) -> Iterator[None]:
    """Turn an error of the hub or of the network into one message."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = " ".join((error.server_message or str(error)).split())[:300]
        advice = {
            401: f"The token in {TOKEN_VARIABLE} is not valid",
            403: f"The token in {TOKEN_VARIABLE} may not write to {repository}: use one with write access",
        }
        raise PushError(
            f"{endpoint} refused {repository}: {status} {reason}. {advice.get(status, 'Nothing was published')}"
        ) from None
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise PushError(f"{endpoint} cannot be reached: {reason}. The directory is complete: push it again") from None
