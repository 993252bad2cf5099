"""The dated JSON file of a benchmark."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfdetr_hwd.console import say
from rfdetr_hwd.errors import writing

if TYPE_CHECKING:
    import torch


def write_record(out: Path, kind: str, command: str, device: "torch.device", measured: Mapping[str, Any]) -> None:
    """Write what was measured, with date, machine, versions and command, as KIND-DATE-DEVICE.json.

    Args:
        out: The directory.
        kind: What was measured; `scripts/write_benchmarks_page.py` has a table for each kind.
        command: The command that measures it again.
        device: Where it was measured.
        measured: JSON values.

    Raises:
        ConfigError: The file cannot be written.
    """
    from datetime import UTC, datetime

    from rfdetr_hwd.runtime.environment import describe_environment, describe_machine

    date = f"{datetime.now(UTC):%Y-%m-%d}"
    path = out / f"{kind}-{date}-{device.type}.json"
    about = {"command": command, "date": date, "machine": describe_machine(device)}
    content = {**about, "environment": describe_environment(), **measured}
    with writing("--out", path):
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    say(f"written: {path}")
