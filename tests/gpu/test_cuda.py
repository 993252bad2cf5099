"""What only a CUDA device can show of whole runs: mixed precision in every pass, memory, the generator, nccl."""

import gc
import json
import shutil
import signal
import warnings
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.checkpoint.read import newest_checkpoint
from rfdetr_hwd.cli.evaluate import evaluate
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.export.artefact import open_graph
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.training import learner
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training.optimizer import build_adamw
from rfdetr_hwd.training.trackers import JsonLinesTracker, read_metrics
from rfdetr_hwd.training.train_step import TrainStep
from tests.gpu.conftest import Run
from tests.integration.runs import differing
from tests.rehearsal import steps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
MIXED = {"precision": "bfloat16 mixed", "float32_matmul": "ieee", "float32_conv": "ieee"}


def test_a_run_trains_in_bfloat16_and_evaluates_to_the_same_figures(
    tiny_config: Config, config_file: Path, tmp_path: Path
) -> None:
    run = Path(tiny_config.output.dir)
    train_command.run(config_file, None, [])
    evaluate(run / "best", which="ema", out=tmp_path / "out")
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {key: content["protocol"][key] for key in MIXED} == MIXED
    assert json.loads((run / "run.json").read_text())["starts"][0]["precision"] == MIXED
    assert content["metrics"]["AP"] == pytest.approx(
        next(r for r in reversed(read_metrics(run / "metrics.jsonl")) if "ema/AP" in r)["ema/AP"], abs=1e-3
    )


def test_the_main_job_through_the_installed_command(
    tiny_config: Config, config_file: Path, tmp_path: Path, command: Run
) -> None:
    """Train with data loader workers and pinned memory, evaluate, predict, export with the AP of both models."""
    run, photos = Path(tiny_config.output.dir), Path(tiny_config.data.root) / "test"
    assert "all required packages are installed" in command("doctor")
    command("train", "--config", config_file, "data.workers=2", "train.micro_batch=auto", "train.multi_scale=true")
    command("evaluate", "--weights", run, "--out", tmp_path / "evaluation")
    command("predict", photos, "--weights", run, "--out", tmp_path / "pictures", "--threshold", "0.01")
    assert (tmp_path / "pictures" / "detections.json").exists()
    assert "gap" in command("export", "--weights", run, "--out", tmp_path / "stock.pth", "--check-ap")


def test_an_engine_is_built_passes_the_gate_and_computes_what_torch_does(
    tiny_config: Config, config_file: Path, tmp_path: Path, command: Run
) -> None:
    """With the real TensorRT, where it is installed. In float32, `export` itself compares the outputs, too."""
    pytest.importorskip("tensorrt")
    pytest.importorskip("polygraphy")
    run = Path(tiny_config.output.dir)
    command("train", "--config", config_file, "train.epochs=1")
    dynamic = ("--format", "tensorrt", "--batch", "3", "--dynamic-batch")
    detector = Detector.load(run)
    images = torch.rand(5, 3, detector.resolution, detector.resolution, device="cuda")
    # In float16, a rounding can select other queries
    for precision, tolerance, fraction in (("float32", 1e-3, 1.0), ("fp16", 1e-1, 0.8)):
        out = tmp_path / f"{precision}.engine"
        quantize = ("--quantize", precision) if precision == "fp16" else ()
        printed = command("export", "--weights", run, *dynamic, *quantize, "--out", out)
        assert f"tensorrt {precision}" in printed
        assert ("outputs on 8 images differ by" in printed) == (precision == "float32")
        with torch.inference_mode():
            found, expected = open_graph(out).network(images), detector.network(images)
        for key in ("pred_boxes", "pred_logits"):
            is_close = torch.isclose(found[key], expected[key], atol=tolerance, rtol=tolerance)
            assert is_close.float().mean().item() >= fraction, (precision, key)


def test_a_rank_trains_with_nccl(tiny_config: Config, config_file: Path, command: Run) -> None:
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=1")
    command("train", "--config", config_file, "train.epochs=1", launcher=launcher)
    assert newest_checkpoint(Path(tiny_config.output.dir) / "checkpoints")[0].state.epoch == 1


def test_the_micro_batch_is_probed_and_kept(tiny_config: Config, config_file: Path) -> None:
    train_command.run(config_file, None, ["train.micro_batch=auto", "train.epochs=1", "train.deterministic=true"])
    assert newest_checkpoint(Path(tiny_config.output.dir) / "checkpoints")[0].state.micro_batch == 4


def test_an_update_that_does_not_fit_is_made_again_in_halves(tiny_config: Config, config_file: Path) -> None:
    """With so little of the memory that four large images do not fit, fewer do."""
    total = torch.cuda.get_device_properties(0).total_memory
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 3.5 * 2**30 / total))
    try:
        train_command.run(
            config_file, None, ["train.epochs=1", "train.batch_size=24", "model.resolution=768", "evaluation.every=1"]
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 0 < newest_checkpoint(Path(tiny_config.output.dir) / "checkpoints")[0].state.micro_batch < 24


@pytest.mark.parametrize("deterministic", ["false", "true"])
def test_a_run_on_the_gpu_goes_on_from_the_middle_of_an_epoch(
    tiny_config: Config, config_file: Path, tmp_path: Path, deterministic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generators to the bit, and the losses nearly: deformable attention adds its gradients in any order.

    Without deterministic mode the losses say nothing: two runs of one seed differ by percents after five steps,
    because a rounding decides which queries are selected.
    """
    run, other = Path(tiny_config.output.dir), tmp_path / "other"
    options = [f"train.deterministic={deterministic}", "model.dropout=0.1", "train.epochs=1", "train.lr=1e-6"]
    train_command.run(config_file, None, options)
    expected = [record["loss"] for record in read_metrics(run / "metrics.jsonl") if "loss" in record]
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
    assert len(losses) == len(expected)
    if deterministic == "true":
        assert losses == pytest.approx(expected, rel=1e-3)
    step = newest_checkpoint(run / "checkpoints")[0].step
    assert [name for name in differing(other, run, step) if name.startswith("random")] == []
    monkeypatch.setattr(learner, "restore_random_state", lambda _: None)  # negative control
    shutil.rmtree(other / "checkpoints" / f"step-{step:08d}")
    train_command.run(None, other, [])
    assert "random/0/cuda/0" in differing(other, run, step)


def test_no_line_of_the_package_waits_for_the_gpu_in_a_step() -> None:
    """Matching, which is upstream's, does; the check for NaN comes to the host by itself."""
    batch = steps.make_batch().pin_memory()
    network, criterion = (model := steps.build()).network.cuda().train(), DetectionLoss(model.stock).cuda()
    optimizer = build_adamw([(name, p, 1e-5, 0.0) for name, p in network.named_parameters() if p.requires_grad])
    step = TrainStep(network, criterion, optimizer, steps.ARGS, 0.1)
    for _ in range(2):
        step([batch])
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step([batch])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [f"{warning.filename}:{warning.lineno}" for warning in caught if "synchroniz" in str(warning.message)]
    package = str(Path(train_command.__file__).parents[1])
    assert [place for place in waits if place.startswith(package)] == []
