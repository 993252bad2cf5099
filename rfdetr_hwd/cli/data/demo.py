"""`rfdetr-hwd data demo`: the built-in dataset."""

from rfdetr_hwd.cli.data.options import NewDirectory, Seed
from rfdetr_hwd.console import say
from rfdetr_hwd.errors import writing


def demo(out: NewDirectory, seed: Seed = 0) -> None:
    """Write the built-in dataset of coloured shapes."""
    from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes
    from rfdetr_hwd.files import check_new_directory

    spec = ShapesSpec(seed=seed)
    check_new_directory("--out", out)
    with writing("--out", out):
        write_shapes(out, spec)
    say(f"dataset: {out} ({spec.train} training, {spec.valid} validation, {spec.test} test images)")
