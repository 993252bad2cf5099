"""`rfdetr-hwd data`: work on datasets."""

from pathlib import Path

from rfdetr_hwd.commands.console import say
from rfdetr_hwd.config import ConfigError
from rfdetr_hwd.data.shapes import ShapesSpec, write_shapes


def run_demo(out: Path, seed: int) -> None:
    """Write the built-in dataset.

    Args:
        out: Folder of the dataset.
        seed: Seed of the drawing; 0 is the demo's.

    Raises:
        ConfigError: The folder cannot be written.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed} is negative")
    spec = ShapesSpec(seed=seed)
    try:
        write_shapes(out, spec)
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}") from None
    say(f"dataset: {out} ({spec.train} training, {spec.valid} validation, {spec.test} test images)")
