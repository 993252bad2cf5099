"""`train.deterministic=true` asks torch for everything that it can do."""

import os

import pytest
import torch

from rfdetr_hwd.cli import doctor
from rfdetr_hwd.runtime.determinism import NONDETERMINISTIC_ON_CUDA, make_deterministic


def test_every_switch_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "deterministic")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    kernels = torch.backends.cuda
    fused = {name: getattr(kernels, f"{name}_sdp_enabled")() for name in ("flash", "mem_efficient", "cudnn")}
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        make_deterministic()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
        assert not any(getattr(kernels, f"{name}_sdp_enabled")() for name in fused)
    finally:
        for name, was_enabled in fused.items():
            getattr(kernels, f"enable_{name}_sdp")(was_enabled)
        torch.use_deterministic_algorithms(False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_the_doctor_lists_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.doctor()
    printed = capsys.readouterr().out
    for operator in NONDETERMINISTIC_ON_CUDA:
        assert operator in printed


def test_the_list_is_that_of_torch() -> None:
    """What torch documents as having no deterministic kernel on a GPU still is what is listed."""
    forbidden = torch.use_deterministic_algorithms.__doc__.split("will throw a")[2]
    for name in ("interpolate", "grid_sample"):
        assert name in forbidden
    assert "bicubic" in forbidden
