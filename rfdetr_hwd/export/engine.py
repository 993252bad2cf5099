"""Build a TensorRT engine, and let it through the gate."""

import copy
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.export.artefact import Artefact, Float32, inputs_of
from rfdetr_hwd.export.export import convert, release
from rfdetr_hwd.export.formats import make_room
from rfdetr_hwd.export.gate import Gate
from rfdetr_hwd.export.parity import check_runtime
from rfdetr_hwd.export.quantization import Quantization
from rfdetr_hwd.export.runtimes import check_device
from rfdetr_hwd.export.tensorrt import check_float16
from rfdetr_hwd.model.release import BatchSize


def export_engine(
    detector: Detector, out: Path, images: Tensor, size: BatchSize, settings: Quantization, validation: DetectionData
) -> None:
    """Build an engine for the GPU of this machine, and write it unless it loses too much AP.

    Its AP is compared with that of the stock RF-DETR that the model folds into, in torch on the same GPU. The raw
    outputs of a float32 engine are compared, too.

    Args:
        detector: The trained model.
        out: The engine to write, see `make_room`. Its metadata are written beside it.
        images: Images to compare raw outputs on, (N, 3, R, R), from `sample_images`.
        size: The batch size; of a dynamic engine, the largest, which it is also tuned for.
        settings: Precision and gate.
        validation: Images to evaluate on.

    Raises:
        ApLossError: It loses more AP than `settings.max_ap_loss`.
        ParityError: The outputs of a float32 engine differ.
        UserError: There is no GPU, or no images or objects, or the engine cannot be built or run.
    """
    make_room("tensorrt", out)
    check_device("tensorrt")
    if settings.precision == "fp16":
        check_float16()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".engine-") as scratch:
        # Fold, and evaluate in torch
        checkpoint = Path(scratch) / "stock.pth"
        released = release(detector, images, checkpoint)
        device = torch.device("cuda", torch.cuda.current_device())
        stock = Artefact(
            source=str(out),
            form="stock RF-DETR",
            network=copy.deepcopy(released.network).requires_grad_(False).to(device),  # the exporter moves its own
            inputs=inputs_of(detector),
            device=device,
            precision="float32",
            args=Float32(),
            size=checkpoint.stat().st_size,
        )
        gate = Gate.build(detector, validation, stock)

        # Build, with the memory that torch has kept of the evaluation: TensorRT's allocator is another one
        torch.cuda.empty_cache()
        say(f"building the engine in {settings.precision}, which takes minutes")
        engine = convert(detector, released, "tensorrt", size, Path(scratch), settings.precision == "fp16")

        # Compare the outputs at several batch sizes, and evaluate in TensorRT
        if settings.precision == "float32":
            check_runtime("tensorrt", engine, released, images, size)
        gate.let_through(engine, out, settings)
