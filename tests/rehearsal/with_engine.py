"""Parts of the rehearsal about TensorRT engines, with a stand-in for TensorRT."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from rfdetr_hwd.export import engine as engine_export
from rfdetr_hwd.export.artefact import open_graph
from rfdetr_hwd.export.quantization import Quantization
from rfdetr_hwd.export.runtimes import RUNTIMES, check_device
from rfdetr_hwd.export.speed import find_device
from rfdetr_hwd.export.tensorrt import EngineError
from rfdetr_hwd.model.release import BatchSize
from tests.rehearsal.checks import check
from tests.rehearsal.fake_tensorrt import FACTS, compute, pretended_tensorrt, write_engine


def engine() -> None:
    """An engine is described, opened and run on the GPU; one of another machine is refused."""
    images = torch.rand(3, 3, 4, 4)
    expected = compute(images)
    with tempfile.TemporaryDirectory() as folder, pretended_tensorrt(compute):
        check_device("tensorrt")
        built = write_engine(Path(folder) / "model.trt", [1, 2])
        path = RUNTIMES["tensorrt"].finish(built, FACTS, BatchSize(2, is_dynamic=True), 4)
        opened = open_graph(path)
        found = opened.network(images)
        check(all(torch.equal(found[key], expected[key]) for key in expected), "the outputs differ")
        check(find_device([opened]) == torch.device("cuda", 0), "the GPU may still compute")
        path.write_bytes(b"")
        try:
            RUNTIMES["tensorrt"].load(path)
        except EngineError as error:
            check("here: 10.16.1.11, Card" in str(error), f"it says {error}")
        else:
            check(False, "an engine of another machine is opened")


class _Movable(torch.nn.Linear):
    """A network that notes where it is moved to, and stays."""

    place: Any = None

    def to(self, place: Any) -> "_Movable":  # type: ignore[override]
        self.place = place
        return self


def export() -> None:
    """An engine is compared with a copy of the model on the GPU; the exporter's own stays where it was.

    Memory of the evaluation is given back before the engine is built. Outputs are compared in float32 alone.
    """
    released, gate, compared = SimpleNamespace(network=_Movable(2, 3)), mock.Mock(), mock.Mock()
    emptied: list[bool] = []
    convert = mock.Mock(return_value=Path("model.engine"))

    def release(detector: Any, images: Any, checkpoint: Path) -> Any:
        checkpoint.write_bytes(bytes(7))
        return released

    nothing: Any = None
    settings = Quantization("fp16", format="tensorrt")
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.current_device", return_value=1),
        mock.patch("torch.cuda.empty_cache", side_effect=lambda: emptied.append(convert.called)),
        mock.patch.multiple(engine_export, release=release, convert=convert, Gate=gate, inputs_of=mock.Mock()),
        mock.patch.multiple(engine_export, say=mock.Mock(), check_runtime=compared, check_float16=mock.Mock()),
    ):
        out = Path(folder) / "out.engine"
        engine_export.export_engine(nothing, out, nothing, BatchSize(), settings, nothing)
        check((emptied, compared.called) == ([False], False), "memory is kept, or float16 outputs are compared")
        check(convert.call_args.args[-1], "it is of another precision")
        settings = Quantization("float32", format="tensorrt")
        engine_export.export_engine(nothing, out, nothing, BatchSize(), settings, nothing)
        check(compared.call_args.args[1:3] == (Path("model.engine"), released), "float32 outputs are not compared")
    stock, device = gate.build.call_args.args[2], torch.device("cuda", 1)
    check((stock.device, stock.network.place, released.network.place) == (device, device, None), "it is elsewhere")
    check((stock.args.amp, stock.size, convert.call_args.args[-1]) == (False, 7, False), "it is of another precision")
    check(gate.build().let_through.call_args.args == (Path("model.engine"), out, settings), "it passes no gate")
