"""`rfdetr-hwd benchmark model`: latency, throughput, size and AP of trained models and of what is shipped of them."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rfdetr_hwd.cli.benchmark.artefacts import Artefacts
from rfdetr_hwd.cli.benchmark.record import write_record
from rfdetr_hwd.cli.options import Overrides
from rfdetr_hwd.console import digits, print_table, say
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import check_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from rfdetr_hwd.export.artefact import Artefact
    from rfdetr_hwd.export.speed import Speed
    from rfdetr_hwd.runtime.timing import Spread


def model(
    weights: Annotated[
        list[Path],
        typer.Option(help="Run, checkpoint, or graph from export (.onnx, .xml, .engine). May be repeated."),
    ],
    overrides: Overrides = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Device of the models in torch.", show_default="a GPU, if any")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Batch size for the throughput.", show_default="the best", min=1, max=1024)
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds at batch 1; a third of them at the best batch.", min=3)] = 30,
    images: Annotated[
        Path | None,
        typer.Option(help="Image or directory for the end-to-end times.", show_default="the validation split"),
    ] = None,
    graphs: Annotated[bool, typer.Option(help="Also export each run to ONNX and OpenVINO, and measure them.")] = True,
    ap: Annotated[bool, typer.Option("--ap", help="Evaluate every artefact in its own runtime.")] = False,
    out: Annotated[Path | None, typer.Option(help="Directory for the dated JSON file.")] = None,
) -> None:
    """Measure latency, throughput, size and AP, as trained and as shipped.

    A run is measured as trained, folded into stock RF-DETR, and as ONNX and OpenVINO. All take turns.
    """
    import tempfile

    from rfdetr_hwd.export.speed import RULES, find_device, measure_speeds
    from rfdetr_hwd.runtime.environment import describe_machine
    from rfdetr_hwd.runtime.gpu_clock import reading_gpu_clock

    if out is not None:
        check_directory("--out", out)
    _refuse_same(weights)
    place = _find_device(device)
    with tempfile.TemporaryDirectory() as scratch:
        # Load the models, and write what is shipped of them
        _say_skipped(graphs)
        found = Artefacts(overrides or [], images, place, Path(scratch))
        for path in weights:
            found.load(path)
        files, about = found.files()
        artefacts = [one for path in weights for one in found.open(path, files, graphs)]
        if ap:
            artefacts = found.with_ap(artefacts)
        place = find_device(artefacts, place)  # an engine is on the GPU, also with --device cpu

        # Measure them in turns
        with reading_gpu_clock(place) as clock:
            speeds = measure_speeds(artefacts, files, place, rounds, batch)

    # Print the tables and the rules
    rules = [*RULES, f"End-to-end images: {about}.", f"AP: {_AP[ap]}", *([clock.describe()] if clock else [])]
    machine = "; ".join(dict.fromkeys(describe_machine(one.device) for one in artefacts))
    say(f"machine: {machine}")
    _print(artefacts, speeds)
    for rule in rules:
        say(rule)
    if out is not None:
        given = {"--device": device, "--batch": batch, "--images": images, "--rounds": rounds}
        options = [(name, str(value)) for name, value in given.items() if value is not None]
        pairs = [*(("--weights", str(path)) for path in weights), *options]
        flags = [name for name, is_on in (("--no-graphs", not graphs), ("--ap", ap)) if is_on]
        words = [*(word for pair in pairs for word in pair), *flags, *(overrides or [])]
        command = shlex.join(["rfdetr-hwd", "benchmark", "model", *words])
        rows = [_as_json(one, speed) for one, speed in zip(artefacts, speeds, strict=True)]
        write_record(out, "model", command, place, {"machine": machine, "rules": rules, "artefacts": rows})


_AP = {
    False: "of the validation in training, of these weights; --ap evaluates every artefact",
    True: "of every artefact in its own runtime, on the validation split of its run",
}


def _refuse_same(weights: "Sequence[Path]") -> None:
    """Refuse one model that is given twice."""
    resolved = [path.resolve() for path in weights]
    for path in weights:
        if resolved.count(path.resolve()) > 1:
            raise ConfigError(f"--weights {path} is given twice")


def _find_device(wanted: str | None) -> "torch.device":
    """Return the device of the models in torch.

    Raises:
        ConfigError: There is no such device.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise ConfigError("--device cuda: this machine has no CUDA device. `rfdetr-hwd doctor` shows what there is")
    return torch.device(wanted or ("cuda" if has_gpu else "cpu"))


def _say_skipped(graphs: bool) -> None:
    """Report the formats that are not measured, because a package is missing."""
    from rfdetr_hwd.export.artefact import PORTABLE, is_installed

    for format in [name for name in PORTABLE if graphs and not is_installed(name)]:
        say(f"{format} is skipped, because its runtime is missing: pip install 'rfdetr[{format}]'")


def _print(artefacts: "Sequence[Artefact]", speeds: "Sequence[Speed]") -> None:
    """Print a table of speeds, and one of what does not depend on the machine."""
    first = speeds[0].latency_ms
    header = ("weights", "form", "ms", "ratio", "images/s", "batch", "end to end ms", "images/s")
    rows = []
    for one, speed in zip(artefacts, speeds, strict=True):
        latency = speed.latency_ms
        ratio = f"{latency.median / first.median:.2f}" if latency and first else "-"
        rates = f"{speed.images_per_second:.1f}", f"{speed.batch}"
        end = _spread(speed.end_latency_ms), f"{speed.end_images_per_second:.1f}"
        rows.append((one.source, one.form, _spread(latency), ratio, *rates, *end))
    print_table("speed", header, rows)
    header = ("weights", "form", "device", "precision", "parameters", "multiply-adds", "file", "AP")
    print_table(
        "cost and AP",
        header,
        [
            (
                *(one.source, one.form, one.device.type, one.precision),
                "-" if one.parameters is None else f"{one.parameters / 1e6:.1f} M",
                "-" if one.multiply_adds is None else f"{one.multiply_adds / 1e9:.1f} G",
                *(f"{one.size / 1e6:.1f} MB", digits(one.ap)),
            )
            for one in artefacts
        ],
    )


def _spread(times: "Spread | None") -> str:
    return "-" if times is None else f"{times.median:.1f} ({times.p95:.1f})"


def _as_json(one: "Artefact", speed: "Speed") -> dict[str, Any]:
    times = {name: value for name, value in speed._asdict().items() if name.endswith("_ms")}  # [median, p95]
    return {
        **{"weights": one.source, "form": one.form, "device": one.device.type, "precision": one.precision},
        **{"resolution": one.inputs.resolution, "parameters": one.parameters, "multiply_adds": one.multiply_adds},
        **{"bytes": one.size, "ap": one.ap, "batch": speed.batch, **times},
        "images_per_second": speed.images_per_second,
        "end_images_per_second": speed.end_images_per_second,
    }
