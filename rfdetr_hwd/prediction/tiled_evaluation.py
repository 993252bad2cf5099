"""Evaluate detection in tiles with COCO metrics, on images of full size."""

import torch

from rfdetr_hwd.console import watch
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.batch import BadImage
from rfdetr_hwd.data.images import ImageError
from rfdetr_hwd.data.quarantine import refuse_too_many
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.prediction.tiles import Tiles


def measure_in_tiles(tiles: Tiles, evaluation: Evaluation, data: DetectionData) -> dict[str, float | None]:
    """Return COCO's metrics of detections in tiles, which the evaluation then holds. For a single process.

    The objects of an unreadable image count as missed.

    Args:
        tiles: Finds the objects of an image.
        evaluation: Of the same model and split, for its metric.
        data: The split.

    Raises:
        DatasetError: Too large a fraction of the images is unreadable.
        ImageError: An image is unreadable, with `data.on_bad_image=fail`.
    """
    metric = evaluation.metric
    metric.reset()
    for row in watch("evaluating", len(data), iter(range(len(data)))):
        image_id = int(data.image_ids[row])
        try:
            image = data.read(row)
        except ImageError as error:
            if evaluation.config.data.on_bad_image == "fail":
                raise
            evaluation.unreadable[image_id] = BadImage(image_id, str(data.path(row)), str(error))
            continue
        (found,) = tiles.predict([image], 0.0)
        columns = {"boxes": found.xyxy, "scores": found.confidence, "labels": found.class_id}
        metric.update((image_id,), [{name: torch.from_numpy(values) for name, values in columns.items()}])
    refuse_too_many(len(evaluation.unreadable), len(data), list(evaluation.unreadable.values()))
    return metric.measure()
