"""`rfdetr-hwd data demo`: the built-in dataset."""

from rfdetr_hwd.cli.data.options import NewDirectory, Seed
from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError, writing


def demo(out: NewDirectory, seed: Seed = 0) -> None:
    """Write the built-in dataset of coloured shapes."""
    from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes

    spec = ShapesSpec(seed=seed)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} already exists: choose a new directory")
    with writing("--out", out):
        write_shapes(out, spec)
    say(f"dataset: {out} ({spec.train} training, {spec.valid} validation, {spec.test} test images)")
