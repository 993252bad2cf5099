"""The autocast state inside the model's forward is the same in train, validation, evaluate and predict."""

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import PIL.Image
import pytest
import torch

from rfdetr_hwd.commands import evaluate as evaluate_command
from rfdetr_hwd.commands import train as train_command
from rfdetr_hwd.config import Config
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.layers.hwd import HWD

State = tuple[bool, torch.dtype, bool]


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """Every forward of an HWD module notes the state it sees."""
    seen: list[State] = []
    forward = HWD.forward

    def watched(self: HWD, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] == x.shape[-2]:  # the check of the contract, before there is a model, is not square
            seen.append((torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), self.training))
        return forward(self, x)

    monkeypatch.setattr(HWD, "forward", watched)
    return seen


@pytest.fixture
def pretended_gpu():
    """The precision decision, and torch's own check of it, find a GPU; tensors stay on the CPU."""
    cuda = SimpleNamespace(is_available=lambda: True, is_bf16_supported=lambda including_emulation: True)
    seen_by_amp = SimpleNamespace(cuda=cuda, autocast=torch.autocast, bfloat16=torch.bfloat16)
    with (
        mock.patch("rfdetr_hwd.amp.torch", seen_by_amp),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
    ):
        yield


@pytest.mark.skipif(torch.cuda.is_available(), reason="pretends a GPU where there is none")
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.usefixtures("pretended_gpu")
def test_every_forward_sees_the_same_precision(
    observed: list[State], tiny_config: Config, tmp_path: Path, enabled: bool
) -> None:
    config_file = tmp_path / "c.yaml"
    config_file.write_text(tiny_config.model_copy(update={"amp": enabled}).to_yaml())
    run = Path(tiny_config.output.dir)
    train_command.run(config_file, None, ["train.epochs=1", "downsample.backend=pytorch_wavelets"])
    training = {state[:2] for state in observed if state[2]}
    validation = {state[:2] for state in observed if not state[2]}
    observed.clear()
    evaluate_command.run(run, None, "val", tmp_path / "out", "auto", [])
    evaluation = {state[:2] for state in observed}
    observed.clear()
    Detector.load(run).predict([PIL.Image.new("RGB", (50, 40))])
    prediction = {state[:2] for state in observed}
    assert training == validation == evaluation == prediction
    assert {state[0] for state in training} == {enabled}
    if enabled:
        assert training == {(True, torch.bfloat16)}
