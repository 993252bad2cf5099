"""`rfdetr-hwd benchmark op`: time the downsamplers against the stock convolution, interleaved, in one run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfdetr_hwd.cli.benchmark.record import write_record
from rfdetr_hwd.console import print_table, say
from rfdetr_hwd.files import check_directory

if TYPE_CHECKING:
    from rfdetr_hwd.evaluation.operator_speed import Timing


def op(
    batch: Annotated[int, typer.Option(help="Batch size.", min=1)] = 8,
    rounds: Annotated[
        int, typer.Option(help="Measurements per downsampler, of which the median is reported.", min=1)
    ] = 15,
    out: Annotated[Path | None, typer.Option(help="Directory for the dated JSON file.")] = None,
) -> None:
    """Time the downsamplers against the stock convolution."""
    from dataclasses import asdict

    import torch

    from rfdetr_hwd.evaluation import operator_speed
    from rfdetr_hwd.runtime.environment import describe_machine

    if out is not None:
        check_directory("--out", out)
    # Measure the peak throughput of the machine
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ceiling = operator_speed.measure_ceiling(device)
    say(f"machine: {describe_machine(device)}; matrix product: {ceiling / 1e9:.0f} G multiply-adds/s")

    # Time each downsampler at each shape
    timings: list[Timing] = []
    for shape in operator_speed.SHAPES:
        found = operator_speed.measure_shape(shape, batch, rounds, device, ceiling)
        timings += found
        in_channels, out_channels, size = shape
        _print(f"{batch} x {in_channels} x {size} x {size} -> {out_channels}", found)

    # Write the measurements
    if out is not None:
        measured = {
            "ceiling_multiply_adds_per_second": ceiling,
            "timings": [asdict(timing) for timing in timings],
        }
        write_record(out, "op", f"rfdetr-hwd benchmark op --batch {batch} --rounds {rounds}", device, measured)


def _print(title: str, timings: "list[Timing]") -> None:
    rows = [
        (
            timing.name,
            f"{timing.forward_ms:.2f}",
            f"{timing.forward_ratio:.2f}",
            f"{timing.training_ms:.2f}",
            f"{timing.training_ratio:.2f}",
            f"{timing.share_of_ceiling:.0%}",
        )
        for timing in timings
    ]
    print_table(title, ("name", "forward ms", "ratio", "forward+backward ms", "ratio", "of ceiling"), rows)
