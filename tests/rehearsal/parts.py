"""The parts of the rehearsal: what a CUDA device would run, run without one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rfdetr_hwd.layers.registry import list_downsamples
from tests.rehearsal import of_the_machine, steps, with_data, with_engine, without_data


@dataclass(frozen=True)
class Part:
    """A part of the rehearsal.

    Attributes:
        name: What it shows.
        how: `run`: every operator on a device without data; `patched`: on the CPU, told that it is a GPU, or with
            stand-ins for what needs a driver.
        run: Runs it; what is wrong raises.
    """

    name: str
    how: str
    run: Callable[[], None]


def parts(downsamplers: Iterable[str]) -> list[Part]:
    """Return the parts, with a forward pass of a whole model for each of some downsamplers."""
    step = without_data.step_without_data
    return [
        Part("training step", "run", lambda: step(steps.build())),
        Part("training step, hwd at the stem, larger images", "run", lambda: step(steps.build(site="stem"), 256)),
        Part("forward pass and decoding", "run", lambda: without_data.forward_without_data(downsamplers)),
        Part("benchmark op, captured as CUDA graphs", "run", without_data.benchmark_op),
        Part("training step with numbers", "patched", with_data.step_with_data),
        Part("evaluation and prediction", "patched", with_data.evaluation_and_prediction),
        Part("what fits into memory", "patched", with_data.memory),
        Part("a step made again", "patched", with_data.replay),
        Part("batches: pinned, then moved", "patched", with_data.batches),
        Part("random generators", "patched", of_the_machine.generators),
        Part("train.deterministic", "patched", of_the_machine.deterministic),
        Part("what is said of the machine", "patched", of_the_machine.machine),
        Part("workers of an experiment", "patched", of_the_machine.workers),
        Part("latency", "patched", of_the_machine.latency),
        Part("device and clock of benchmark model", "patched", of_the_machine.benchmark_device),
        Part("a TensorRT engine", "patched", with_engine.engine),
        Part("export of a TensorRT engine", "patched", with_engine.export),
        Part("memory of benchmarks", "patched", of_the_machine.benchmark_memory),
        Part("what is said of the precision", "patched", of_the_machine.precision),
        Part("assignment solver", "patched", of_the_machine.solver),
        Part("process group", "patched", of_the_machine.process_group),
    ]


PARTS = parts(list_downsamples())
