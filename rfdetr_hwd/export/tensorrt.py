"""TensorRT engines: loaded and run on the GPU with torch's tensors, and described by a JSON file beside them."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rfdetr_hwd.errors import UserError, explaining
from rfdetr_hwd.export.formats import metadata_path
from rfdetr_hwd.export.graph import INPUT, OUTPUTS, Graph
from rfdetr_hwd.files import UntrustedFileError, read_json_object, replace_text
from rfdetr_hwd.model.release import BatchSize

_IN_LOG = "TensorRT's log above has the reason"


class EngineError(UserError):
    """An engine that cannot be loaded or run."""


@functools.cache
def _logger() -> Any:
    """Return the logger of this process: TensorRT has one for all engines, and does not keep it alive."""
    import tensorrt

    log = tensorrt.Logger(tensorrt.Logger.ERROR)
    tensorrt.init_libnvinfer_plugins(log, "")
    return log


def check_float16() -> None:
    """Refuse a float16 engine where TensorRT cannot build one: the exporter would build float32 with a warning alone.

    From version 11 on, the precision is that of the graph. Before, it is a flag, which some builds lack.

    Raises:
        EngineError: TensorRT cannot build it, or cannot be imported.
    """
    with explaining(ImportError, "--format tensorrt: TensorRT cannot be imported", EngineError):
        import tensorrt
    version = str(tensorrt.__version__)
    major = version.partition(".")[0]
    is_of_the_graph = major.isdecimal() and int(major) >= 11
    if not is_of_the_graph and not hasattr(tensorrt.BuilderFlag, "FP16"):
        raise EngineError(
            f"--quantize fp16: TensorRT {version} cannot build float16 engines here. Install the full package with "
            "pip install 'rfdetr[tensorrt]', or build the engine in float32, without --quantize"
        )


class Engine:
    """An engine on the current CUDA device.

    A pass is queued on a stream of its own, because TensorRT waits for the device on the default stream. That
    stream and torch's current stream wait for each other, so the caller uses the outputs as those of any operator.

    Args:
        path: The engine, a plan of TensorRT as it is.
        facts: Its metadata, for messages.
    """

    def __init__(self, path: Path, facts: Mapping[str, str]) -> None:
        import tensorrt

        self.device = torch.device("cuda", torch.cuda.current_device())
        self.runtime = tensorrt.Runtime(_logger())
        self.engine = self.runtime.deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            built = ", ".join(facts.get(name, "unknown") for name in ("tensorrt_version", "gpu"))
            here = f"{tensorrt.__version__}, {torch.cuda.get_device_name(self.device)}"
            raise EngineError(
                f"{_IN_LOG}. An engine runs with the version of TensorRT and the GPU that it was built for ({built}; "
                f"here: {here}). Export it again on this machine"
            )
        self._check_tensors(tensorrt.DataType.FLOAT)
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise EngineError(f"there is no execution context, often for lack of GPU memory; {_IN_LOG}")
        self.stream = torch.cuda.Stream(self.device)

    def _check_tensors(self, float32: object) -> None:
        names = [self.engine.get_tensor_name(number) for number in range(self.engine.num_io_tensors)]
        if set(names) != {INPUT, *OUTPUTS} or any(self.engine.get_tensor_dtype(name) != float32 for name in names):
            raise EngineError(
                f"it has the inputs and outputs {', '.join(names)}, not {', '.join((INPUT, *OUTPUTS))} in float32"
            )

    @property
    def batch(self) -> int | None:
        """The batch size that it takes; `None`: several."""
        size = int(self.engine.get_tensor_shape(INPUT)[0])
        return None if size == -1 else size

    @property
    def largest(self) -> int:
        """The largest batch size that it takes."""
        if self.batch is not None:
            return self.batch
        _, _, largest = self.engine.get_tensor_profile_shape(INPUT, 0)
        return int(largest[0])

    def run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and logits of images (n, 3, R, R), on the GPU.

        Raises:
            EngineError: It does not take images of this shape, or TensorRT cannot queue the pass.
        """
        images = images.to(self.device, torch.float32).contiguous()
        if not self.context.set_input_shape(INPUT, tuple(images.shape)):
            raise EngineError(f"the engine does not take images of shape {tuple(images.shape)}; {_IN_LOG}")
        boxes, logits = (
            torch.empty(tuple(self.context.get_tensor_shape(name)), device=self.device) for name in OUTPUTS
        )
        for name, tensor in zip((INPUT, *OUTPUTS), (images, boxes, logits), strict=True):
            if not self.context.set_tensor_address(name, tensor.data_ptr()):
                raise EngineError(f"TensorRT does not take the memory of {name}; {_IN_LOG}")
        # The memory is safe: what torch does next, also with freed memory, waits for this pass
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.device(self.device):  # TensorRT runs on the current one, which may have changed since loading
            self.stream.wait_stream(current)
            is_queued = self.context.execute_async_v3(self.stream.cuda_stream)
            current.wait_stream(self.stream)
        if not is_queued:
            raise EngineError(f"TensorRT does not run the engine; {_IN_LOG}")
        return boxes, logits


def load_engine(path: Path) -> Graph:
    """Load an engine and the metadata beside it.

    Raises:
        EngineError: The metadata are missing or invalid, or TensorRT cannot load the engine.
    """
    facts = _read_facts(metadata_path(path))
    engine = Engine(path, facts)
    return Graph(engine.run, engine.batch, facts, engine.device, engine.largest)


def finish_engine(path: Path, facts: Mapping[str, str], size: BatchSize, resolution: int) -> Path:
    """Name a new engine `NAME.engine` and describe it."""
    import tensorrt

    engine = path.replace(path.with_suffix(".engine"))
    batch = {"batch": f"1 to {size.images}"} if size.is_dynamic else {}
    built = {"tensorrt_version": str(tensorrt.__version__), "gpu": torch.cuda.get_device_name()}
    _write_facts(engine, {**facts, **batch, **built})
    return engine


def note_engine(path: Path, facts: Mapping[str, str]) -> None:
    """Add facts to those of an engine."""
    _write_facts(path, {**_read_facts(metadata_path(path)), **facts})


def _write_facts(engine: Path, facts: Mapping[str, str]) -> None:
    replace_text(metadata_path(engine), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _read_facts(path: Path) -> dict[str, str]:
    try:
        facts = read_json_object(path)
    except FileNotFoundError:
        raise EngineError(f"its metadata {path.name} are missing: keep the file beside the engine") from None
    except UntrustedFileError as error:
        raise EngineError(f"{path}: {error}") from None
    if not all(isinstance(fact, str) for fact in facts.values()):
        raise EngineError(f"{path}: a value is not a string")
    return facts
