"""A push over real HTTP: what arrives, and each way in which it is refused, in one message."""

from pathlib import Path

import huggingface_hub
import pytest
import torch

from rfdetr_hwd.checkpoint.read import CheckpointError
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.checkpoint.write import write_hub_files
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export import push as pushing
from rfdetr_hwd.export.hub import FILES
from rfdetr_hwd.export.push import PushError, push
from tests.unit.checkpoint.records import RECORD
from tests.unit.export.hub_stand_in import TOKEN, Hub, stand_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hub directory with a small tensor, and a file that is not a part of it."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_hub_files(folder, TrainState(step=3), RECORD, {"weight": torch.arange(6.0)})
    (folder / "README.md").write_text("---\nlicense: unknown\n---\n\n# A model\n")
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    (folder / "notes.txt").write_text("private")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The stand-in, as the environment names it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_the_files_of_the_model_arrive_and_no_others(folder: Path, hub: Hub) -> None:
    url = push(folder, "me/cells", is_private=True)
    assert url.startswith(f"{hub.url}/me/cells/commit/")
    assert hub.files == {name: (folder / name).read_bytes() for name in FILES}
    assert hub.repositories["me/cells"]["visibility"] == "private"
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")  # a card may be edited, and pushed again
    push(folder, "me/cells")
    assert b"mit" in hub.files["README.md"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "401 .*The token in HF_TOKEN is not valid"),
        (403, "403 .*The token in HF_TOKEN may not write to me/cells"),
        (500, "500 .*Nothing was published"),
    ],
)
def test_a_refusal_is_one_message(status: int, reason: str, folder: Path, hub: Hub) -> None:
    hub.status = status
    with pytest.raises(PushError, match=reason) as caught:
        push(folder, "me/cells")
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert hub.files == {}


def test_a_wrong_token_is_refused_by_the_hub(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(PushError, match="not valid"):
        push(folder, "me/cells")


def test_a_hub_that_cannot_be_reached_is_one_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(PushError, match=r"http://127.0.0.1:9 cannot be reached: .* push it again"):
        push(folder, "me/cells")


def test_what_is_missing_is_said_before_anything_is_sent(
    folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="'cells' is not the name of a repository: give USER/NAME"):
        push(folder, "cells")
    monkeypatch.setattr(pushing.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'rfdetr-hwd\[hub\]'"):
        push(folder, "me/cells")
    monkeypatch.undo()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(ConfigError, match="HF_TOKEN is not set"):
        push(folder, "me/cells")
    (folder / "README.md").write_text("# A model\n")
    with pytest.raises(CheckpointError, match="no front matter"):
        push(folder, "me/cells")
    (folder / "README.md").unlink()
    with pytest.raises(ConfigError, match=r"has no README.md: give a directory that `rfdetr-hwd export"):
        push(folder, "me/cells")
    (folder / "README.md").write_text("---\n---\n")
    (folder / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(CheckpointError, match=r"model.safetensors checksum mismatch"):
        push(folder, "me/cells")
    assert hub.requests == []
