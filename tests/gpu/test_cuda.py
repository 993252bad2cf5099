"""What only a CUDA device can show: real mixed precision in every pass, and a run on the GPU."""

import json
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.commands import evaluate as evaluate_command
from rfdetr_hwd.commands import train as train_command
from rfdetr_hwd.config import Config
from rfdetr_hwd.engine.tracking import read_metrics
from rfdetr_hwd.layers.hwd import HWD
from rfdetr_hwd.layers.registry import build_downsample, list_downsamples

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", list(list_downsamples()))
def test_trains_under_bfloat16(name: str) -> None:
    module = build_downsample(name, 64, 64).cuda()
    x = torch.randn(2, 64, 24, 24, device="cuda", requires_grad=True)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        output = module(x)
    output.float().square().mean().backward()
    assert output.dtype == torch.bfloat16
    for tensor in (x, *module.parameters()):
        assert tensor.grad.dtype == torch.float32
        assert tensor.grad.isfinite().all()


def test_backends_agree_on_the_gpu() -> None:
    fused, library = HWD(32, 48).cuda(), HWD(32, 48, backend="pytorch_wavelets").cuda()
    library.load_state_dict(fused.state_dict())
    x = torch.randn(2, 32, 25, 24, device="cuda")
    torch.testing.assert_close(fused(x), library(x), atol=1e-2, rtol=1e-2)  # TF32 convolutions


def test_a_run_trains_in_bfloat16_and_evaluates_to_the_same_figures(tiny_config: Config, tmp_path: Path) -> None:
    config_file, run = tmp_path / "c.yaml", Path(tiny_config.output.dir)
    config_file.write_text(tiny_config.to_yaml())
    train_command.run(config_file, None, [])
    evaluate_command.run(run / "best", None, "val", tmp_path / "out", "ema", [])
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["protocol"]["precision"] == "bfloat16 mixed"
    assert content["figures"]["AP"] == pytest.approx(
        next(r for r in reversed(read_metrics(run / "metrics.jsonl")) if "ema/AP" in r)["ema/AP"], abs=1e-3
    )
