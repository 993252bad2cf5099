"""An engine passes the gate of the quantized graphs, in its own runtime, and is not written if it loses too much."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.export import gate
from rfdetr_hwd.export.ap_gate import ApLossError
from rfdetr_hwd.export.artefact import Artefact, ArtefactError, Float32, Inputs
from rfdetr_hwd.export.gate import Gate
from rfdetr_hwd.export.quantization import Quantization
from tests.rehearsal.fake_tensorrt import FakeTensorRT, compute, pretended_tensorrt, write_engine

IMAGES = torch.linspace(0, 1, 5 * 48).reshape(5, 3, 4, 4)
METRICS = {"AP": 0.5, "AP/cat": 0.6, "AP/dog": 0.4}


class Network(nn.Module):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return compute(images)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRT]:
    """Let an artefact lose as much AP, in cats alone, as its logits are off, to 4 digits."""

    def evaluate(artefact: Artefact, *_: Any) -> dict[str, float | None]:
        off = round((artefact.network(IMAGES)["pred_logits"] - compute(IMAGES)["pred_logits"]).max().item(), 4)
        return {"AP": METRICS["AP"] - off, "AP/cat": METRICS["AP/cat"] - 2 * off, "AP/dog": METRICS["AP/dog"]}

    monkeypatch.setattr(gate, "evaluate_artefact", evaluate)
    with pretended_tensorrt(compute) as package:
        yield package


class Validation:
    name = "valid"

    def __len__(self) -> int:
        return 5


def make_gate() -> Gate:
    inputs = Inputs(4, "stretch", ReadOptions(16, "auto"), 3)
    device = torch.device("cuda", 0)
    before = Artefact("run", "stock RF-DETR", Network().eval(), inputs, device, "float32", Float32(), 9_000_000)
    return Gate.build(None, Validation(), before)  # type: ignore[arg-type]


def off_by(amount: float) -> Any:
    return lambda images: {key: value + amount for key, value in compute(images).items()}


@pytest.mark.parametrize("precision", ["fp16", "float32"])
def test_an_engine_that_loses_little_is_written_and_says_so(
    package: FakeTensorRT, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: Any
) -> None:
    package.network = off_by(0.003)
    settings = Quantization(precision, format="tensorrt")
    (tmp_path / "scratch").mkdir()
    engine, out = write_engine(tmp_path / "scratch" / "model.engine", [1, 2]), tmp_path / "out.engine"
    make_gate().let_through(engine, out, settings)
    # Printed: the loss of all classes and of each, and the latency of both on the GPU
    said = capsys.readouterr().out
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    name = f"tensorrt {precision}"
    assert table[:3] == [
        ["all", "0.5000", "0.4970", "+0.0030"],
        ["cat", "0.6000", "0.5940", "+0.0060"],
        ["dog", "0.4000", "0.4000", "+0.0000"],
    ]
    assert [row[:2] + row[3:] for row in table[3:]] == [
        ["float32", "0.5000", "1", "9.0 MB"],
        [name, "0.4970", "1", "0.0 MB"],
    ]
    assert f"evaluating stock RF-DETR in float32\nevaluating tensorrt in {precision}\n" in said
    assert "the model alone, Card" in said
    # Written: the engine and what it says of itself
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.engine", "out.engine.json", "scratch"]
    facts = json.loads((tmp_path / "out.engine.json").read_text())
    expected = {"quantization": precision, "max_ap_loss": "0.005", "ap_before": "0.500000"}
    expected |= {"ap_after": "0.497000", "ap_images": "5"}
    assert facts.items() >= expected.items()


@pytest.mark.parametrize(
    ("precision", "advice"),
    [("fp16", "build the engine in float32, without --quantize"), ("float32", "use --format onnx")],
)
def test_an_engine_that_loses_too_much_is_not_written(
    package: FakeTensorRT, tmp_path: Path, precision: Any, advice: str
) -> None:
    package.network = off_by(0.02)
    (tmp_path / "scratch").mkdir()
    engine = write_engine(tmp_path / "scratch" / "model.engine")
    with pytest.raises(ApLossError) as refusal:
        make_gate().let_through(engine, tmp_path / "out.engine", Quantization(precision, format="tensorrt"))
    assert str(refusal.value) == (
        f"tensorrt {precision} loses 0.0200 AP (0.5000 to 0.4800), more than --max-ap-loss 0.005. "
        f"The file was removed. To export it, {advice}, or accept the loss with --max-ap-loss 0.020"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


def test_an_engine_that_does_not_run_is_not_written(package: FakeTensorRT, tmp_path: Path) -> None:
    engine, gate = write_engine(tmp_path / "model.engine"), make_gate()
    package.runs = False
    with pytest.raises(ArtefactError, match="the exported file does not run in tensorrt: TensorRT does not run"):
        gate.let_through(engine, tmp_path / "out.engine", Quantization("fp16", format="tensorrt"))
    assert not (tmp_path / "out.engine").exists()
