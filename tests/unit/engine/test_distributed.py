"""What a process finds before it has joined the others."""

import pytest
import torch

from rfdetr_hwd.engine.distributed import RankError, process_group


def test_more_processes_than_gpus_are_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(RankError, match="rank 2 of this machine has no GPU: 2 are visible"), process_group():
        pass
