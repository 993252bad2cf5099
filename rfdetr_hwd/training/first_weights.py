"""The weights that a new run starts from."""

from pathlib import Path

from rfdetr_hwd.checkpoint.record import find_checkpoint, read_record
from rfdetr_hwd.config.schema import Config, ModelSection
from rfdetr_hwd.console import print_table
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.model.pretrained import find_source
from rfdetr_hwd.model.source_weights import SourceWeights
from rfdetr_hwd.model.weights import load_weights
from rfdetr_hwd.runtime import distributed


def check_first_weights(model: ModelSection) -> None:
    """Refuse weights that are not there, before anything long is done.

    Raises:
        ConfigError: There is no such file or directory.
    """
    named = model.pretrain_weights
    if named is not None and named != "auto" and not Path(named).exists():
        raise ConfigError(f"model.pretrain_weights: there is no file or run directory {named}")


def load_first_weights(config: Config, model: BuiltModel) -> None:
    """Load the weights that `model.pretrain_weights` names into a model on the CPU. Report how each tensor was
    loaded."""
    source = _find_source(config)
    if source is None:
        return
    report = load_weights(model.stock, model.class_names, source, config.model.strict_weights)
    if distributed.is_main():
        print_table(f"weights from {source.origin}", ("tensors", "number", "how"), report.rows())


def _find_source(config: Config) -> SourceWeights | None:
    """Return the weights that `model.pretrain_weights` names: a run, a checkpoint, a file, or the published ones."""
    named = config.model.pretrain_weights
    if named is not None and named != "auto" and Path(named).is_dir():
        checkpoint = find_checkpoint(Path(named))
        _, class_names = read_record(checkpoint)
        kind = checkpoint.better_weights
        return SourceWeights(checkpoint.weights(kind), class_names, f"{checkpoint.path} ({kind})")
    source = find_source(config.model) if distributed.is_main() else None  # downloads, for the other ranks too
    distributed.barrier()
    return source if distributed.is_main() else find_source(config.model)
