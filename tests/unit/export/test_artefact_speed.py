"""The best batch is found by doubling, and a graph of a fixed batch size is given whole batches."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from torch import Tensor

from rfdetr_hwd.export.artefact import ArtefactError, open_graph
from rfdetr_hwd.export.formats import PACKAGES, Packages
from rfdetr_hwd.export.graph import Graph, GraphNetwork
from rfdetr_hwd.export.speed import _fitting, find_best_batch, find_device
from rfdetr_hwd.runtime import timing
from rfdetr_hwd.runtime.memory import MemoryShortageError

CPU = torch.device("cpu")


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[int], Callable[[], None]]]:
    """Return what makes passes that take as long as a dictionary says; sizes that are not in it do not fit."""
    now = [0.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def of(seconds: dict[int, float]) -> Callable[[int], Callable[[], None]]:
        def prepare(size: int) -> Callable[[], None]:
            def run() -> None:
                if size not in seconds:
                    raise torch.OutOfMemoryError("out of memory")
                now[0] += seconds[size]

            return run

        return prepare

    return of


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1, 2: 1.5, 4: 2, 8: 4}, 4),
        ({1: 1, 2: 1.99}, 1),
        ({1: 1, 2: 1}, 2),
        ({2**power: 1 for power in range(10)}, 256),
    ],
    ids=["until the rate stays", "a gain that is none", "until memory ends", "to the limit"],
)
def test_the_best_batch(prepare: Callable[..., Callable], seconds: dict[int, float], best: int) -> None:
    assert find_best_batch(prepare(seconds), CPU) == best


@pytest.mark.parametrize("limit", [1, 2, 6, 8, 12])
def test_the_largest_batch_that_the_artefact_takes_is_the_last_to_be_tried(
    prepare: Callable[..., Callable], limit: int
) -> None:
    assert find_best_batch(prepare({size: 1 for size in (1, 2, 4, 6, 8, 12, 16)}), CPU, limit) == limit
    assert find_best_batch(prepare({1: 1, 2: 1, 4: 1, 6: 1.49}), CPU, limit=6) == 4


@pytest.mark.parametrize(
    ("fixed", "largest", "size", "said"),
    [
        (None, None, 8, ""),
        (None, 8, 8, ""),
        (None, 6, 6, "--batch 8: m.engine takes up to 6: measured at 6\n"),
        (3, 3, 3, "--batch 8: m.engine takes 3: measured at 3\n"),
    ],
)
def test_a_batch_that_an_artefact_does_not_take_is_said(
    capsys: pytest.CaptureFixture[str], fixed: int | None, largest: int | None, size: int, said: str
) -> None:
    artefact = SimpleNamespace(source="m.engine", batch=fixed, largest=largest)
    assert _fitting(artefact, 8, CPU) == size  # type: ignore[arg-type]
    assert capsys.readouterr().out == said


def test_times_end_when_the_gpu_is_done_if_an_artefact_is_there() -> None:
    on_cpu, on_gpu = (SimpleNamespace(device=torch.device(name)) for name in ("cpu", "cuda:0"))
    assert find_device([on_cpu, on_gpu], CPU) == torch.device("cuda:0")  # type: ignore[list-item]
    assert find_device([on_cpu]) == CPU  # type: ignore[list-item]


def test_one_image_that_does_not_fit_is_an_error(prepare: Callable[..., Callable]) -> None:
    with pytest.raises(MemoryShortageError, match="one image does not fit"):
        find_best_batch(prepare({}), CPU)


@pytest.mark.parametrize(("fixed", "expected"), [(None, [5]), (1, [1] * 5), (2, [2, 2, 2]), (8, [8])])
def test_a_graph_is_called_like_a_network(fixed: int | None, expected: list[int]) -> None:
    seen: list[int] = []

    def run(batch: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(batch))
        means = batch.mean(dim=(1, 2, 3))[:, None, None]
        return means.expand(-1, 1, 4), 2 * means

    images = torch.rand(5, 3, 4, 4)
    outputs = GraphNetwork(Graph(run, fixed))(images)
    means = images.mean(dim=(1, 2, 3))
    torch.testing.assert_close(outputs["pred_boxes"], means[:, None, None].expand(-1, 1, 4))
    torch.testing.assert_close(outputs["pred_logits"][:, 0, 0], 2 * means)
    assert seen == expected


def make_graph(path: Path, **facts: str) -> None:
    """Write an ONNX file that returns its input, with metadata."""
    value = onnx.helper.make_tensor_value_info
    ends = [value(name, onnx.TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("input", "output")]
    node = onnx.helper.make_node("Identity", ["input"], ["output"])
    graph = onnx.helper.make_graph([node], "other", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, path)


def test_a_graph_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    make_graph(path)
    with pytest.raises(ArtefactError, match=r"other.onnx lacks the metadata of a graph from rfdetr-hwd export"):
        open_graph(path)
    make_graph(path, bit_depth="16", preprocessing="", resize="crop", resolution="4", num_select="3")
    with pytest.raises(ArtefactError, match="resize 'crop'"):
        open_graph(path)


def test_a_graph_is_opened_with_its_own_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "ours.onnx"
    make_graph(path, bit_depth="12", preprocessing="RGB, as stored", resize="letterbox", resolution="4", num_select="3")
    opened = open_graph(path)
    assert (opened.form, opened.batch, opened.size) == ("onnx", 1, path.stat().st_size)
    assert (opened.inputs.resolution, opened.inputs.resize, opened.inputs.num_select) == (4, "letterbox", 3)
    assert (opened.inputs.options.bit_depth, opened.inputs.options.exif) == (12, "ignore")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(ArtefactError, match=r"broken.onnx cannot be loaded by onnxruntime"):
        open_graph(path)


def test_a_missing_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "onnx", Packages(("onnx", "no_such_runtime")))
    with pytest.raises(ArtefactError, match=r"is run with onnxruntime: pip install 'rfdetr\[onnx\]'"):
        open_graph(tmp_path / "model.onnx")
