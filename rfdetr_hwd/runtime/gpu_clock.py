"""The clock of a GPU while something is measured, and whether it was throttled: as nvidia-smi says, where it is."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import torch

_QUERY = "clocks.sm,clocks.max.sm,temperature.gpu,clocks_throttle_reasons.active"
_EVERY_MS = 200
_IDLE, _APPLICATION = 0x1, 0x2
"""Reasons for a low clock that are no throttling: nothing to do, and a clock that was set."""


@dataclass
class GpuClock:
    """What was read; empty where there is no nvidia-smi.

    Attributes:
        readings: (clock in MHz, highest clock in MHz, temperature in degrees Celsius, bits of reasons) in order.
    """

    readings: list[tuple[int, int, int, int]] = field(default_factory=list)

    def describe(self) -> str:
        """Return the clock and the throttling in one line."""
        if not self.readings:
            return "clock and throttling: not read (no nvidia-smi)"
        clocks, highest, heat, reasons = zip(*self.readings, strict=True)
        throttled = sum(bool(bits & ~(_IDLE | _APPLICATION)) for bits in reasons) / len(reasons)
        return (
            f"clock: median {median(clocks):.0f} MHz, {min(clocks)} to {max(clocks)}, of at most {max(highest)}; up to "
            f"{max(heat)} °C; throttled in {throttled:.0%} of {len(clocks)} readings"
        )


@contextmanager
def reading_gpu_clock(device: torch.device) -> Iterator[GpuClock | None]:
    """Read the clock of a GPU several times a second during the block; `None`: the device is a CPU.

    Failures are no errors: nothing is read then.
    """
    if device.type != "cuda":
        yield None
        return
    found, uuid = GpuClock(), torch.cuda.get_device_properties(device).uuid
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits", f"-lms={_EVERY_MS}"]
    with tempfile.TemporaryFile("w+") as file:
        try:
            reader = subprocess.Popen([*command, f"--id=GPU-{uuid}"], stdout=file, stderr=subprocess.DEVNULL)
        except OSError:
            yield found
            return
        try:
            yield found
        finally:
            reader.kill()
            reader.wait()
            file.seek(0)
            found.readings += [reading for line in file if (reading := _parse(line)) is not None]


def _parse(line: str) -> tuple[int, int, int, int] | None:
    """Return the numbers of a line; `None`: the GPU does not tell one of them, or the line is cut off."""
    try:
        clock, highest, heat, reasons = line.split(",")
        return int(clock), int(highest), int(heat), int(reasons, 16)
    except ValueError:
        return None
