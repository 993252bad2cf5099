"""Find the weights that `model.pretrain_weights` names: the published ones, or a file."""

from pathlib import Path

from rfdetr_hwd.config.schema import ModelSection
from rfdetr_hwd.model.rfdetr import coco_class_names, published_weights
from rfdetr_hwd.model.source_weights import SourceWeights, WeightsError, read_pth


def find_source(model: ModelSection) -> SourceWeights | None:
    """Return the pretrained weights of a model; `None`: random weights. The published ones are downloaded.

    Raises:
        WeightsError: They are missing, could not be downloaded, or cannot be read.
    """
    if model.pretrain_weights is None:
        return None
    if model.pretrain_weights != "auto":
        path = Path(model.pretrain_weights)
        if not path.is_file():
            raise WeightsError(f"model.pretrain_weights: there is no file or run directory {path}")
        return read_pth(path)
    # Take the published weights, from the cache of `rfdetr` or from its server.
    published = published_weights(model.variant)
    try:
        path = published.fetch()
    except (OSError, ValueError) as error:
        reason = str(error).split("(Caused")[0].strip() or type(error).__name__
        raise WeightsError(
            f"the published weights of RF-DETR {model.variant} could not be downloaded: {reason}. Put "
            f"{published.path.name} from {published.url} at {published.path}, or start from "
            "random weights with model.pretrain_weights=null"
        ) from None
    # Their file names no classes: they are those of COCO.
    source = read_pth(path)
    return SourceWeights(source.state, coco_class_names(), f"{path} (published)")
