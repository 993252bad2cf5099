"""What only a CUDA device can show: real mixed precision in every pass, and a run on the GPU."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.commands import evaluate as evaluate_command
from rfdetr_hwd.commands import train as train_command
from rfdetr_hwd.config import Config
from rfdetr_hwd.engine import learner
from rfdetr_hwd.engine.checkpoint import newest_checkpoint
from rfdetr_hwd.engine.tracking import JsonLinesTracker, read_metrics
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.layers.hwd import HWD
from rfdetr_hwd.layers.registry import build_downsample, list_downsamples
from tests.integration.runs import differing

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


def test_the_micro_batch_is_probed_and_kept(tiny_config: Config, tmp_path: Path) -> None:
    config_file, run = tmp_path / "c.yaml", Path(tiny_config.output.dir)
    config_file.write_text(tiny_config.to_yaml())
    train_command.run(config_file, None, ["train.micro_batch=auto", "train.epochs=1", "train.deterministic=true"])
    assert newest_checkpoint(run / "checkpoints")[0].state.micro_batch == 4


def test_an_update_that_does_not_fit_is_made_again_in_halves(tiny_config: Config, tmp_path: Path) -> None:
    """With so little of the memory that four large images do not fit, fewer do."""
    config_file, run = tmp_path / "c.yaml", Path(tiny_config.output.dir)
    config_file.write_text(tiny_config.to_yaml())
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 3.5 * 2**30 / total))
    try:
        train_command.run(
            config_file, None, ["train.epochs=1", "train.batch_size=24", "model.resolution=768", "evaluation.every=1"]
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 0 < newest_checkpoint(run / "checkpoints")[0].state.micro_batch < 24


@pytest.mark.parametrize("deterministic", ["false", "true"])
def test_a_run_on_the_gpu_goes_on_from_the_middle_of_an_epoch(
    tiny_config: Config, tmp_path: Path, deterministic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generators to the bit; not the weights: deformable attention adds its gradients in any order."""
    config_file, run = tmp_path / "c.yaml", Path(tiny_config.output.dir)
    config_file.write_text(tiny_config.to_yaml())
    options = [f"train.deterministic={deterministic}", "model.dropout=0.1", "train.epochs=1", "train.lr=1e-6"]
    train_command.run(config_file, None, options)
    expected = [record["loss"] for record in read_metrics(run / "metrics.jsonl") if "loss" in record]
    other = tmp_path / "other"
    log = JsonLinesTracker.log

    def told(self: JsonLinesTracker, step: int, values: dict[str, float]) -> None:
        log(self, step, values)
        if step == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(JsonLinesTracker, "log", told)
        with pytest.raises(Interrupted):
            train_command.run(config_file, None, [*options, f"output.dir={other}"])
    train_command.run(None, other, [])
    losses = [record["loss"] for record in read_metrics(other / "metrics.jsonl") if "loss" in record]
    assert losses == pytest.approx(expected, rel=2e-2)
    step = newest_checkpoint(run / "checkpoints")[0].step
    assert [name for name in differing(other, run, step) if name.startswith("random")] == []
    monkeypatch.setattr(learner, "restore_random_state", lambda _: None)  # negative control
    shutil.rmtree(other / "checkpoints" / f"step-{step:08d}")
    train_command.run(None, other, [])
    assert "random/0/cuda/0" in differing(other, run, step)
