"""One seed is one run, whatever loads the images; and an epoch can be entered after each of its steps."""

import os
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training.data import build_train_loader, read_data
from rfdetr_hwd.training.setup import build_network
from rfdetr_hwd.training.trackers import read_metrics
from tests.integration.runs import differing


@pytest.mark.slow
def test_a_hundred_steps_are_the_same_bits(config_file: Path, tmp_path: Path) -> None:
    """Everything random is on: augmentation, scales, dropout, stochastic depth, the order."""
    runs = []
    for workers in (0, 2):
        run = tmp_path / f"workers-{workers}"
        options = [f"output.dir={run}", f"data.workers={workers}", "train.epochs=17", "evaluation.every=17"]
        train_command.run(config_file, None, [*options, "output.save_every=17"])
        runs.append(run)
    for run in runs[1:]:
        assert differing(run, runs[0], 102) == []
        assert read_metrics(run / "metrics.jsonl") == read_metrics(runs[0] / "metrics.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", range(1, 11))
def test_an_epoch_goes_on_after_each_update(tiny_config: Config, first: int, workers: int) -> None:
    """The same image ids with the same pixels, and each id once an epoch: twenty resumes of twenty."""
    batches = [list(epoch_of(tiny_config, 0, 0))[:first], list(epoch_of(tiny_config, workers, first))]
    whole = list(epoch_of(tiny_config, 0, 0))
    together = [batch for part in batches for batch in part]
    assert [batch.image_ids for batch in together] == [batch.image_ids for batch in whole]
    assert all(torch.equal(a.images, b.images) for a, b in zip(together, whole, strict=True))
    ids = [image_id for batch in together for image_id in batch.image_ids]
    assert len(ids) == len(set(ids)) == 24


def epoch_of(config: Config, workers: int, first: int):  # type: ignore[no-untyped-def]
    """Yield the batches of an epoch of twelve steps, as the train command's own loader serves them."""
    changed = config.model_copy(
        update={
            "data": config.data.model_copy(update={"workers": workers}),
            "train": config.train.model_copy(update={"batch_size": 2, "multi_scale": True}),
        }
    )
    data = read_data(changed).train
    model = build_network(changed, data)
    yield from build_train_loader(changed, model, data, Path(os.devnull), lambda: None).epoch(1, first)
