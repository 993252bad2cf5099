"""The precision inside the model's forward is the same in train, validation, evaluate and predict, and as recorded."""

import json
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import PIL.Image
import pytest
import torch

from rfdetr_hwd.cli.evaluate import evaluate
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.layers.hwd import HWD
from rfdetr_hwd.training import run as train_command

State = tuple[bool, tuple[bool, torch.dtype, str, str]]
"""Whether it is training; autocast, its type, and what float32 matrix products and convolutions round to."""


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """Every forward of an HWD module notes the state it sees."""
    seen: list[State] = []
    forward = HWD.forward

    def watched(self: HWD, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] == x.shape[-2]:  # the check of the contract, before there is a model, is not square
            rounding = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
            state = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), *rounding
            seen.append((self.training, state))
        return forward(self, x)

    monkeypatch.setattr(HWD, "forward", watched)
    return seen


@pytest.fixture
def pretended_gpu() -> Iterator[None]:
    """The precision decision, and torch's own check of it, find a GPU; tensors stay on the CPU."""
    with (
        mock.patch("rfdetr_hwd.amp._cuda_runs_bfloat16", return_value=True),
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
    training = {state for is_training, state in observed if is_training}
    validation = {state for is_training, state in observed if not is_training}
    observed.clear()
    torch.set_float32_matmul_precision("high")  # as an import of rfdetr does
    torch.backends.cudnn.allow_tf32 = True
    evaluate(run, out=tmp_path / "out")
    evaluation = {state for _, state in observed}
    observed.clear()
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    Detector.load(run).predict([PIL.Image.new("RGB", (50, 40))])
    prediction = {state for _, state in observed}
    assert training == validation == evaluation == prediction
    assert {state[0] for state in training} == {enabled}
    assert {state[2:] for state in training} == {("ieee", "ieee")}
    if enabled:
        assert {state[1] for state in training} == {torch.bfloat16}
    recorded = {"precision": "float32", "float32_matmul": "ieee", "float32_conv": "ieee"}  # the model is on the CPU
    assert json.loads((run / "run.json").read_text())["starts"][0]["precision"] == recorded
    protocol = json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"]
    assert {key: protocol[key] for key in recorded} == recorded
