"""An engine is run on torch's memory, described by the file beside it, and refused where it cannot be right."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rfdetr_hwd.errors import ConfigError, UserError
from rfdetr_hwd.export.artefact import ArtefactError, open_graph
from rfdetr_hwd.export.formats import PACKAGES, Packages, make_room, move_graph
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.export.tensorrt import EngineError, check_float16, load_engine
from rfdetr_hwd.model.release import BatchSize, ReleasedModel
from tests.rehearsal.fake_tensorrt import (
    FACTS,
    VERSION,
    DataType,
    FakeTensorRT,
    compute,
    pretended_tensorrt,
    write_engine,
)

ENGINES = RUNTIMES["tensorrt"]


@pytest.fixture
def package() -> Iterator[FakeTensorRT]:
    with pretended_tensorrt(compute) as package:
        yield package


def numbers(outputs: Any) -> list[Any]:
    return [output.tolist() for output in outputs]


@pytest.mark.parametrize(("batch", "size"), [(2, 2), ([1, 3], 1), ([1, 3], 3)])
def test_a_pass_reads_and_writes_the_memory_of_torch(
    package: FakeTensorRT, tmp_path: Path, batch: int | list[int], size: int
) -> None:
    graph = load_engine(write_engine(tmp_path / "model.engine", batch))
    assert (graph.batch, graph.largest) == ((2, 2) if batch == 2 else (None, 3))
    for images in (torch.rand(size, 3, 4, 4), torch.rand(size, 4, 4, 3, dtype=torch.float64).permute(0, 3, 1, 2)):
        assert numbers(graph.run(images)) == numbers(compute(images.float().contiguous()).values())
    # Its stream waits for what torch has queued, and torch for its outputs
    assert package.own.queued == ["wait for 0", "pass"] * 2
    assert package.current.queued == ["wait for 77"] * 2


@pytest.mark.parametrize("shape", [(4, 3, 4, 4), (1, 3, 5, 4)])
def test_images_that_it_does_not_take_are_refused(
    package: FakeTensorRT, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    graph = load_engine(write_engine(tmp_path / "model.engine", [1, 3]))
    with pytest.raises(EngineError, match=rf"does not take images of shape \({shape[0]}, 3, {shape[2]}, 4\)"):
        graph.run(torch.rand(shape))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("runs", "does not run the engine"), ("takes_memory", "does not take the memory of input")],
)
def test_a_pass_that_fails_is_an_error(package: FakeTensorRT, tmp_path: Path, behaviour: str, reason: str) -> None:
    graph = load_engine(write_engine(tmp_path / "model.engine"))
    setattr(package, behaviour, False)
    with pytest.raises(EngineError, match=f"TensorRT {reason}"):
        graph.run(torch.rand(1, 3, 4, 4))


def test_engines_share_a_logger_and_run_on_the_device_that_they_were_loaded_on(
    package: FakeTensorRT, tmp_path: Path
) -> None:
    path = write_engine(tmp_path / "model.engine")
    first = load_engine(path)
    package.device = 1
    assert (first.device.index, load_engine(path).device.index) == (0, 1)
    assert sys.modules["tensorrt"].Logger.call_count == 1
    first.run(torch.rand(1, 3, 4, 4))
    assert package.device == 1


@pytest.mark.parametrize("version", ["10.16.1.11", "unknown", "11.2.1.2"])
def test_float16_is_refused_where_it_would_be_float32(
    package: FakeTensorRT, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Before version 11, whose graphs have the precision, it needs a flag."""
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", version)
    check_float16()
    monkeypatch.delattr(sys.modules["tensorrt"].BuilderFlag, "FP16")
    if version.startswith("11"):
        check_float16()
    else:
        with pytest.raises(EngineError, match=f"TensorRT {version} cannot build float16 engines here"):
            check_float16()


def test_an_engine_is_opened_on_the_gpu_and_more_images_than_it_takes_are_split(
    package: FakeTensorRT, tmp_path: Path
) -> None:
    path = write_engine(tmp_path / "model.engine", [1, 3], {**FACTS, "quantization": "fp16", "weights_sha256": "ab"})
    opened = open_graph(path)
    assert (opened.form, opened.precision, opened.weights_sha256) == ("tensorrt", "fp16", "ab")
    assert (opened.device, opened.batch, opened.largest) == (torch.device("cuda", 0), None, 3)
    assert opened.size == path.stat().st_size
    images = torch.rand(7, 3, 4, 4)
    assert numbers(opened.network(images).values()) == numbers(compute(images).values())
    assert package.own.queued.count("pass") == 3


