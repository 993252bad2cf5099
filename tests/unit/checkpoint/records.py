"""The record of a checkpoint, and checkpoints as earlier formats had them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rfdetr_hwd.checkpoint.read import manifest_sha256
from rfdetr_hwd.checkpoint.schema import DataIdentity, Record

_IDENTITY = DataIdentity(images=2, boxes=3, sha256="0")
RECORD = Record(
    config={"data": {}},
    class_names=("a", "b"),
    category_ids=(1, 2),
    training_data=_IDENTITY,
    validation_data=_IDENTITY,
)
"""Of a checkpoint whose model is not rebuilt."""

FORMER = {"metrics": "figures", "metrics_step": "figures_step", "step_in_epoch": "update_in_epoch"}


def sign_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a checkpoint, and enter its new hash. A link to another file is replaced, not followed."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    change(manifest)
    path.unlink()
    path.write_text(json.dumps({**manifest, "sha256": manifest_sha256(manifest)}))


def write_as_format(folder: Path, number: int) -> None:
    """Rewrite the manifest of a checkpoint in the words of format 5 or 4."""

    def rename(manifest: dict[str, Any]) -> None:
        state = {FORMER.get(name, name): value for name, value in manifest["state"].items()}
        figures = {name.replace("raw/", "plain/"): value for name, value in state["figures"].items()}
        if number == 4:
            figures = {name: -1.0 if value is None else value for name, value in figures.items()}
            state["best_ap"] = -1.0 if state["best_ap"] is None else state["best_ap"]
        state |= {"figures": figures, "best_weights": state["best_weights"].replace("raw", "plain")}
        manifest.update(format=number, state=state)

    sign_manifest(folder, rename)
