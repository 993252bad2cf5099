"""A quantized graph is evaluated in its own runtime, records what it lost, and is not written if it loses too much."""

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from rfdetr_hwd.export import gate
from rfdetr_hwd.export.artefact import Artefact, evaluate_artefact, open_graph
from rfdetr_hwd.export.formats import PACKAGES, Packages
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.model.release import BatchSize, ReleasedModel
from tests.conftest import TINY_MODEL
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused
from tests.rehearsal.fake_tensorrt import FakeTensorRT, compute, pretended_tensorrt

pytestmark = pytest.mark.slow

AP = 0.25  # of the graphs; the tiny model has none


@pytest.fixture
def known_ap(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Evaluate in the real runtimes, then set the AP by precision: two epochs of the tiny model find nothing."""
    aps = {"float32": AP, "fp16": AP - 0.001, "int8": AP - 0.003}

    def evaluate(artefact: Artefact, *arguments: object) -> dict[str, float | None]:
        metrics = evaluate_artefact(artefact, *arguments)  # type: ignore[arg-type]
        assert {"AP", "AP/circle", "AP/square"} < metrics.keys()
        return {**metrics, "AP": aps[artefact.precision], "AP/star": aps[artefact.precision]}

    monkeypatch.setattr(gate, "evaluate_artefact", evaluate)
    return aps


@pytest.mark.parametrize(
    ("format", "precision", "size"),
    [
        ("onnx", "fp16", ["--dynamic-batch"]),
        ("onnx", "int8", ["--dynamic-batch"]),
        ("onnx", "int8", ["--batch", 3]),
        ("openvino", "int8", ["--dynamic-batch"]),
    ],
)
def test_a_graph_that_loses_little_is_written_and_says_so(
    trained: Path, cli: Run, tmp_path: Path, known_ap: dict[str, float], format: str, precision: str, size: list[object]
) -> None:
    out = tmp_path / ("model.xml" if format == "openvino" else "model.onnx")
    calibrated = ("--calibration-images", 10, "--calibration-seed", 3) if precision == "int8" else ()
    form = ("--format", format, "--quantize", precision, *calibrated)
    result = cli("export", "--weights", trained, "--out", out, *form, *size)
    assert result.returncode == 0, result.stderr
    # What is printed: the loss of all classes and of each, the latency of both graphs
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    loss = AP - known_ap[precision]
    assert ["all", "0.2500", f"{AP - loss:.4f}", f"+{loss:.4f}"] in table
    assert ["star", "0.2500", f"{AP - loss:.4f}", f"+{loss:.4f}"] in table
    assert [row[:2] for row in table if row[0] in ("float32", precision)][-2:] == [
        ["float32", "0.2500"],
        [precision, f"{AP - loss:.4f}"],
    ]
    # What is written: the graph alone, smaller, and what it says of itself
    names = ["model.bin", "model.xml"] if format == "openvino" else ["model.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    facts = dict(RUNTIMES[format].load(out).facts)
    assert (facts["quantization"], facts["ap_before"], facts["ap_images"]) == (precision, "0.250000", "8")
    assert float(facts["ap_after"]) == known_ap[precision]
    calibration = {"calibration_images": "10", "calibration_seed": "3"} if precision == "int8" else {}
    assert {name: fact for name, fact in facts.items() if name.startswith("calibration")} == calibration
    assert json.loads(facts["class_names"]) == ["circle", "square", "triangle", "star"]
    opened = open_graph(out)
    assert (opened.precision, opened.batch) == (precision, 3 if "--batch" in size else None)
    assert opened.size < {"fp16": 75e6, "int8": 45e6}[precision]  # of 130 MB
    if format == "onnx" and precision == "int8":
        kinds = [node.op_type for node in onnx.load(out).graph.node]
        assert kinds.count("QuantizeLinear") > 50


def test_a_graph_that_loses_too_much_is_not_written(
    trained: Path, cli: Run, tmp_path: Path, known_ap: dict[str, float]
) -> None:
    known_ap["int8"] = AP - 0.02
    form = ("--format", "onnx", "--quantize", "int8", "--calibration-images", 4)
    result = cli("export", "--weights", trained, "--out", tmp_path / "model.onnx", *form)
    refused(result, 1, "int8 loses 0.0200 AP (0.2500 to 0.2300)", "--max-ap-loss 0.02", "--calibration-images, now 4")
    assert "star" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRT]:
    """Let there be a GPU and TensorRT, whose engines compute what the folded model computes."""

    def build(released: ReleasedModel, format: str, folder: Path, size: BatchSize, half: bool) -> Path:
        package.network, path = copy.deepcopy(released.network), folder / "model.trt"
        batch = [1, size.images] if size.is_dynamic else size.images
        path.write_text(json.dumps({"batch": batch, "resolution": TINY_MODEL["resolution"]}))
        return path

    monkeypatch.setattr(ReleasedModel, "export", build)
    monkeypatch.setitem(PACKAGES, "tensorrt", Packages(("tensorrt",)))
    monkeypatch.setattr("torch.cuda.nccl.version", lambda: (2, 27, 3))
    with pretended_tensorrt(compute) as package:
        yield package


@pytest.mark.parametrize(
    ("precision", "size", "batch"),
    [("fp16", ["--dynamic-batch", "--batch", 3], "1 to 3"), ("float32", ["--batch", 5], "5")],
)
def test_an_engine_is_evaluated_in_its_own_runtime_and_written(
    trained: Path,
    cli: Run,
    tmp_path: Path,
    known_ap: dict[str, float],
    package: FakeTensorRT,
    precision: str,
    size: list[object],
    batch: str,
) -> None:
    out = tmp_path / "model.engine"
    form = ["--format", "tensorrt", *(["--quantize", precision] if precision == "fp16" else []), *size]
    result = cli("export", "--weights", trained, "--out", out, *form)
    assert result.returncode == 0, result.stderr
    # The outputs of float32 are compared with torch's
    compared = re.findall("tensorrt's outputs on 8 images differ by .*, at batch size (.*)", result.stdout)
    assert compared == (["5"] if precision == "float32" else [])
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    after = f"{known_ap[precision]:.4f}"
    assert ["star", "0.2500", after, f"{AP - known_ap[precision]:+.4f}"] in table
    assert [row[:2] for row in table if "MB" in row[-1]] == [["float32", "0.2500"], [f"tensorrt {precision}", after]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.engine", "model.engine.json"]
    facts = json.loads((tmp_path / "model.engine.json").read_text())
    assert (facts["quantization"], facts["batch"], facts["gpu"]) == (precision, batch, "Card")
    assert json.loads(facts["class_names"]) == ["circle", "square", "triangle", "star"]
    # The engine is measured as any graph, on the GPU
    both = ("--weights", out, "--weights", trained, "--no-graphs", "--device", "cpu")
    result = cli("benchmark", "model", *both, "--rounds", 3, "--batch", 2, "--ap", "--out", tmp_path / "json")
    assert result.returncode == 0, result.stderr
    record = json.loads(next((tmp_path / "json").iterdir()).read_text())
    assert re.fullmatch(r"Card; .* CPU, \d+ threads", record["machine"])
    assert f"machine: {record['machine']}\n" in result.stdout
    assert ("--batch 2: " in result.stdout) == (precision == "float32")
    engine, *others = record["artefacts"]
    assert (engine["form"], engine["device"], engine["precision"]) == ("tensorrt", "cuda", precision)
    assert (engine["batch"], {one["device"] for one in others}) == (2 if precision == "fp16" else 5, {"cpu"})
    assert engine["ap"] == pytest.approx(others[-1]["ap"], abs=1e-3)


def test_what_cannot_be_quantized_says_why(trained: Path, cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    command = ("export", "--weights", trained, "--out", tmp_path / "model.onnx", "--format", "onnx", "--quantize")
    refused(cli(*command, "int8", "--max-ap-loss", 2), 2, "--max-ap-loss 2.0 is not between 0 and 1")
    unknown = cli(*command, "int4")
    assert unknown.returncode == 2
    assert "'int4' is not one of 'fp16', 'int8'" in unknown.stderr
    refused(cli("export", "--weights", trained, "--out", tmp_path / "x", "--quantize", "int8"), 2, "not for --format")
    # Data without a training split, without a validation split, and without objects to evaluate on
    images = ("--images", shapes_root / "test")
    data = tmp_path / "data"
    shutil.copytree(shapes_root, data)
    shutil.rmtree(data / "train")
    result = cli(*command, "int8", f"data.root={data}", *images)
    refused(result, 2, "--quantize int8 calibrates on the training split")
    shutil.move(data / "valid", data / "gone")
    refused(cli(*command, "fp16", f"data.root={data}", *images), 2, "--quantize evaluates on the validation split")
    shutil.move(data / "gone", data / "valid")
    truth = data / "valid" / "_annotations.coco.json"
    content = json.loads(truth.read_text())
    truth.write_text(json.dumps({**content, "annotations": []}))
    refused(cli(*command, "fp16", f"data.root={data}", *images), 1, "nothing to evaluate on in the split valid")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