def test_the_metadata_lie_beside_an_engine_that_stays_as_it_was_built(package: FakeTensorRT, tmp_path: Path) -> None:
    built = tmp_path / "model.trt"
    built.write_bytes(write_engine(tmp_path / "model.engine").read_bytes())
    plan = built.read_bytes()
    engine = ENGINES.finish(built, {**FACTS, "batch": "any", "class_names": '["Bär"]'}, BatchSize(8, True), 4)
    assert engine == tmp_path / "model.engine"
    ENGINES.note(engine, {"quantization": "fp16", "num_select": "7"})
    described = {"batch": "1 to 8", "class_names": '["Bär"]', "tensorrt_version": VERSION, "gpu": "Card"}
    assert ENGINES.load(engine).facts == {**FACTS, **described, "quantization": "fp16", "num_select": "7"}
    assert engine.read_bytes() == plan
    # Both files are moved, and neither is overwritten
    out = tmp_path / "out" / "x.engine"
    make_room("tensorrt", out)
    move_graph("tensorrt", engine, out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["x.engine", "x.engine.json"]
    assert out.read_bytes() == plan
    out.unlink()
    with pytest.raises(ConfigError, match=r"x\.engine\.json already exists"):
        make_room("tensorrt", out)
    with pytest.raises(ConfigError, match=r"choose a name that ends in \.engine"):
        make_room("tensorrt", tmp_path / "x.trt")


def test_an_engine_of_another_machine_says_where_it_was_built(package: FakeTensorRT, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "model.engine", facts={**FACTS, "tensorrt_version": "9.1", "gpu": "Other"})
    path.write_bytes(b"of another version")
    with pytest.raises(ArtefactError) as refusal:
        open_graph(path)
    text = str(refusal.value)
    assert text.startswith(f"{path} cannot be loaded by tensorrt: TensorRT's log above has the reason.")
    assert text.endswith(f"(9.1, Other; here: {VERSION}, Card). Export it again on this machine")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"names": ("images", "dets", "labels")}, "inputs and outputs images, dets, labels, not input, dets, labels"),
        ({"types": {"labels": DataType.HALF}}, "input, dets, labels in float32"),
        ({"has_memory": False}, "no execution context, often for lack of GPU memory"),
    ],
)
def test_an_engine_that_cannot_be_used_says_why(
    package: FakeTensorRT, tmp_path: Path, behaviour: dict[str, Any], reason: str
) -> None:
    for name, value in behaviour.items():
        setattr(package, name, value)
    with pytest.raises(EngineError, match=reason):
        load_engine(write_engine(tmp_path / "model.engine"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"its metadata model\.engine\.json are missing: keep the file beside the engine"),
        ("{", r"model\.engine\.json: it is not valid JSON"),
        ('{"num_select": 3}', "a value is not a string"),
        ("{}", "lacks the metadata of a graph from rfdetr-hwd export"),
    ],
)
def test_metadata_that_are_missing_or_wrong(
    package: FakeTensorRT, tmp_path: Path, content: str | None, reason: str
) -> None:
    path = write_engine(tmp_path / "model.engine")
    beside = tmp_path / "model.engine.json"
    beside.unlink() if content is None else beside.write_text(content)
    with pytest.raises(ArtefactError, match=reason):
        open_graph(path)


def test_an_engine_needs_a_gpu_and_then_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_engine(tmp_path / "model.engine")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ArtefactError, match="runs on a GPU, and this machine has no CUDA device"):
        open_graph(path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setitem(PACKAGES, "tensorrt", Packages(("no_such_package",)))
    with pytest.raises(UserError, match=r"is run with tensorrt: pip install 'rfdetr\[tensorrt\]'"):
        open_graph(path)


class Recorder:
    """A model of `rfdetr` that notes what its exporter is asked for."""

    def export(self, **options: Any) -> str:
        self.options = options
        return "model.trt"


@pytest.mark.parametrize(("size", "half"), [(BatchSize(4), False), (BatchSize(8, is_dynamic=True), True)])
def test_the_precision_and_the_largest_batch_are_asked_for(tmp_path: Path, size: BatchSize, half: bool) -> None:
    model = Recorder()
    ReleasedModel(torch.nn.Identity(), ["a"], model).export("tensorrt", tmp_path, size, half)
    expected = {"fp16": half, "dynamic_batch": size.is_dynamic, "max_batch_size": 8 if size.is_dynamic else None}
    assert model.options.items() >= {**expected, "batch_size": size.images}.items()
    ReleasedModel(torch.nn.Identity(), ["a"], model).export("onnx", tmp_path, BatchSize(4))
    assert model.options.keys() & {"fp16", "max_batch_size"} == set()
