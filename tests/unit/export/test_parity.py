"""An exported graph is run at the batch sizes that it is for, and a difference at any of them is an error."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.formats import DYNAMIC_FORMATS, Format, check_format
from rfdetr_hwd.export.graph import Graph
from rfdetr_hwd.export.parity import ParityError, check_runtime
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.model.release import BatchSize, ReleasedModel, loading_line


class Network(nn.Module):
    """Outputs that depend on the image alone."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        mean = images.mean(dim=(1, 2, 3))[:, None, None]
        return {"pred_boxes": mean.expand(-1, 5, 4), "pred_logits": (2 * mean).expand(-1, 5, 3)}


RELEASED = ReleasedModel(Network(), ["a", "b"], None)


def replace_runtime(
    monkeypatch: pytest.MonkeyPatch, wrong_at: int | None, wrong: float = 1.0, format: str = "onnx"
) -> list[int]:
    """Let a runtime be a function that is wrong in the last image of a batch of one size; return the sizes it saw."""
    seen: list[int] = []

    def run(batch: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(batch))
        out = Network()(batch)
        boxes, logits = (out[key].clone() for key in ("pred_boxes", "pred_logits"))
        if len(batch) == wrong_at:
            boxes[-1] += wrong
        return boxes, logits

    monkeypatch.setitem(RUNTIMES, format, replace(RUNTIMES[format], load=lambda path: Graph(run)))
    return seen


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (BatchSize(), [1] * 4),
        (BatchSize(3), [3, 3]),
        (BatchSize(9), [9]),
        (BatchSize(1, is_dynamic=True), [1] * 4 + [2] * 2 + [3] * 2 + [5]),
        (BatchSize(7, is_dynamic=True), [1] * 4 + [2] * 2 + [3] * 2 + [5] + [7]),
    ],
)
def test_every_image_is_compared_at_every_batch_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], size: BatchSize, expected: list[int]
) -> None:
    seen = replace_runtime(monkeypatch, None)
    check_runtime("onnx", Path("m.onnx"), RELEASED, torch.rand(4, 3, 8, 8), size)
    assert seen == expected
    assert "onnxruntime's outputs on 4 images differ by 0.0e+00, at batch size" in capsys.readouterr().out


def test_an_engine_is_compared_up_to_the_largest_batch_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = replace_runtime(monkeypatch, None, format="tensorrt")
    check_runtime("tensorrt", Path("m"), RELEASED, torch.rand(4, 3, 8, 8), BatchSize(4, is_dynamic=True))
    assert seen == [1] * 4 + [2] * 2 + [3] * 2 + [4]


@pytest.mark.parametrize("wrong", [1.0, float("nan")])
@pytest.mark.parametrize("wrong_at", [1, 2, 3, 5])
def test_a_graph_that_is_wrong_at_one_batch_size_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong_at: int, wrong: float
) -> None:
    replace_runtime(monkeypatch, wrong_at, wrong)
    with pytest.raises(ParityError, match=f"outputs of the .* differ by .* at batch size {wrong_at}, more than"):
        check_runtime("onnx", Path("m.onnx"), RELEASED, torch.rand(1, 3, 8, 8), BatchSize(1, is_dynamic=True))


def test_a_graph_that_does_not_run_at_a_batch_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(batch: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("Got: 2 Expected: 1")

    monkeypatch.setitem(RUNTIMES, "onnx", replace(RUNTIMES["onnx"], load=lambda path: Graph(run)))
    with pytest.raises(ParityError, match="does not run at batch size 2: Got: 2"):
        check_runtime("onnx", Path("m.onnx"), RELEASED, torch.rand(1, 3, 8, 8), BatchSize(2))


@pytest.mark.parametrize(
    ("format", "size", "reason"),
    [
        ("rfdetr", BatchSize(2), "takes any batch size"),
        ("tflite", BatchSize(2, is_dynamic=True), "tflite graphs have a fixed batch size"),
        ("tensorrt", BatchSize(1, is_dynamic=True), "needs the largest batch size: set it with --batch"),
    ],
)
def test_batch_sizes_that_a_format_does_not_take_are_refused(format: Format, size: BatchSize, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_format(format, size)


@pytest.mark.parametrize("format", [*DYNAMIC_FORMATS, "tflite", "coreml"])
def test_the_batch_sizes_that_a_format_takes_are_accepted(format: Format) -> None:
    check_format(format, BatchSize(4))
    if format in DYNAMIC_FORMATS:
        check_format(format, BatchSize(4, is_dynamic=True))


@pytest.mark.parametrize("name", ["stock.pth", "a b/it's.pth", '"q".pth', "~/x.pth", "/tmp/x.pth"])
def test_the_line_that_loads_names_a_directory_and_is_quoted(name: str) -> None:
    line = loading_line(Path(name))
    prefix, _, argument = line.partition("from_checkpoint(")
    assert prefix == "from rfdetr import RFDETR; model = RFDETR."
    named = eval(argument.removesuffix(")"))
    assert named == (name if name.startswith("/") else f"./{name}")
