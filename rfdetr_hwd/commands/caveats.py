"""What `train` says of data that it trains on and that may still surprise."""

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.overlap import count_shared
from rfdetr_hwd.engine import distributed
from rfdetr_hwd.terminal import say


def say_caveats(train_data: DetectionData, val_data: DetectionData, num_queries: int) -> None:
    """Say which images hold more objects than the model can find, and how much of the validation split is training.

    Args:
        train_data: The training split.
        val_data: The validation split.
        num_queries: Object queries of the model.
    """
    if not distributed.is_main():
        return
    for data in (train_data, val_data):
        counts = data.objects_per_image()
        if (counts > num_queries).any():
            most = int(counts.max())
            images = f"{int((counts > num_queries).sum())} of {len(data)} images"
            say(
                f"{data.name}: {images} have more objects than the model's {num_queries} queries, up to {most}; it "
                f"cannot find them all. Set model.num_queries to at least {most}"
            )
    shared = count_shared(train_data, val_data)
    if shared:
        images = f"{'all' if shared == len(val_data) else f'{shared} of'} {len(val_data)} validation images"
        say(f"{val_data.name}: {images} are training images: AP says nothing of new ones")
